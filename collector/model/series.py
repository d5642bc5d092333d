"""Samples on their way through the collector, and the promise between PromQL and whatever stores them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from collector.model.labels import Labels
from collector.model.matchers import Matcher

Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

STALE_BITS = 0x7FF0000000000002
"""Bit pattern of Prometheus's stale marker (model/value/value.go, ``StaleNaN``)."""

STALE_NAN: float = np.array([STALE_BITS], dtype=np.uint64).view(np.float64)[0]


def is_stale(values: Float64Array) -> BoolArray:
    """Where ``values`` hold the stale marker; an ordinary NaN is a sample like any other."""
    bits: npt.NDArray[np.uint64] = np.ascontiguousarray(values).view(np.uint64)
    return np.equal(bits, np.uint64(STALE_BITS))


@dataclass(frozen=True, slots=True)
class SeriesGroup:
    """Series that share one timestamp vector, such as all series of one scraped target.

    ``labels``         (series,)
    ``timestamps_ms``  (steps,) int64, strictly increasing, Unix milliseconds
    ``values``         (steps, series) float64; the stale marker stands both for "vanished at this scrape" and for
                       "was not there at this scrape": an instant selector that finds it sees no series, and range
                       functions leave it out.
    """

    labels: tuple[Labels, ...]
    timestamps_ms: Int64Array
    values: Float64Array


class Querier(Protocol):
    """What PromQL asks of a store."""

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[SeriesGroup]:
        """Series that satisfy every matcher, with their samples of ``start_ms <= t <= end_ms``.

        A label set appears in exactly one group of the answer. Groups may be empty of samples.
        """
        ...


class PiecewiseQuerier(Querier, Protocol):
    """A store that also reads a long range piece by piece, so that it is never in memory as a whole."""

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Iterator[SeriesGroup]:
        """What ``select`` answers, in smaller groups, each read when it is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: ``timestamps_ms`` (points,) int64 and ``values`` (points,) float64."""

    labels: Labels
    timestamps_ms: Int64Array
    values: Float64Array


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one series at one moment; Unix milliseconds."""

    labels: Labels
    timestamp_ms: int
    value: float
