"""Functions of how fast a series moves: rate, increase, delta, irate, idelta, resets, changes.

Source: prometheus/promql/functions.go, ``extrapolatedRate`` and ``instantValue``, 3.x and 2.42.
"""

from dataclasses import dataclass

import numpy as np

from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql.segments import reduce_runs
from collector.promql.windows import Block, Windows

_FEW_RESETS = 200
"""The resets of up to so many samples are added one sample after the other; more are summed window by window."""

_CACHED_NUMBERS = 16_384
"""Numbers that are worked on at a time, so that they stay in the processor's cache."""


def extrapolated(
    block: Block, windows: Windows, *, counter: bool, per_second: bool, classic: bool
) -> tuple[Float64Array, BoolArray]:
    """Rise within each window, extrapolated to its ends; ``classic`` is Prometheus 2.x's order of the two cut-offs."""
    present = block.counts >= 2
    result = np.zeros((len(block.labels), len(windows.ends_ms))).T
    steps = slice(None) if present.all() else present.nonzero()[0]
    first, last = block.first[steps], block.last[steps] - 1
    if not len(first):
        return result, present
    edges = _edges(block, windows, steps, classic)
    lost = _Resets(block, first, last) if counter else None
    per_s = 1000.0 / windows.range_ms if per_second else 1.0
    rows = max(1, _CACHED_NUMBERS // max(1, len(block.labels)))
    for begin in range(0, len(first), rows):
        part = slice(begin, begin + rows)
        start_values = block.values.take(first[part], axis=0)
        rise = block.values.take(last[part], axis=0)
        rise -= start_values
        if lost is not None:
            lost.add_to(rise, part)
        factor = edges.factor[part, None] * per_s
        scaled = rise * factor
        if counter:
            _stop_at_zero(scaled, rise, start_values, edges, part, per_s)
        result[part if isinstance(steps, slice) else steps[part]] = scaled
    return result, present


@dataclass(frozen=True, slots=True)
class _Edges:
    """What is the same for all series of a block, for every window: (windows,).

    ``sampled_s``     between the first and the last sample
    ``to_end_s``      how far the rise is carried beyond the last sample
    ``reach_s``       how far back it is carried unless the counter was 0 on the way
    ``threshold_s``   beyond this, half of the distance between two samples, ``half_s``, is used instead
    ``factor``        by how much the rise grows
    """

    sampled_s: Float64Array
    to_end_s: Float64Array
    reach_s: Float64Array
    threshold_s: Float64Array
    half_s: Float64Array
    factor: Float64Array


def _edges(block: Block, windows: Windows, steps: Int64Array | slice, classic: bool) -> _Edges:
    first, last = block.first[steps], block.last[steps] - 1
    first_ms, last_ms = block.times_ms.take(first), block.times_ms.take(last)
    sampled_s = (last_ms - first_ms) / 1000
    to_start_s = (first_ms - windows.starts_ms[steps]) / 1000
    to_end_s = (windows.ends_ms[steps] - last_ms) / 1000
    between_s = sampled_s / (last - first)
    threshold_s, half_s = between_s * 1.1, between_s / 2
    to_end_s = np.where(to_end_s >= threshold_s, half_s, to_end_s)
    cut_s = np.where(to_start_s >= threshold_s, half_s, to_start_s)
    reach_s = to_start_s if classic else cut_s
    return _Edges(sampled_s, to_end_s, reach_s, threshold_s, half_s, (sampled_s + cut_s + to_end_s) / sampled_s)


def _stop_at_zero(
    scaled: Float64Array, rise: Float64Array, start_values: Float64Array, edges: _Edges, part: slice, per_s: float
) -> None:
    """Where a counter would have been 0 before the window began, follow it no further back. Writes to ``scaled``."""
    share = (edges.reach_s[part] / edges.sampled_s[part])[:, None]
    near_zero = (rise * share > start_values) & (start_values >= 0)
    if not near_zero.any():
        return
    rows, columns = np.nonzero(near_zero)
    sampled_s, to_end_s = edges.sampled_s[part][rows], edges.to_end_s[part][rows]
    to_zero_s = sampled_s * (start_values[rows, columns] / rise[rows, columns])
    back_s = np.where(to_zero_s < edges.threshold_s[part][rows], to_zero_s, edges.half_s[part][rows])
    scaled[rows, columns] = rise[rows, columns] * ((sampled_s + back_s + to_end_s) / sampled_s * per_s)


class _Resets:
    """The counter resets of a block, and the windows, from ``first`` to ``last`` sample, that hold them."""

    def __init__(self, block: Block, first: Int64Array, last: Int64Array) -> None:
        before = block.values[:-1]
        fell = block.values[1:] < before
        falls = fell.ravel().nonzero()[0]  # of one dimension: of two it takes ten times as long
        self._before, self._fell, self._rows = before, fell, falls
        self._sums: Float64Array | None = None
        if not len(falls):
            return
        self._rows = rows = np.unique(falls // fell.shape[1])
        if len(rows) > _FEW_RESETS:
            sums = reduce_runs(np.add, np.where(fell, before, 0.0), first, last)
            self._sums = np.where((last > first)[:, None], sums, 0.0)
        self._since = np.searchsorted(last, rows + 1, side="left")
        self._until = np.searchsorted(first, rows, side="right")

    def add_to(self, rise: Float64Array, part: slice) -> None:
        """Add what was lost in resets to the rise in some of the windows."""
        if self._sums is not None:
            rise += self._sums[part]
            return
        if not len(self._rows):
            return
        for event in np.flatnonzero((self._since < part.start + len(rise)) & (self._until > part.start)):
            row = self._rows[event]
            columns = np.flatnonzero(self._fell[row])
            windows = slice(max(self._since[event] - part.start, 0), max(self._until[event] - part.start, 0))
            rise[windows, columns] += self._before[row, columns]


def lost_in_resets(block: Block, first: Int64Array, last: Int64Array) -> Float64Array:
    """Sum of the values before each counter reset between samples ``first`` and ``last`` of every window."""
    lost = np.zeros((len(first), len(block.labels)))
    _Resets(block, first, last).add_to(lost, slice(0, len(first)))
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
