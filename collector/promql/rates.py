"""Functions of how fast a series moves: rate, increase, delta, irate, idelta, resets, changes.

Source: prometheus/promql/functions.go, ``extrapolatedRate`` and ``instantValue``, 3.x and 2.42.
"""

import numpy as np

from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql.segments import reduce_runs
from collector.promql.windows import Block, Windows

_FEW_RESETS = 2000
"""Up to so many counter resets are added one by one; more are summed window by window."""


def extrapolated(
    block: Block, windows: Windows, *, counter: bool, per_second: bool, classic: bool
) -> tuple[Float64Array, BoolArray]:
    """Rise within each window, extrapolated to its ends; ``classic`` is Prometheus 2.x's order of the two cut-offs."""
    present = block.counts >= 2
    steps = np.flatnonzero(present)
    result = np.zeros((len(windows.ends_ms), len(block.labels)))
    if not len(steps):
        return result, present
    first, last = block.first[steps], block.last[steps] - 1
    start_values = block.values[first]
    rise = block.values[last] - start_values
    if counter:
        rise += lost_in_resets(block, first, last)
    sampled_s = ((block.times_ms[last] - block.times_ms[first]) / 1000)[:, None]
    to_start_s = ((block.times_ms[first] - windows.starts_ms[steps]) / 1000)[:, None]
    to_end_s = ((windows.ends_ms[steps] - block.times_ms[last]) / 1000)[:, None]
    between_s = sampled_s / (last - first)[:, None]
    threshold_s = between_s * 1.1
    if not classic:
        to_start_s = np.where(to_start_s >= threshold_s, between_s / 2, to_start_s)
    if counter:
        to_zero_s = sampled_s * (start_values / rise)
        limited = (rise > 0) & (start_values >= 0) & (to_zero_s < to_start_s)
        to_start_s = np.where(limited, to_zero_s, to_start_s)
    if classic:
        to_start_s = np.where(to_start_s < threshold_s, to_start_s, between_s / 2)
    to_end_s = np.where(to_end_s >= threshold_s, between_s / 2, to_end_s)
    factor = (sampled_s + to_start_s + to_end_s) / sampled_s
    if per_second:
        factor = factor / (windows.range_ms / 1000)
    result[steps] = rise * factor
    return result, present


def lost_in_resets(block: Block, first: Int64Array, last: Int64Array) -> Float64Array:
    """Sum of the values before each counter reset between samples ``first`` and ``last`` of every window."""
    before, after = block.values[:-1], block.values[1:]
    fell = after < before
    rows, columns = np.nonzero(fell)
    lost = np.zeros((len(first), len(block.labels)))
    if len(rows) > _FEW_RESETS:
        sums = reduce_runs(np.add, np.where(fell, before, 0.0), first, last)
        return np.where((last > first)[:, None], sums, lost)
    since = np.searchsorted(last, rows + 1, side="left")
    until = np.searchsorted(first, rows, side="right")
    for row, column, begin, end in zip(rows, columns, since, until, strict=True):
        lost[begin:end, column] += before[row, column]
    return lost


def instant_change(block: Block, *, per_second: bool) -> tuple[Float64Array, BoolArray]:
    """Difference of the last two samples of each window; ``per_second`` counts a fall as a counter reset."""
    present = block.counts >= 2
    result = np.zeros((len(block.first), len(block.labels)))
    steps = np.flatnonzero(present)
    last = block.last[steps] - 1
    now, before = block.values[last], block.values[last - 1]
    change = now - before
    if per_second:
        seconds = ((block.times_ms[last] - block.times_ms[last - 1]) / 1000)[:, None]
        change = np.where(now < before, now, change) / seconds
    result[steps] = change
    return result, present


def resets(block: Block) -> tuple[Float64Array, BoolArray]:
    """How often the value fell within each window."""
    return _count_between(block, block.values[1:] < block.values[:-1]), block.counts > 0


def changes(block: Block) -> tuple[Float64Array, BoolArray]:
    """How often the value changed within each window; NaN equals NaN."""
    before, after = block.values[:-1], block.values[1:]
    changed = (before != after) & ~(np.isnan(before) & np.isnan(after))
    return _count_between(block, changed), block.counts > 0


def _count_between(block: Block, events: BoolArray) -> Float64Array:
    """Events between neighbouring samples, counted per window; integers, so that prefix sums are exact."""
    running = np.zeros((len(block.values) + 1, len(block.labels)), dtype=np.int64)
    np.cumsum(events, axis=0, out=running[1 : len(events) + 1])
    running[len(events) + 1 :] = running[len(events)]
    last = np.maximum(block.last - 1, block.first)
    counts: Float64Array = (running[last] - running[block.first]).astype(np.float64)
    return counts
