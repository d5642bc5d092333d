"""Reductions over runs of rows: the windows of a range function, the groups of an aggregation.

Run ``i`` of a matrix is the rows ``first[i] <= row < last[i]``; a result has one row per run. Results of empty runs are
arbitrary. Prefix sums are not used: they lose digits, and one NaN poisons every later run.
"""

import numpy as np

from collector.model.series import BoolArray, Float64Array, Int64Array

Numbers = Float64Array | Int64Array

_OVERLAP = 3
"""How many runs each row is in, on average, before rows are reduced in pieces that the runs share."""

_WIDE, _LONG = 64, 8
"""Columns, and rows of a run on average, from which on a call for each run is worth it."""

_FOLDED, _SIDE_BY_SIDE = 1024, 32
"""Rows of a run from which on it is folded, and how many of its rows are laid side by side."""

_EPSILON = float(np.finfo(np.float64).eps)
_TOLERATED_ERROR = 1e-12
"""Bound on the relative rounding error of a plain sum beyond which it is done again with compensation."""


def reduce_runs(operation: np.ufunc, values: Numbers, first: Int64Array, last: Int64Array) -> Float64Array:
    """``operation``, whose order does not matter, over each run, column by column: (runs, columns).

    Where runs overlap much, as windows longer than the step do, the rows between any two neighbouring ends of runs are
    reduced once, and the runs are put together from these.
    """
    rows = len(values)
    if not rows or not len(first):
        return np.zeros((len(first), *values.shape[1:]))
    work = int((last - first).sum())
    if work > _OVERLAP * rows:
        edges = np.unique(np.concatenate([first, last[last > first]]))
        begins, ends = np.searchsorted(edges, first), np.searchsorted(edges, last)
        if rows + int((ends - begins).sum()) < work / 2:
            pieces = operation.reduceat(values[: edges[-1]], edges[:-1], axis=0)
            return reduce_runs(operation, pieces, begins, np.maximum(ends, begins))
    if work >= _LONG * len(first) and (values[0].size >= _WIDE or work >= _FOLDED * len(first)):
        return _reduce_each(operation, values, first, last)
    if int(last[:-1].max(initial=0)) >= rows:
        values = np.concatenate([values, values[-1:]])
    bounds = np.empty(2 * len(first), dtype=np.int64)
    bounds[0::2] = np.minimum(first, rows - 1)  # empty runs may begin where the rows end
    bounds[1::2] = last
    if bounds[-1] == len(values):  # the last run ends where the rows do
        bounds = bounds[:-1]
    result: Float64Array = operation.reduceat(values, bounds, axis=0)[::2]
    return result


def _reduce_each(operation: np.ufunc, values: Numbers, first: Int64Array, last: Int64Array) -> Float64Array:
    """Run by run, which vectorises over the columns, where ``reduceat`` goes number by number."""
    result = np.zeros((len(first), *values.shape[1:]), dtype=values.dtype)
    columns = values[0].size
    for run, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
        rows = values[begin:end]
        if columns < _WIDE and end - begin >= _FOLDED:  # narrow rows are laid side by side first
            whole = len(rows) // _SIDE_BY_SIDE * _SIDE_BY_SIDE
            wide = operation.reduce(rows[:whole].reshape(-1, _SIDE_BY_SIDE * columns), axis=0)
            rows = np.concatenate([wide.reshape(_SIDE_BY_SIDE, *rows.shape[1:]), rows[whole:]])
        if begin < end:
            operation.reduce(rows, axis=0, out=result[run])
    return result


def sum_runs(values: Float64Array, first: Int64Array, last: Int64Array) -> Float64Array:
    """Sum of each run, with Neumaier's compensation where a plain sum may have lost digits."""
    total = reduce_runs(np.add, values, first, last)
    if not (values < 0).any():
        return total
    unsure = _unsure(values, first, last, total)
    if unsure.any():
        total = total.copy()
        total[unsure] = _compensated(values, first, last, unsure)
    return total


def mean_runs(values: Float64Array, first: Int64Array, last: Int64Array, counts: Numbers) -> Float64Array:
    """Mean of each run; ``counts`` broadcasts to (runs, columns). A sum that overflows is divided first."""
    total = sum_runs(values, first, last)
    mean: Float64Array = total / counts
    overflow = np.isinf(total)
    if overflow.any():
        finite = reduce_runs(np.maximum, np.abs(values), first, last) < np.inf
        for run, column in zip(*np.nonzero(overflow & finite), strict=True):
            count = np.broadcast_to(counts, mean.shape)[run, column]
            mean[run, column] = (values[first[run] : last[run], column] / count).sum()
    return mean


def _unsure(values: Float64Array, first: Int64Array, last: Int64Array, total: Float64Array) -> BoolArray:
    magnitude = reduce_runs(np.add, np.abs(values), first, last)
    lengths = (last - first)[:, None]
    doubtful: BoolArray = (magnitude * lengths * _EPSILON > _TOLERATED_ERROR * np.abs(total)) & np.isfinite(magnitude)
    return doubtful & (lengths > 0)


def _compensated(values: Float64Array, first: Int64Array, last: Int64Array, cells: BoolArray) -> Float64Array:
    """Neumaier sums of the (run, column) cells that are set, all of them side by side."""
    runs, columns = np.nonzero(cells)
    total = np.zeros(len(runs))
    lost = np.zeros(len(runs))
    lengths = (last - first)[runs]
    for position in range(int(lengths.max())):
        alive = np.flatnonzero(lengths > position)
        term = values[first[runs[alive]] + position, columns[alive]]
        before = total[alive]
        after = before + term
        bigger_first = np.abs(before) >= np.abs(term)
        error = np.where(bigger_first, (before - after) + term, (term - after) + before)
        lost[alive] = np.where(np.isinf(after), 0.0, lost[alive] + error)
        total[alive] = after
    return total + lost
