"""Whether two runs differ by more than chance: intervals of the difference of their latencies, by block bootstrap.

Requests that follow each other share a queue, so blocks of successive requests are drawn, not single ones. Runs of one
trace are drawn together, request beside request, which takes the trace's own spread out of the difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.result import FloatArray, Run

METRICS = ("ttft_due_s", "tpot_s", "e2e_due_s")
QUANTILES = (0.5, 0.95)
CONFIDENCE = 0.95
DRAWS = 600
MOST_DRAWN = 12_000_000
LEAST_DRAWS = 200
BLOCK = 25
LEAST = 50
_STREAM = 0x51C


@dataclass(frozen=True, slots=True)
class Difference:
    """One quantile of one latency in both runs, seconds, and the 95% interval of ``b - a``.

    ``n`` is the number of requests that ended well in both (paired), or in the shorter run. ``differs`` is None where
    there are fewer than 50: nothing can be said.
    """

    metric: str
    quantile: float
    n: int
    a_s: float
    b_s: float
    low_s: float | None
    high_s: float | None

    @property
    def difference_s(self) -> float:
        """``b - a``."""
        return self.b_s - self.a_s

    @property
    def differs(self) -> bool | None:
        """Whether the interval leaves out zero."""
        return None if self.low_s is None or self.high_s is None else not self.low_s <= 0 <= self.high_s


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs: whether they were compared request by request, and their latencies."""

    paired: bool
    differences: tuple[Difference, ...]


def differences(a: Run, b: Run, *, seed: int = 0) -> Compared:
    """Hold ``b`` against ``a``. Same runs and seed: same answer."""
    found_a, found_b = a.latencies(), b.latencies()
    rows = _joined(a, b) if a.header.trace_sha256 == b.header.trace_sha256 else None
    told: list[Difference] = []
    for metric in METRICS:
        left, right = found_a[metric], found_b[metric]
        if rows is not None:
            left, right = left[rows[0]], right[rows[1]]
            both = ~np.isnan(left) & ~np.isnan(right)
            left, right = left[both], right[both]
        else:
            left, right = left[~np.isnan(left)], right[~np.isnan(right)]
        if len(left) and len(right):
            told += _differences(metric, left, right, seed, paired=rows is not None)
    return Compared(rows is not None, tuple(told))


def _joined(a: Run, b: Run) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]] | None:
    common, at_a, at_b = np.intersect1d(a.requests.row_id, b.requests.row_id, return_indices=True)
    return (at_a, at_b) if len(common) else None


def _differences(metric: str, a: FloatArray, b: FloatArray, seed: int, *, paired: bool) -> Iterator[Difference]:
    n = min(len(a), len(b))
    here = [np.quantile(one, QUANTILES) for one in (a, b)]
    drawn = _drawn(a, b, seed, paired=paired) if n >= LEAST else None
    for index, quantile in enumerate(QUANTILES):
        low = high = None
        if drawn is not None:
            tails = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
            low, high = (float(value) for value in np.quantile(drawn[:, index], tails))
        yield Difference(metric, quantile, n, float(here[0][index]), float(here[1][index]), low, high)


def _drawn(a: FloatArray, b: FloatArray, seed: int, *, paired: bool) -> FloatArray:
    """(draws, quantiles) of ``b - a`` over blocks drawn again and again."""
    generator = np.random.default_rng([seed, _STREAM])
    draws = int(np.clip(MOST_DRAWN // max(len(a), len(b)), LEAST_DRAWS, DRAWS))
    found = np.empty((draws, len(QUANTILES)))
    for draw in range(draws):
        at = _blocks(len(a), generator)
        beside = at if paired else _blocks(len(b), generator)
        found[draw] = np.quantile(b[beside], QUANTILES) - np.quantile(a[at], QUANTILES)
    return found


def _blocks(n: int, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rows of as many blocks as make ``n``, each beginning anywhere; the end goes on at the beginning."""
    size = max(1, min(BLOCK, n // 10))
    starts = generator.integers(0, n, -(-n // size))
    rows: npt.NDArray[np.int64] = ((starts[:, None] + np.arange(size)[None, :]) % n).ravel()[:n]
    return rows
