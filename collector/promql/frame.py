"""Instant vectors over all steps of a query at once: one row per series, one column per step."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from collector.model.errors import QueryError
from collector.model.labels import METRIC_NAME, Labels, LabelSets, derived, render, without
from collector.model.series import BoolArray, Float64Array, Int64Array

METADATA_LABELS = (METRIC_NAME, "__type__", "__unit__")
"""Labels that say what a series is rather than which one; an operation that changes the value drops them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Instant vectors of every step.

    ``labels``   (series,), all different
    ``values``   (series, steps) float64, arbitrary where absent; never written to
    ``present``  (series, steps) bool: whether the series is in the vector of that step
    ``drops``    (series,) bool: whether the metric's name goes at the end of the query; None where names go at once
    """

    labels: tuple[Labels, ...]
    values: Float64Array
    present: BoolArray
    drops: BoolArray | None = None

    @property
    def steps(self) -> int:
        """Number of columns."""
        return int(self.values.shape[1])

    def changed(self, values: Float64Array, present: BoolArray | None = None) -> "Frame":
        """The same series with other values."""
        return Frame(self.labels, values, self.present if present is None else present, self.drops)

    def dropped(self, rows: Sequence[int] | Int64Array) -> BoolArray | None:
        """``drops`` of some rows."""
        return None if self.drops is None else self.drops[rows]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number at every step: ``values`` (steps,) float64."""

    values: Float64Array


def empty(steps: int) -> Frame:
    """A vector without series."""
    return Frame((), np.zeros((0, steps)), np.zeros((0, steps), dtype=np.bool_))


def stack(frames: Sequence[Frame], steps: int) -> Frame:
    """All rows of ``frames``, whose label sets must differ."""
    if len(frames) == 1:
        return frames[0]
    if not frames:
        return empty(steps)
    drops = None
    if any(frame.drops is not None for frame in frames):
        drops = np.concatenate([dropped_names(frame) for frame in frames])
    first, *rest = [frame.labels for frame in frames]
    _, labels = derived(first, ("stack", *map(id, rest)), lambda: (rest, LabelSets(chain(first, *rest))))
    return Frame(
        labels,
        np.concatenate([frame.values for frame in frames]),
        np.concatenate([frame.present for frame in frames]),
        drops,
    )


def compact(frame: Frame) -> Frame:
    """Drop the rows that are present at no step."""
    alive = frame.present.any(axis=1)
    if alive.all():
        return frame
    return take(frame, np.flatnonzero(alive))


def dropped_names(frame: Frame) -> BoolArray:
    """``drops``, where names that go at once count as those that stay."""
    return np.zeros(len(frame.labels), dtype=np.bool_) if frame.drops is None else frame.drops


def take(frame: Frame, rows: Iterable[int]) -> Frame:
    """Some rows of ``frame``, in the order given."""
    index = np.asarray(list(rows), dtype=np.int64)
    labels = tuple(frame.labels[row] for row in index)
    return Frame(labels, frame.values[index], frame.present[index], frame.dropped(index))


def drop_metadata(labels: Labels) -> Labels:
    """``labels`` less the metric's name, type and unit."""
    if _only_named(labels):
        return labels[1:]
    return without(labels, METADATA_LABELS)


def _only_named(labels: Labels) -> bool:
    """Whether the name is the first label and there is neither type nor unit; may say no where there is neither."""
    return bool(labels) and labels[0][0] == METRIC_NAME and (len(labels) == 1 or labels[1][0][:2] != "__")


def without_names(frame: Frame) -> Frame:
    """``frame`` less metric names, at once or at the end of the query; series that become equal are merged."""
    if frame.drops is not None:
        return Frame(frame.labels, frame.values, frame.present, np.ones(len(frame.labels), dtype=np.bool_))
    bare, differ = derived(frame.labels, "bare", lambda: _bare(frame.labels))
    nameless = Frame(bare, frame.values, frame.present)
    return nameless if differ else merged(nameless)


def _bare(labels: tuple[Labels, ...]) -> tuple[LabelSets, bool]:
    """``labels`` less names, and whether they surely still differ."""
    if all(map(_only_named, labels)):
        return LabelSets([one[1:] for one in labels]), len({one[0] for one in labels}) <= 1
    return LabelSets(map(drop_metadata, labels)), False


def merged(frame: Frame, message: str = "vector cannot contain metrics with the same labelset") -> Frame:
    """Join rows with equal labels into one; raises QueryError where two are present at the same step."""
    if len(set(frame.labels)) == len(frame.labels):
        return frame
    drops = None if frame.drops is None else np.zeros(len(set(frame.labels)), dtype=np.bool_)
    rows: dict[Labels, list[int]] = {}
    for row, labels in enumerate(frame.labels):
        rows.setdefault(labels, []).append(row)
    values = np.empty((len(rows), frame.steps))
    present = np.zeros((len(rows), frame.steps), dtype=np.bool_)
    for target, (labels, sources) in enumerate(rows.items()):
        for source in sources:
            here = frame.present[source]
            if len(sources) > 1 and (present[target] & here).any():
                raise QueryError(f"{message}: {render(labels) or '{}'}", kind="execution")
            values[target] = np.where(here, frame.values[source], values[target])
            present[target] |= here
            if drops is not None:
                drops[target] |= frame.dropped([source])
    return Frame(tuple(rows), values, present, drops)


def finished(frame: Frame) -> Frame:
    """``frame`` less the names that were to go at the end of the query."""
    if frame.drops is None or not frame.drops.any():
        return frame
    pairs = zip(frame.labels, frame.drops, strict=True)
    labels = tuple(drop_metadata(one) if drops else one for one, drops in pairs)
    return merged(Frame(labels, frame.values, frame.present))
