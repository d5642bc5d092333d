"""How far a run's figures may be believed: 95% intervals of latencies, shares and errors.

Requests that are near in time share queue and batch, so they are resampled in blocks of neighbours (circular block
bootstrap, Politis and Romano 1992). Shares of independent outcomes have Wilson's interval.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from planner.result import FloatArray, IntArray, Run

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
RESAMPLES = 400
MAX_CELLS = 4_000_000
"""Values resampled at once."""
Z95 = 1.959964
_QUANTILES = (50.0, 90.0, 95.0, 99.0)


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Requests that failed alike: how many, their share of all with its interval, and one message in full."""

    status: str
    kind: str
    count: int
    share: Interval
    example: str


def wilson(hits: int, count: int) -> Interval:
    """The share ``hits / count`` with Wilson's 95% interval; (0, 1) of nothing."""
    if not count:
        return Interval(math.nan, 0.0, 1.0)
    share, z2 = hits / count, Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def block_length(rows: int) -> int:
    """Neighbours that are drawn together: the cube root of the rows, but no less than a fiftieth of them."""
    return max(round(math.cbrt(rows)), rows // 50, 1)


def resamples(rows: int, seed: int = 0, count: int = RESAMPLES) -> Iterator[IntArray]:
    """Places of rows drawn anew, (some, rows) at a time, ``count`` in all."""
    generator = np.random.Generator(np.random.PCG64(seed))
    length = block_length(rows)
    blocks = -(-rows // length)
    at_once = max(1, min(count, MAX_CELLS // max(rows, 1)))
    offsets = np.arange(length)
    for start in range(0, count, at_once):
        some = min(at_once, count - start)
        first = generator.integers(0, rows, (some, blocks, 1))
        yield ((first + offsets) % rows).reshape(some, -1)[:, :rows]


def statistics(values: FloatArray) -> FloatArray:
    """``STATISTICS`` of each row of ``values`` (draws, rows), NaN left out, (draws, 5)."""
    gaps = bool(np.isnan(values).any())
    mean = np.nanmean(values, axis=1) if gaps else values.mean(axis=1)
    quantiles = (np.nanpercentile if gaps else np.percentile)(values, _QUANTILES, axis=1)
    return np.column_stack([mean, *quantiles])


def bootstrapped(values: FloatArray, seed: int = 0) -> FloatArray:
    """``STATISTICS`` of ``values``, in the order of time, over the resamples, (draws, 5)."""
    kept = values[~np.isnan(values)]
    return np.concatenate([statistics(kept[index]) for index in resamples(len(kept), seed)])


def latency_intervals(run: Run, seed: int = 0) -> dict[str, dict[str, Interval]]:
    """Each statistic of each latency of the measured part, with its interval; what no request has is left out."""
    found = {}
    for name, values in run.measured().latencies().items():
        kept = values[~np.isnan(values)]
        if len(kept) < 2:
            continue
        point = statistics(kept[np.newaxis])[0].tolist()
        low, high = np.percentile(bootstrapped(kept, seed), (2.5, 97.5), axis=0).tolist()
        found[name] = {stat: Interval(*figures) for stat, *figures in zip(STATISTICS, point, low, high, strict=True)}
    return found


def success(run: Run) -> Interval:
    """The share of requests that ended well."""
    status = run.measured().requests.status
    return wilson(int((status == "ok").sum()), len(status))


def goodput(run: Run, seed: int = 0) -> Interval | None:
    """The share of requests that met every promise, by blocks in time; None without a promise."""
    run = run.measured()
    if run.header.slo is None or not len(run.requests):
        return None
    good = run.good(run.header.slo).astype(np.float64)
    shares = np.concatenate([good[index].mean(axis=1) for index in resamples(len(good), seed)])
    low, high = np.percentile(shares, (2.5, 97.5)).tolist()
    exact = wilson(int(good.sum()), len(good))  # all good, or none: resampling would say that it is certain
    return Interval(exact.value, min(low, exact.low), max(high, exact.high))


def errors(run: Run) -> tuple[ErrorKind, ...]:
    """Requests that did not end well, by kind, most frequent first."""
    requests = run.measured().requests
    failed: Sequence[tuple[str, str]] = [
        (status, error or status)
        for status, error in zip(requests.status.tolist(), requests.error, strict=True)
        if status != "ok"
    ]
    counted = Counter((status, error.partition(":")[0]) for status, error in failed)
    examples = {(status, error.partition(":")[0]): error for status, error in reversed(failed)}
    return tuple(
        ErrorKind(*key, count, wilson(count, len(requests)), examples[key]) for key, count in counted.most_common()
    )
