"""Gaps between tokens as counts in buckets 0.1% wide: a million requests take no more room than a thousand."""

from bisect import bisect_left
from collections.abc import Callable
from math import exp, log

import numpy as np
import numpy.typing as npt

from planner.sim.pace import TICKS_PER_S

FloatArray = npt.NDArray[np.float64]

WIDTH = 1e-3
_LOG_WIDTH = log(1 + WIDTH)
_LOG_TICKS = log(TICKS_PER_S)


def bucket_of(ticks: int) -> int:
    """Bucket of a gap."""
    return round((log(ticks) - _LOG_TICKS) / _LOG_WIDTH)


class GapCounts:
    """How many tokens came after gaps of which length."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, ticks: int, tokens: int) -> None:
        """``tokens`` tokens came after a gap of ``ticks``."""
        bucket = round((log(ticks) - _LOG_TICKS) / _LOG_WIDTH)
        counts = self._counts
        if bucket in counts:
            counts[bucket] += tokens
        else:
            counts[bucket] = tokens

    def add_rising(self, step: Callable[[int], int], steps: int, tokens: int) -> None:
        """``tokens`` tokens after each of the gaps ``step(0) <= step(1) <= … <= step(steps - 1)``."""
        at = 0
        last = bucket_of(step(steps - 1))
        while at < steps:
            bucket = bucket_of(step(at))
            if bucket == last:
                beyond = steps
            else:
                beyond = bisect_left(range(steps), bucket + 1, at, steps, key=lambda index: bucket_of(step(index)))
            self._counts[bucket] = self._counts.get(bucket, 0) + tokens * (beyond - at)
            at = beyond

    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """(lengths in seconds, tokens), both (buckets,), lengths rising."""
        buckets = sorted(self._counts)
        lengths = np.array([exp(bucket * _LOG_WIDTH) for bucket in buckets])
        return lengths, np.array([float(self._counts[bucket]) for bucket in buckets])
