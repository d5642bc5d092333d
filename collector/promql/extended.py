"""``anchored`` and ``smoothed`` ranges: what a series was at the very ends of a window, instead of extrapolation.

``anchored`` takes the last sample at or before the window's start, within the lookback, for the value there, and the
window's last sample for the value at its end. ``smoothed`` interpolates at both ends, with samples up to a lookback
beyond them. Source: prometheus/promql/functions.go, ``extendedRate``, ``interpolate``; promql/engine.go,
``extendFloats``.
"""

from dataclasses import dataclass

import numpy as np

from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql.rates import lost_in_resets
from collector.promql.windows import Block, Windows


@dataclass(frozen=True, slots=True)
class Edges:
    """Values at both ends of the windows that have any, ``steps``, and the samples strictly between them.

    ``left, right``  (windows, series)   ``first, last``  (windows,) samples, none where ``last < first``
    """

    steps: Int64Array
    left: Float64Array
    right: Float64Array
    first: Int64Array
    last: Int64Array


def edges(block: Block, windows: Windows, *, counter: bool) -> Edges:
    """The ends of every window; with ``counter``, a fall between two samples is a restart from 0."""
    times, values = block.times_ms, block.values
    smoothed = windows.extension == "smoothed"
    starts, ends = windows.starts_ms, windows.ends_ms
    first = np.maximum(block.first, np.searchsorted(times, starts, side="right") - 1)
    last = block.last - 1
    if smoothed:
        last = np.minimum(last, np.searchsorted(times, ends, side="left"))
    top = len(times) - 1
    there = (block.last > block.first) & (times[np.clip(last, 0, top)] > starts)
    steps = np.flatnonzero(there & (times[np.clip(first, 0, top)] <= ends))
    first, last, starts, ends = first[steps], last[steps], starts[steps], ends[steps]
    left, right = values[first], values[last]
    if smoothed:
        at_left, at_right = times[first] < starts, (times[last] > ends) & (last > block.first[steps])
        left = np.where(at_left[:, None], _between(block, first, starts, counter, left_edge=True), left)
        right = np.where(at_right[:, None], _between(block, last - 1, ends, counter, left_edge=False), right)
    return Edges(steps, left, right, first + (times[first] <= starts), last - (times[last] >= ends))


def _between(block: Block, before: Int64Array, moments: Int64Array, counter: bool, *, left_edge: bool) -> Float64Array:
    """Values at ``moments`` on the lines between the samples ``before`` and those that follow them."""
    before = np.maximum(before, 0)
    after = np.minimum(before + 1, len(block.times_ms) - 1)
    low, high = block.values[before], block.values[after]
    if counter:
        fell = high < low
        low, high = (np.where(fell, 0.0, low), high) if left_edge else (low, np.where(fell, high + low, high))
    share = (moments - block.times_ms[before]) / (block.times_ms[after] - block.times_ms[before])
    line: Float64Array = low + (high - low) * share[:, None]
    return line


def rise(block: Block, windows: Windows, *, counter: bool, per_second: bool) -> tuple[Float64Array, BoolArray]:
    """``rate``, ``increase`` and ``delta``."""
    result, present = _nothing(block)
    ends = edges(block, windows, counter=counter)
    change = ends.right - ends.left
    if counter:
        inside = ends.last >= ends.first
        first, last = np.where(inside, ends.first, 0), np.where(inside, ends.last, 0)
        opening, closing = block.values[first], block.values[last]
        corrections = np.where(opening < ends.left, ends.left, 0.0) + np.where(ends.right < closing, closing, 0.0)
        corrections += lost_in_resets(block, first, last)
        empty = np.where(ends.right < ends.left, ends.left, 0.0)
        change = change + np.where(inside[:, None], corrections, empty)
    result[ends.steps] = change / (windows.range_ms / 1000) if per_second else change
    present[ends.steps] = True
    return result, present


def count(block: Block, windows: Windows, *, falls: bool) -> tuple[Float64Array, BoolArray]:
    """``changes`` or, with ``falls``, ``resets``, over the ends and the samples between them."""
    result, present = _nothing(block)
    ends = edges(block, windows, counter=False)
    for number, step in enumerate(ends.steps):
        inside = block.values[ends.first[number] : ends.last[number] + 1]
        samples = np.concatenate([ends.left[number : number + 1], inside, ends.right[number : number + 1]])
        before, after = samples[:-1], samples[1:]
        both_nan = np.isnan(before) & np.isnan(after)
        result[step] = ((after < before) if falls else ((before != after) & ~both_nan)).sum(axis=0)
        present[step] = True
    return result, present


def interpolated(block: Block, windows: Windows) -> tuple[Float64Array, BoolArray]:
    """The value at the end of every window: on the line between the samples around it, or the last one before it."""
    times, moments = block.times_ms, windows.ends_ms
    before = np.searchsorted(times, moments, side="right") - 1
    present = (before >= block.first) & (block.last > block.first)
    held = block.values[np.maximum(before, 0)]
    follows = (before + 1 < block.last) & (times[np.maximum(before, 0)] < moments)
    line = _between(block, np.clip(before, 0, max(len(times) - 2, 0)), moments, False, left_edge=True)
    return np.where(follows[:, None], line, held), present


def samples(block: Block, windows: Windows, column: int) -> tuple[Int64Array, Float64Array]:
    """One series of the first window: the value at its start, the samples inside it, the value at its end."""
    ends = edges(block, windows, counter=False)
    if not len(ends.steps):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    inside = slice(int(ends.first[0]), int(ends.last[0]) + 1)
    times = np.concatenate([windows.starts_ms[:1], block.times_ms[inside], windows.ends_ms[:1]])
    values = (ends.left[0, column, None], block.values[inside, column], ends.right[0, column, None])
    return times, np.concatenate(values)


def _nothing(block: Block) -> tuple[Float64Array, BoolArray]:
    steps = len(block.first)
    return np.zeros((steps, len(block.labels))), np.zeros(steps, dtype=np.bool_)
