"""Two runs of the same trace side by side: a measured one and its twin, or before and after."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.errors import RunError
from planner.result import PERCENTILES, Distribution, FloatArray, Run

METRICS = ("ttft_sent_s", "ttft_due_s", "itl_s", "tpot_s", "e2e_sent_s", "e2e_due_s")


@dataclass(frozen=True, slots=True)
class MetricError:
    """One latency of both runs over the joined requests, seconds; ``error`` is (b - a) / a per statistic.

    ``row_error_median`` is the median over requests of |b - a| / a; None for pooled gaps.
    """

    a: Distribution
    b: Distribution
    error: Mapping[str, float]
    row_error_median: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs joined row by row: how many rows join, what only one has, and the error of ``b`` against ``a``."""

    joined: int
    only_a: int
    only_b: int
    same_trace: bool
    metrics: Mapping[str, MetricError]


def compare(a: Run, b: Run) -> Comparison:
    """Join two runs by row id and give ``b``'s error against ``a`` per percentile.

    Percentiles are taken over the rows that ended well in both. Raises RunError when no row is in both.
    """
    a, b = a.measured(), b.measured()
    common, at_a, at_b = np.intersect1d(a.requests.row_id, b.requests.row_id, return_indices=True)
    if not len(common):
        raise RunError("the two runs have no request in common: they did not play the same trace")
    both = (a.requests.status[at_a] == "ok") & (b.requests.status[at_b] == "ok")
    found_a, found_b = a.latencies(), b.latencies()
    metrics: dict[str, MetricError] = {}
    for name in METRICS:
        if name == "itl_s":
            metrics[name] = _metric(found_a[name], found_b[name], joined=False)
        else:
            metrics[name] = _metric(found_a[name][at_a][both], found_b[name][at_b][both], joined=True)
    return Comparison(
        joined=int(both.sum()),
        only_a=len(a.requests) - len(common),
        only_b=len(b.requests) - len(common),
        same_trace=a.header.trace_sha256 == b.header.trace_sha256,
        metrics=metrics,
    )


def _metric(a: FloatArray, b: FloatArray, *, joined: bool) -> MetricError:
    left, right = Distribution.of(a), Distribution.of(b)
    error: dict[str, float] = {}
    for name in ("mean", *(f"p{p:.0f}" for p in PERCENTILES)):
        x, y = getattr(left, name), getattr(right, name)
        if x is not None and y is not None and x > 0:
            error[name] = (y - x) / x
    median = None
    if joined:
        usable = ~np.isnan(a) & ~np.isnan(b) & (a > 0)
        if usable.any():
            median = float(np.median(np.abs(b[usable] - a[usable]) / a[usable]))
    return MetricError(left, right, error, median)
