"""Gaps between tokens as counts in buckets 0.1% wide: a million requests take no more room than a thousand."""

from math import ceil, exp, log

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

    def add_rising(self, first: int, rise: int, steps: int, tokens: int) -> None:
        """``tokens`` tokens after each of ``steps`` gaps, of which the first is ``first`` and each ``rise`` longer."""
        at, counts = 0, self._counts
        bucket, last = bucket_of(first), bucket_of(first + rise * (steps - 1))
        while bucket != last:
            # where the next bucket begins: calculated, then moved to the very gap that rounding puts there
            edge = (exp((bucket + 0.5) * _LOG_WIDTH) * TICKS_PER_S - first) / rise
            beyond = min(max(ceil(edge), at + 1), steps - 1)
            while beyond < steps - 1 and bucket_of(first + rise * beyond) == bucket:
                beyond += 1
            while beyond > at + 1 and bucket_of(first + rise * (beyond - 1)) != bucket:
                beyond -= 1
            counts[bucket] = counts.get(bucket, 0) + tokens * (beyond - at)
            at, bucket = beyond, bucket_of(first + rise * beyond)
        counts[bucket] = counts.get(bucket, 0) + tokens * (steps - at)

    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """(lengths in seconds, tokens), both (buckets,), lengths rising."""
        buckets = sorted(self._counts)
        lengths = np.array([exp(bucket * _LOG_WIDTH) for bucket in buckets])
        return lengths, np.array([float(self._counts[bucket]) for bucket in buckets])
