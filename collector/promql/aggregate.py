"""Aggregations that make one series of each group: sum, avg, min, max, count, group, stddev, stdvar, quantile, ..."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.labels import Labels, LabelSets, derived, from_mapping
from collector.model.series import BoolArray, Float64Array, Int64Array
from collector.promql.frame import METADATA_LABELS, Frame, empty
from collector.promql.printer import format_number
from collector.promql.quantiles import quantile_of_rows
from collector.promql.segments import mean_runs, reduce_runs, sum_runs


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows of a frame, brought into the order of their groups.

    ``labels``       (groups,)
    ``order``        (series,) int64: rows, group after group, in the frame's order within each
    ``first, last``  (groups,) int64: group ``i`` is ``order[first[i]:last[i]]``
    """

    labels: tuple[Labels, ...]
    order: Int64Array
    first: Int64Array
    last: Int64Array

    def members(self) -> Sequence[Int64Array]:
        """Rows of each group."""
        return [self.order[begin:end] for begin, end in zip(self.first, self.last, strict=True)]

    def dropped(self, frame: Frame) -> BoolArray | None:
        """Groups that lose their name at the end of the query: those with a member that does."""
        if frame.drops is None:
            return None
        return np.array([frame.drops[rows].any() for rows in self.members()], dtype=np.bool_)


def group(frame: Frame, grouping: Sequence[str], by_exclusion: bool) -> Groups:
    """Group the series ``by`` some labels or, with ``by_exclusion``, ``without`` them."""
    key = ("group", tuple(grouping), by_exclusion)
    return derived(frame.labels, key, lambda: _grouped(frame.labels, grouping, by_exclusion))


def _grouped(every: tuple[Labels, ...], grouping: Sequence[str], by_exclusion: bool) -> Groups:
    rows: dict[Labels, list[int]] = {}
    named = frozenset((*METADATA_LABELS, *grouping) if by_exclusion else grouping)
    if not named:
        rows[()] = list(range(len(every)))
    for row, labels in enumerate(every if named else ()):
        key = tuple([pair for pair in labels if (pair[0] in named) != by_exclusion])
        rows.setdefault(key, []).append(row)
    last = np.cumsum([len(members) for members in rows.values()], dtype=np.int64)
    first = np.concatenate([np.zeros(1, dtype=np.int64), last[:-1]])
    order = np.array([row for members in rows.values() for row in members], dtype=np.int64)
    return Groups(LabelSets(rows), order, first, last)


def aggregate(op: str, frame: Frame, grouping: Sequence[str], by_exclusion: bool) -> Frame:
    """``op by|without (grouping) (frame)`` for the operators in ``SIMPLE``."""
    if not frame.labels:
        return empty(frame.steps)
    groups = group(frame, grouping, by_exclusion)
    values, present = frame.values, frame.present
    everywhere = bool(present.all())
    if not (groups.order[1:] > groups.order[:-1]).all():
        values = values.take(groups.order, axis=0)
        present = present if everywhere else present.take(groups.order, axis=0)
    if everywhere:
        counts = np.broadcast_to((groups.last - groups.first)[:, None], (len(groups.labels), frame.steps))
    else:
        counts = reduce_runs(np.add, present.astype(np.int64), groups.first, groups.last)
    return Frame(groups.labels, SIMPLE[op](values, present, groups, counts), counts > 0, groups.dropped(frame))


def quantile(frame: Frame, grouping: Sequence[str], by_exclusion: bool, quantiles: Float64Array) -> Frame:
    """``quantile``: the ``quantiles[step]`` quantile of each group."""
    if not frame.labels:
        return empty(frame.steps)
    groups = group(frame, grouping, by_exclusion)
    values = [quantile_of_rows(frame.values[rows], frame.present[rows], quantiles) for rows in groups.members()]
    present = [frame.present[rows].any(axis=0) for rows in groups.members()]
    return Frame(groups.labels, np.array(values), np.array(present), groups.dropped(frame))


def count_values(
    frame: Frame, grouping: Sequence[str], by_exclusion: bool, label: str, expect: Callable[[int], None]
) -> Frame:
    """``count_values``: how many series of each group have each value, which becomes the label ``label``.

    ``expect`` is told how many numbers the answer will hold, and may raise.
    """
    if not frame.labels:
        return empty(frame.steps)
    kept = grouping if by_exclusion else [name for name in grouping if name != label]
    groups = group(frame, kept, by_exclusion)
    counted: dict[Labels, Float64Array] = {}
    drops: dict[Labels, bool] = {}
    for labels, rows in zip(groups.labels, groups.members(), strict=True):
        series, steps = np.nonzero(frame.present[rows])
        expect(frame.steps * len(counted))
        seen, which = np.unique(frame.values[rows][series, steps], return_inverse=True)
        expect(frame.steps * (len(counted) + len(seen)))
        for number, value in enumerate(seen):
            key = from_mapping(dict(labels) | {label: format_number(float(value))})
            counts = np.bincount(steps[which == number], minlength=frame.steps)
            drops[key] = frame.drops is not None and bool(frame.drops[rows].any())
            counted[key] = counted.get(key, np.zeros(frame.steps)) + counts
    if not counted:
        return empty(frame.steps)
    table = np.array(list(counted.values()))
    dropped = None if frame.drops is None else np.array([drops[key] for key in counted])
    return Frame(tuple(counted), table, table > 0, dropped)


Reducer = Callable[[Float64Array, BoolArray, Groups, Float64Array], Float64Array]


def _filled(values: Float64Array, present: BoolArray, filling: float) -> Float64Array:
    return values if present.all() else np.where(present, values, filling)


def _sum(values: Float64Array, present: BoolArray, groups: Groups, _: Float64Array) -> Float64Array:
    return sum_runs(_filled(values, present, 0.0), groups.first, groups.last)


def _avg(values: Float64Array, present: BoolArray, groups: Groups, counts: Float64Array) -> Float64Array:
    return mean_runs(_filled(values, present, 0.0), groups.first, groups.last, counts)


def _min(values: Float64Array, present: BoolArray, groups: Groups, _: Float64Array) -> Float64Array:
    return reduce_runs(np.fmin, _filled(values, present, np.nan), groups.first, groups.last)


def _max(values: Float64Array, present: BoolArray, groups: Groups, _: Float64Array) -> Float64Array:
    return reduce_runs(np.fmax, _filled(values, present, np.nan), groups.first, groups.last)


def _count(_: Float64Array, __: BoolArray, ___: Groups, counts: Float64Array) -> Float64Array:
    return counts.astype(np.float64)


def _group(_: Float64Array, __: BoolArray, ___: Groups, counts: Float64Array) -> Float64Array:
    return np.ones(counts.shape)


def _stdvar(values: Float64Array, present: BoolArray, groups: Groups, counts: Float64Array) -> Float64Array:
    """Variance of the values less their minimum, so that equal values have a variance of exactly 0."""
    sizes = groups.last - groups.first
    lowest = np.repeat(_min(values, present, groups, counts), sizes, axis=0)
    shifted = np.where(present, values - lowest, 0.0)
    mean = np.repeat(reduce_runs(np.add, shifted, groups.first, groups.last) / counts, sizes, axis=0)
    squares = np.where(present, (shifted - mean) ** 2, 0.0)
    variance: Float64Array = reduce_runs(np.add, squares, groups.first, groups.last) / counts
    return variance


def _stddev(values: Float64Array, present: BoolArray, groups: Groups, counts: Float64Array) -> Float64Array:
    return np.sqrt(_stdvar(values, present, groups, counts))


SIMPLE: dict[str, Reducer] = {
    "sum": _sum,
    "avg": _avg,
    "min": _min,
    "max": _max,
    "count": _count,
    "group": _group,
    "stdvar": _stdvar,
    "stddev": _stddev,
}
"""Operators without a parameter; values and presence come in the order of the groups."""
