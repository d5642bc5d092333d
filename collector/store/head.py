"""Samples that are not in tiles yet, in memory: a growing matrix per scrape group and per batch that repeats itself,
columns for everything else that came in order, and what came late apart from it.

Rows below a segment's length never change, so a snapshot (arrays and length) stays true while appends go on. Callers
hold the state's lock for every method.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from collector.model.series import STALE_NAN, Float64Array, Int64Array
from collector.store.holes import HOLE

_FIRST_ROWS = 16
_LEAST_ROWS = 64
_SEGMENT_CELLS = 512 << 10  # 4 MiB
_NO_TIMES, _NO_VALUES = np.empty((0, 1), np.int64), np.empty((0, 1), np.float64)
_Number = TypeVar("_Number", np.int64, np.float64)

Points = tuple[Int64Array, Float64Array]
"""Timestamps and values of one series."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one set of columns: ``ids`` (series,), ``timestamps_ms`` (steps,), ``values`` (steps, series)."""

    ids: Int64Array
    timestamps_ms: Int64Array
    values: Float64Array
    holes: bool


class Segment:
    """A growing matrix over a fixed set of columns, up to a size beyond which growing would hold an append up."""

    __slots__ = ("holes", "ids", "length", "position", "timestamps_ms", "values")

    def __init__(self, ids: Int64Array, position: dict[int, int] | None = None) -> None:
        self.ids = ids
        self.position = position or {int(series_id): column for column, series_id in enumerate(ids)}
        self.length = 0
        self.holes = False
        self.timestamps_ms = np.empty(_FIRST_ROWS, np.int64)
        self.values = np.empty((_FIRST_ROWS, len(ids)), np.float64)

    @property
    def is_full(self) -> bool:
        """Whether another one has to take the next row."""
        return self.length >= _LEAST_ROWS and self.length * len(self.ids) >= _SEGMENT_CELLS

    def new_row(self, timestamp_ms: int) -> Float64Array:
        """A row to fill in; it counts once ``length`` is raised."""
        if self.length == len(self.timestamps_ms):
            self._resize(0, self.length + max(self.length // 4, _FIRST_ROWS))
        self.timestamps_ms[self.length] = timestamp_ms
        row: Float64Array = self.values[self.length]
        return row

    def rows(self) -> Rows:
        """A snapshot."""
        return Rows(self.ids, self.timestamps_ms[: self.length], self.values[: self.length], self.holes)

    def drop_before(self, boundary_ms: int) -> None:
        """Forget the rows before ``boundary_ms``; snapshots keep theirs."""
        first = int(np.searchsorted(self.timestamps_ms[: self.length], boundary_ms))
        if first:
            self._resize(first, max(self.length - first, _FIRST_ROWS))

    def _resize(self, first: int, rows: int) -> None:
        kept = self.length - first
        timestamps_ms = np.empty(rows, np.int64)
        values = np.empty((rows, len(self.ids)), np.float64)
        timestamps_ms[:kept] = self.timestamps_ms[first : self.length]
        values[:kept] = self.values[first : self.length]
        self.timestamps_ms, self.values, self.length = timestamps_ms, values, kept


class ScrapeHead:
    """Rows of one scrape group since its last cut; a new segment begins when one is full or lacks a series."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self._mapped: tuple[Segment, Int64Array, Int64Array | None] | None = None

    def append(self, ids: Int64Array, vanished: Int64Array, timestamp_ms: int, values: Float64Array) -> None:
        """Add one scrape: ``values`` of ``ids``, stale markers for ``vanished``, holes for the other columns."""
        segment, columns = self._place(ids, vanished)
        row = segment.new_row(timestamp_ms)
        if columns is None:
            row[:] = values
        else:
            row[:] = HOLE
            row[columns] = values
            row[[segment.position[int(series_id)] for series_id in vanished]] = STALE_NAN
            segment.holes = True
        segment.length += 1

    def rows(self) -> list[Rows]:
        """Snapshots of the segments, oldest first."""
        return [segment.rows() for segment in self.segments]

    def drop_before(self, boundary_ms: int) -> None:
        """Forget rows before ``boundary_ms``, and segments left empty."""
        for segment in self.segments:
            segment.drop_before(boundary_ms)
        self.segments = [segment for segment in self.segments if segment.length]
        self._mapped = None

    @property
    def samples(self) -> int:
        """Cells held, holes included."""
        return sum(segment.length * len(segment.ids) for segment in self.segments)

    @property
    def bytes(self) -> int:
        """Memory held, room for growth included."""
        return sum(segment.timestamps_ms.nbytes + segment.values.nbytes for segment in self.segments)

    def _place(self, ids: Int64Array, vanished: Int64Array) -> tuple[Segment, Int64Array | None]:
        segment = self.segments[-1] if self.segments else None
        if segment is not None and segment.is_full:
            segment, self._mapped = Segment(segment.ids, segment.position), None
            self.segments.append(segment)
        if self._mapped is not None and self._mapped[1] is ids and not len(vanished):
            return self._mapped[0], self._mapped[2]
        wanted = [*ids.tolist(), *vanished.tolist()]
        if segment is None or not all(series_id in segment.position for series_id in wanted):
            segment = Segment(np.concatenate([ids, vanished]) if len(vanished) else ids)
            self.segments.append(segment)
        columns: Int64Array | None = None
        if len(segment.ids) != len(ids) or not np.array_equal(segment.ids, ids):
            columns = np.array([segment.position[series_id] for series_id in ids.tolist()], np.int64)
        self._mapped = (segment, ids, columns)
        return segment, columns


class _Column:
    __slots__ = ("length", "timestamps_ms", "values")

    def __init__(self) -> None:
        self.length = 0
        self.timestamps_ms = np.empty(8, np.int64)
        self.values = np.empty(8, np.float64)

    def extend(self, timestamps_ms: Int64Array, values: Float64Array) -> None:
        length = self.length + len(values)
        if length > len(self.values):
            rows = max(length, len(self.values) + len(self.values) // 2)
            self.timestamps_ms = _grown(self.timestamps_ms[: self.length], rows)
            self.values = _grown(self.values[: self.length], rows)
        self.timestamps_ms[self.length : length] = timestamps_ms
        self.values[self.length : length] = values
        self.length = length

    def points(self) -> Points:
        return self.timestamps_ms[: self.length], self.values[: self.length]


class Block:
    """Samples of a batch that repeats itself: every series has one in each row, at a time of its own.

    ``even``: in each row all series have the same time.
    """

    __slots__ = ("even", "ids", "length", "position", "start", "timestamps_ms", "values")

    def __init__(self, ids: Int64Array) -> None:
        self.ids = ids
        self.position = {int(series_id): column for column, series_id in enumerate(ids)}
        self.start = np.zeros(len(ids), np.int64)  # rows before it are in tiles
        self.even = True
        self.length = 0
        self.timestamps_ms = np.empty((_FIRST_ROWS, len(ids)), np.int64)
        self.values = np.empty((_FIRST_ROWS, len(ids)), np.float64)

    def extend(self, timestamps_ms: Int64Array, values: Float64Array) -> None:
        """Add (rows, series) samples."""
        length = self.length + len(values)
        if length > len(self.values):
            rows = max(length, len(self.values) + len(self.values) // 4, _FIRST_ROWS)
            self.timestamps_ms = _grown(self.timestamps_ms[: self.length], rows)
            self.values = _grown(self.values[: self.length], rows)
        self.timestamps_ms[self.length : length] = timestamps_ms
        self.values[self.length : length] = values
        self.length = length
        self.even = self.even and bool((timestamps_ms == timestamps_ms[:, :1]).all())

    def rows(self) -> Rows | None:
        """A snapshot, where the series share all their times; otherwise None."""
        first = int(self.start[0])
        if not self.even or (self.start != first).any():
            return None
        rows = slice(first, self.length)
        return Rows(self.ids, self.timestamps_ms[rows, 0], self.values[rows], False)

    def points(self, series_id: int) -> Points:
        """Snapshot of one series' samples."""
        column = self.position[series_id]
        rows = slice(int(self.start[column]), self.length)
        return self.timestamps_ms[rows, column], self.values[rows, column]

    def drop_until(self, series_id: int, end_ms: int) -> None:
        """Forget one series' samples up to ``end_ms``."""
        column = self.position[series_id]
        times = self.timestamps_ms[self.start[column] : self.length, column]
        self.start[column] += np.searchsorted(times, end_ms, "right")

    def shrink(self) -> None:
        """Give up the rows that every series has in tiles; snapshots keep theirs."""
        first = int(self.start.min(initial=self.length))
        if first:
            self.timestamps_ms = self.timestamps_ms[first : self.length].copy()
            self.values = self.values[first : self.length].copy()
            self.length -= first
            self.start -= first


class RaggedHead:
    """Samples that came in order but not by scrape, since the last cut: a column per series, blocks for batches."""

    def __init__(self) -> None:
        self.changes = 0  # rises when a series gets or loses a column or a block
        self._columns: dict[int, _Column] = {}
        self._blocks: dict[bytes, Block] = {}
        self._blocks_of: dict[int, tuple[Block, ...]] = {}

    def append(self, series_id: int, timestamps_ms: Int64Array, values: Float64Array) -> None:
        """Add samples that are after those of the series already here."""
        column = self._columns.get(series_id)
        if column is None:
            column = self._columns[series_id] = _Column()
            self.changes += 1
        column.extend(timestamps_ms, values)

    def append_batch(self, key: bytes, ids: Int64Array, timestamps_ms: Int64Array, values: Float64Array) -> None:
        """Add (rows, series) samples, all after those of their series; ``key`` are the bytes of ``ids``."""
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = Block(ids)
            self._move(block)
            for series_id in ids.tolist():
                self._blocks_of[series_id] = (*self._blocks_of.get(series_id, ()), block)
            self.changes += 1
        block.extend(timestamps_ms, values)

    def join(self) -> None:
        """Put columns of equal timestamps together into blocks."""
        alike: dict[bytes, list[int]] = {}
        for series_id, column in self._columns.items():
            alike.setdefault(column.points()[0].tobytes(), []).append(series_id)
        for some in alike.values():
            ids = np.array(some, np.int64)
            if len(some) > 1 and not self.knows(ids.tobytes()):
                self.append_batch(ids.tobytes(), ids, _NO_TIMES.repeat(len(some), 1), _NO_VALUES.repeat(len(some), 1))

    def knows(self, key: bytes) -> bool:
        """Whether there is a block of these ids already."""
        return key in self._blocks

    def has_column(self, series_id: int) -> bool:
        """Whether some of the series' samples are not in a block."""
        return series_id in self._columns

    def blocks_of(self, series_id: int) -> tuple[Block, ...]:
        """The blocks that the series is in."""
        return self._blocks_of.get(series_id, ())

    def points(self, series_id: int) -> Points | None:
        """Snapshot of one series' timestamps and values, or None."""
        column = self._columns.get(series_id)
        parts = [column.points()] if column is not None else []
        parts += [block.points(series_id) for block in self._blocks_of.get(series_id, ())]
        parts = [part for part in parts if len(part[0])]
        return joined(parts) if parts else None

    def ids(self) -> list[int]:
        """Series with samples here."""
        return list(self._columns.keys() | self._blocks_of.keys())

    def drop_until(self, ids: Iterable[int], end_ms: int) -> None:
        """Forget these series' samples up to ``end_ms``."""
        for series_id in ids:
            for block in self._blocks_of.get(series_id, ()):
                block.drop_until(series_id, end_ms)
            column = self._columns.get(series_id)
            if column is None:
                continue
            timestamps_ms, values = column.points()
            first = int(np.searchsorted(timestamps_ms, end_ms, "right"))
            del self._columns[series_id]
            self.changes += 1
            if first < len(values):
                self.append(series_id, timestamps_ms[first:], values[first:])

    def shrink(self) -> None:
        """Give up the room of batches that are in tiles."""
        for key, block in list(self._blocks.items()):
            block.shrink()
            if block.length:
                continue
            del self._blocks[key]
            self.changes += 1
            for series_id in block.ids.tolist():
                left = tuple([one for one in self._blocks_of[series_id] if one is not block])
                if left:
                    self._blocks_of[series_id] = left
                else:
                    del self._blocks_of[series_id]

    def _move(self, block: Block) -> None:
        """Take the first samples of a batch that has come to repeat itself from columns into its block."""
        columns = [self._columns.get(series_id) for series_id in block.ids.tolist()]
        known = [column for column in columns if column is not None]
        if len(known) < len(columns) or len({column.length for column in known}) > 1:
            return
        points = [column.points() for column in known]
        block.extend(np.stack([times for times, _ in points], axis=1), np.stack([some for _, some in points], axis=1))
        for series_id in block.ids.tolist():
            del self._columns[series_id]

    @property
    def samples(self) -> int:
        """Samples held."""
        blocks = sum(int((block.length - block.start).sum()) for block in self._blocks.values())
        return blocks + sum(column.length for column in self._columns.values())

    @property
    def bytes(self) -> int:
        """Memory held, room for growth included."""
        columns = sum(column.timestamps_ms.nbytes + column.values.nbytes for column in self._columns.values())
        return columns + sum(block.timestamps_ms.nbytes + block.values.nbytes for block in self._blocks.values())


class LateHead:
    """Samples that came after later ones of their series, since they were last put into tiles."""

    def __init__(self) -> None:
        self.changes = 0  # rises when a series comes or goes
        self._points: dict[int, Points] = {}

    def append(self, series_id: int, timestamps_ms: Int64Array, values: Float64Array) -> None:
        """Add samples at times that the series does not have."""
        known = self._points.get(series_id)
        fresh = (timestamps_ms, values)
        self.changes += known is None
        self._points[series_id] = joined([fresh] if known is None else [known, fresh])

    def points(self, series_id: int) -> Points | None:
        """One series' timestamps, rising, and values, or None."""
        return self._points.get(series_id)

    def all(self) -> dict[int, Points]:
        """A snapshot of everything."""
        return dict(self._points)

    def drop(self, snapshot: Mapping[int, Points]) -> None:
        """Forget what was there when the snapshot was taken."""
        self.changes += 1
        for series_id, (timestamps_ms, _) in snapshot.items():
            times, values = self._points.pop(series_id)
            fresh = ~np.isin(times, timestamps_ms)
            if fresh.any():
                self._points[series_id] = (times[fresh], values[fresh])

    @property
    def samples(self) -> int:
        """Samples held."""
        return sum(len(values) for _, values in self._points.values())


def joined(parts: Sequence[Points]) -> Points:
    """One series from several parts, by time; of samples of one time the first part's counts."""
    if len(parts) == 1:
        timestamps_ms, values = parts[0]
    else:
        timestamps_ms = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
    if (timestamps_ms[1:] > timestamps_ms[:-1]).all():
        return timestamps_ms, values
    times, places = np.unique(timestamps_ms, return_index=True)
    return times, values[places]


def _grown(rows: npt.NDArray[_Number], count: int) -> npt.NDArray[_Number]:
    grown: npt.NDArray[_Number] = np.empty((count, *rows.shape[1:]), rows.dtype)
    grown[: len(rows)] = rows
    return grown
