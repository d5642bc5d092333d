"""Writes rules' results back to the source, and says once where the source does not take them."""

import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from collector.model.errors import SourceError
from collector.model.labels import Labels
from collector.model.series import STALE_NAN, Sample, Series

RETRY_REFUSED_S = 300.0
"""How long to leave a source alone that refused to be written to."""

_log = logging.getLogger(__name__)

Write = Callable[[Iterable[Series]], None]


class Writeback:
    """Sends samples by ``write`` (``Client.write``); failures are counted and never stop an evaluation."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._troubled = False
        self._silent_until_s = float("-inf")
        self.failures = 0

    def send(self, samples: Sequence[Sample], now_s: float) -> bool:
        """Write ``samples``; False where the source did not take them."""
        if not samples:
            return True
        if now_s < self._silent_until_s:
            return False
        try:
            self._write([_series(sample) for sample in samples])
        except SourceError as error:
            self._failed(error, now_s)
            return False
        if self._troubled:
            _log.info("results of rules are written to the source again")
        self._troubled = False
        return True

    def _failed(self, error: SourceError, now_s: float) -> None:
        self.failures += 1
        if error.kind not in ("unreachable", "timeout"):
            self._silent_until_s = now_s + RETRY_REFUSED_S
        if not self._troubled:
            _log.warning("results of rules (ALERTS, recording rules) are not kept: %s", error)
        self._troubled = True


def stale(labels: Iterable[Labels], now_s: float) -> list[Sample]:
    """Stale markers: these series end at ``now_s``."""
    return [Sample(each, round(now_s * 1000), STALE_NAN) for each in labels]


def _series(sample: Sample) -> Series:
    return Series(sample.labels, np.array([sample.timestamp_ms], dtype=np.int64), np.array([sample.value]))
