"""Range vectors over all steps of a query at once."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from collector.model.labels import Labels
from collector.model.series import BoolArray, Float64Array, Int64Array, SeriesGroup, is_stale
from collector.promql.ast import Extension
from collector.promql.frame import Frame, compact, empty, stack

_Kind = TypeVar("_Kind", np.float64, np.bool_)


@dataclass(frozen=True, slots=True)
class Block:
    """Series that share the times of all their samples, none of which is stale.

    ``labels``        (series,)
    ``times_ms``      (samples,) int64, increasing
    ``values``        (samples, series) float64
    ``first, last``   (steps,) int64: the window of step ``i`` is the samples ``first[i] <= sample < last[i]``
    ``drops``         as in ``Frame``
    """

    labels: tuple[Labels, ...]
    times_ms: Int64Array
    values: Float64Array
    first: Int64Array
    last: Int64Array
    drops: BoolArray | None = None

    @property
    def counts(self) -> Int64Array:
        """Samples in each window: (steps,)."""
        return self.last - self.first


@dataclass(frozen=True, slots=True)
class Windows:
    """A range vector at every step: ``starts_ms`` and ``ends_ms`` (steps,) bound the windows.

    ``blocks`` can be gone through once: each is read from the store when its turn comes.

    With an ``extension`` the blocks hold the lookback before each window too, and after it where ``smoothed``.
    """

    blocks: Iterable[Block]
    starts_ms: Int64Array
    ends_ms: Int64Array
    range_ms: int
    extension: Extension = ""


RangeFunction = Callable[[Block, Windows], tuple[Float64Array, BoolArray]]
"""Values (steps, series) and presence, which broadcasts to the same shape."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where windows lie: ``range_ms`` before each of ``ends_ms``, plus ``before_ms`` and ``after_ms`` that are seen."""

    ends_ms: Int64Array
    range_ms: int
    left_open: bool
    extension: Extension = ""
    before_ms: int = 0
    after_ms: int = 0


def over_groups(groups: Iterable[SeriesGroup], layout: Layout, delayed_names: bool) -> Windows:
    """Windows over what a store returned, stale markers left out."""
    pieces = (
        piece
        for group in groups
        if len(group.timestamps_ms)
        for piece in _without_holes(
            group.labels,
            group.timestamps_ms,
            group.values,
            _holes(group.values),
            np.zeros(len(group.labels), dtype=np.bool_) if delayed_names else None,
        )
    )
    return _windows(pieces, layout)


def over_frame(frame: Frame, times_ms: Int64Array, ends_ms: Int64Array, range_ms: int, left_open: bool) -> Windows:
    """Windows over a subquery's answer, whose columns are ``times_ms``."""
    pieces = (
        _without_holes(frame.labels, times_ms, frame.values.T, ~frame.present.T, frame.drops) if frame.labels else []
    )
    return _windows(pieces, Layout(ends_ms, range_ms, left_open))


def apply(windows: Windows, function: RangeFunction) -> Frame:
    """``function`` of every window of every series, labels unchanged."""
    steps = len(windows.ends_ms)
    frames = []
    for block in windows.blocks:
        values, present = function(block, windows)
        shape = (len(block.labels), steps)
        frames.append(Frame(block.labels, _shaped(values, shape), _shaped(present, shape), block.drops))
    return compact(stack(frames, steps)) if frames else empty(steps)


def _shaped(by_step: npt.NDArray[_Kind], shape: tuple[int, int]) -> npt.NDArray[_Kind]:
    """(steps,) or (steps, series) as (series, steps)."""
    by_series = by_step.T if by_step.ndim > 1 else by_step[None, :]
    return by_series if by_series.shape == shape else np.broadcast_to(by_series, shape)


Piece = tuple[tuple[Labels, ...], Int64Array, Float64Array, BoolArray | None]


def _holes(values: Float64Array) -> BoolArray | None:
    """Where stale markers are; None where there are none, which a sum that is a number shows quickly."""
    return is_stale(values) if np.isnan(values.sum()) else None


def _without_holes(
    labels: tuple[Labels, ...],
    times_ms: Int64Array,
    values: Float64Array,
    holes: BoolArray | None,
    drops: BoolArray | None,
) -> list[Piece]:
    """Split the series by where their holes are; those with the same holes stay together."""
    if holes is None or not holes.any():
        return [(labels, times_ms, values, drops)]
    patterns: dict[bytes, list[int]] = {}
    for column, packed in enumerate(np.packbits(holes, axis=0).T):
        patterns.setdefault(packed.tobytes(), []).append(column)
    pieces = []
    for columns in patterns.values():
        rows = np.flatnonzero(~holes[:, columns[0]])
        if len(rows):
            kept = tuple(labels[column] for column in columns)
            some = None if drops is None else drops[columns]
            pieces.append((kept, times_ms[rows], np.ascontiguousarray(values[rows][:, columns]), some))
    return pieces


def _windows(pieces: Iterable[Piece], layout: Layout) -> Windows:
    starts_ms = layout.ends_ms - layout.range_ms
    return Windows(_blocks(pieces, layout), starts_ms, layout.ends_ms, layout.range_ms, layout.extension)


def _blocks(pieces: Iterable[Piece], layout: Layout) -> Iterator[Block]:
    seen_from_ms = layout.ends_ms - layout.range_ms - layout.before_ms
    seen_to_ms = layout.ends_ms + layout.after_ms
    times_before: Int64Array | None = None
    for labels, times_ms, values, drops in pieces:
        if times_ms is not times_before:  # pieces of one scrape group share their times
            first = times_ms.searchsorted(seen_from_ms, side="right" if layout.left_open else "left")
            last = times_ms.searchsorted(seen_to_ms, side="right")
            times_before = times_ms
        yield Block(labels, times_ms, values, first, last, drops)
