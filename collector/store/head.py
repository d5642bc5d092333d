"""Samples that are not in tiles yet, in memory: a growing matrix per scrape group, columns for everything else.

Rows below a segment's length never change, so a snapshot (arrays and length) stays true while appends go on. Callers
hold the state's lock for every method.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from collector.model.series import STALE_NAN, Float64Array, Int64Array
from collector.store.holes import HOLE

_FIRST_ROWS = 16
_NO_IDS = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one set of columns: ``ids`` (series,), ``timestamps_ms`` (steps,), ``values`` (steps, series)."""

    ids: Int64Array
    timestamps_ms: Int64Array
    values: Float64Array
    holes: bool


class Segment:
    """A growing matrix over a fixed set of columns."""

    __slots__ = ("holes", "ids", "length", "position", "timestamps_ms", "values")

    def __init__(self, ids: Int64Array) -> None:
        self.ids = ids
        self.position = {int(series_id): column for column, series_id in enumerate(ids)}
        self.length = 0
        self.holes = False
        self.timestamps_ms = np.empty(_FIRST_ROWS, np.int64)
        self.values = np.empty((_FIRST_ROWS, len(ids)), np.float64)

    def new_row(self, timestamp_ms: int) -> Float64Array:
        """A row to fill in; it counts once ``length`` is raised."""
        if self.length == len(self.timestamps_ms):
            self._resize(0, self.length + self.length // 2)
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
    """Rows of one scrape group since its last cut; a new segment begins when series appear that it lacks."""

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

    def _place(self, ids: Int64Array, vanished: Int64Array) -> tuple[Segment, Int64Array | None]:
        if self._mapped is not None and self._mapped[1] is ids and not len(vanished):
            return self._mapped[0], self._mapped[2]
        segment = self.segments[-1] if self.segments else None
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
            self.timestamps_ms = np.concatenate(
                [self.timestamps_ms[: self.length], np.empty(rows - self.length, np.int64)]
            )
            self.values = np.concatenate([self.values[: self.length], np.empty(rows - self.length, np.float64)])
        self.timestamps_ms[self.length : length] = timestamps_ms
        self.values[self.length : length] = values
        self.length = length

    def points(self) -> tuple[Int64Array, Float64Array]:
        return self.timestamps_ms[: self.length], self.values[: self.length]


class RaggedHead:
    """Samples that came one series at a time, since the last cut."""

    def __init__(self) -> None:
        self._columns: dict[int, _Column] = {}

    def append(self, series_id: int, timestamps_ms: Int64Array, values: Float64Array) -> None:
        """Add samples that are after those of the series already here."""
        column = self._columns.get(series_id)
        if column is None:
            column = self._columns[series_id] = _Column()
        column.extend(timestamps_ms, values)

    def points(self, series_id: int) -> tuple[Int64Array, Float64Array] | None:
        """Snapshot of one series' timestamps and values, or None."""
        column = self._columns.get(series_id)
        return column.points() if column is not None else None

    def ids(self) -> Iterable[int]:
        """Series with samples here."""
        return self._columns.keys()

    def drop_before(self, boundary_ms: int) -> None:
        """Forget samples before ``boundary_ms``."""
        kept: dict[int, _Column] = {}
        for series_id, column in self._columns.items():
            timestamps_ms, values = column.points()
            first = int(np.searchsorted(timestamps_ms, boundary_ms))
            if first == 0:
                kept[series_id] = column
            elif first < len(values):
                fresh = kept[series_id] = _Column()
                fresh.extend(timestamps_ms[first:], values[first:])
        self._columns = kept

    @property
    def samples(self) -> int:
        """Samples held."""
        return sum(column.length for column in self._columns.values())
