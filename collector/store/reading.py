"""Answers: series and samples by matcher and time, merged from heads and tiles into one matrix per scrape group.

A snapshot of heads and chunks is taken under the state's lock, then everything is read without it. Series of one
scrape group stay together in one matrix, pushed ones where their timestamps are equal. A series that several groups
know is merged into one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from collector.model.labels import Labels
from collector.model.matchers import Matcher
from collector.model.series import BoolArray, Int64Array, SeriesGroup, is_stale
from collector.store.cache import TileCache
from collector.store.database import Database
from collector.store.gathering import Matrix, Part, View, add_part, gather, parts_of
from collector.store.head import Points, Rows, joined
from collector.store.holes import fill_holes, is_hole
from collector.store.schema import LATE
from collector.store.selection import Selection, Selections, Wanted
from collector.store.state import Chunk, State
from collector.store.tiles import ChunkMoved, TileReader

_ATTEMPTS = 5

PIECE_VALUES = 1 << 18
"""Values of a matrix that ``scan`` gives at a time: 2 MiB."""


@dataclass(frozen=True, slots=True)
class _RaggedView:
    wanted: Int64Array
    chunks: dict[int, tuple[Chunk, ...]]
    heads: dict[int, Points]
    late: dict[int, Points]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What a query reads: scrape groups, pushed series that share their timestamps, and those that may not."""

    labels: dict[int, Labels]
    shared: Int64Array
    scraped: list[tuple[Wanted, View]]
    alike: list[tuple[Wanted, View]]
    ragged: _RaggedView


class Reader:
    """The reading half of a store. Thread-safe; takes no lock while it decodes."""

    def __init__(self, database: Database, state: State, cache: TileCache) -> None:
        self._database = database
        self._state = state
        self._cache = cache
        self._selections = Selections(state)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[SeriesGroup]:
        """See ``Store.select``."""
        for attempt in range(_ATTEMPTS):
            try:
                return list(self._read(matchers, start_ms, end_ms, None))
            except ChunkMoved:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Iterator[SeriesGroup]:
        """See ``Store.scan``."""
        told: set[Labels] = set()
        for attempt in range(_ATTEMPTS):
            try:
                for group in self._read(matchers, start_ms, end_ms, PIECE_VALUES):
                    fresh = _untold(group, told) if attempt else group
                    if fresh is not None:
                        yield fresh
                        told.update(fresh.labels)
                return
            except ChunkMoved:
                if attempt + 1 == _ATTEMPTS:
                    raise

    def series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> tuple[Labels, ...]:
        """See ``Store.series``."""

        def view(selection: Selection) -> tuple[dict[int, Labels], list[View], _RaggedView]:
            views = [View(group.chunks, group.head.rows()) for group in selection.groups]
            return selection.labels, views, self._ragged_view(selection.pushed)

        known, views, ragged = self._selections.see(matchers, view)
        seen = _seen(views, ragged, start_ms, end_ms)
        return tuple(sorted(labels for series_id, labels in known.items() if series_id in seen))

    def points(self, ids: Int64Array, start_ms: int, end_ms: int) -> dict[int, Points]:
        """Samples of these series that did not come by scrape, without decoding what is cached."""
        for attempt in range(_ATTEMPTS):
            with self._state.lock:
                view = self._ragged_view(ids)
            try:
                with self._database.reader() as connection:
                    return _ragged_points(
                        TileReader(connection, self._cache, self._state.damage), view, start_ms, end_ms
                    )
            except ChunkMoved:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _read(
        self, matchers: Sequence[Matcher], start_ms: int, end_ms: int, most_values: int | None
    ) -> Iterator[SeriesGroup]:
        """The answer, in matrices of about ``most_values``. Raises ChunkMoved."""
        snapshot = self._selections.see(matchers, self._snapshot)
        pieces: dict[int, list[Points]] = {series_id: [] for series_id in snapshot.shared.tolist()}
        with self._database.reader() as connection:
            tiles = TileReader(connection, self._cache, self._state.damage)
            for wanted, view in snapshot.scraped:
                parts = parts_of(tiles, view, wanted, start_ms, end_ms)
                for matrix in gather(parts, wanted, tiles, most_values):
                    yield from _scraped(matrix, pieces)
            points: dict[int, Points] = {}
            for wanted, view in snapshot.alike:
                parts = parts_of(tiles, view, wanted, start_ms, end_ms)
                for matrix in gather(parts, wanted, tiles, most_values):
                    if matrix.holes:
                        points.update(_columns(matrix))
                    else:
                        yield SeriesGroup(matrix.labels, matrix.timestamps_ms, matrix.values)
            points.update(_ragged_points(tiles, snapshot.ragged, start_ms, end_ms))
        for series_id in list(points):
            if series_id in pieces:
                pieces[series_id].append(points.pop(series_id))
        points.update({series_id: _merge(parts) for series_id, parts in pieces.items() if parts})
        yield from _grouped(points, snapshot.labels)

    def _snapshot(self, selection: Selection) -> _Snapshot:
        """Under ``State.lock``."""
        alone = [selection.alone]
        alike = []
        scraped = [(selection.scraped, View(group.chunks, group.head.rows())) for group in selection.groups]
        for some in selection.alike:
            rows = _one_after_the_other([block.rows() for block in some.blocks if block.length])
            if rows is None or any(chunk.holes for chunk in some.chunks):
                alone.append(some.wanted.ids)
            else:
                alike.append((some.wanted, View(some.chunks, rows)))
        ragged = self._ragged_view(alone[0] if len(alone) == 1 else np.concatenate(alone))
        return _Snapshot(selection.labels, selection.shared, scraped, alike, ragged)

    def _ragged_view(self, alone: Int64Array) -> _RaggedView:
        """Under ``State.lock``."""
        state = self._state
        ids = alone.tolist()
        return _RaggedView(
            alone,
            {i: state.ragged_chunks[i] for i in ids if i in state.ragged_chunks},
            {i: points for i in ids if (points := state.ragged.points(i)) is not None},
            {i: points for i in ids if (points := state.late.points(i)) is not None},
        )


def _untold(group: SeriesGroup, told: set[Labels]) -> SeriesGroup | None:
    """The series of a group that were not told before a chunk moved."""
    fresh = [column for column, labels in enumerate(group.labels) if labels not in told]
    if not fresh:
        return None
    return SeriesGroup(tuple(group.labels[column] for column in fresh), group.timestamps_ms, group.values[:, fresh])


def _one_after_the_other(blocks: Sequence[Rows | None]) -> list[Rows] | None:
    """Rows of blocks by time; None where some have no rows to share, or overlap."""
    rows = [one for one in blocks if one is not None and len(one.timestamps_ms)]
    rows.sort(key=lambda one: int(one.timestamps_ms[0]))
    if None in blocks or any(a.timestamps_ms[-1] >= b.timestamps_ms[0] for a, b in pairwise(rows)):
        return None
    return rows


def _seen(views: Sequence[View], ragged: _RaggedView, start_ms: int, end_ms: int) -> set[int]:
    """Series that belong to a chunk or head with samples in the range."""
    seen: set[int] = set()
    for view in views:
        layouts = {c.layout.id: c.layout.ids for c in view.chunks if c.start_ms <= end_ms and c.end_ms >= start_ms}
        for columns in layouts.values():
            seen.update(columns.tolist())
        for rows in view.rows:
            if _overlaps(rows.timestamps_ms, start_ms, end_ms):
                seen.update(rows.ids.tolist())
    for series_id, chunks in ragged.chunks.items():
        if any(chunk.start_ms <= end_ms and chunk.end_ms >= start_ms for chunk in chunks):
            seen.add(series_id)
    for series_id, (timestamps_ms, _) in (*ragged.heads.items(), *ragged.late.items()):
        if _overlaps(timestamps_ms, start_ms, end_ms):
            seen.add(series_id)
    return seen


def _overlaps(timestamps_ms: Int64Array, start_ms: int, end_ms: int) -> bool:
    return bool(np.searchsorted(timestamps_ms, start_ms) < np.searchsorted(timestamps_ms, end_ms, "right"))


def _scraped(matrix: Matrix, pieces: dict[int, list[Points]]) -> Iterator[SeriesGroup]:
    """What a matrix of a scrape group adds to the answer; series that others know as well go to ``pieces``."""
    labels, values = matrix.labels, matrix.values
    own: BoolArray | None = None
    if pieces:
        own = np.array([series_id not in pieces for series_id in matrix.ids.tolist()], np.bool_)
        for column in np.flatnonzero(~own).tolist():
            there = ~is_hole(values[:, column])
            if there.any():
                pieces[int(matrix.ids[column])].append((matrix.timestamps_ms[there], values[there, column]))
    if matrix.holes:
        some: BoolArray = np.logical_not(is_hole(values).all(axis=0))
        own = some if own is None else np.logical_and(own, some)
    if own is not None and not own.all():
        kept = np.flatnonzero(own)
        labels, values = tuple([labels[column] for column in kept.tolist()]), values[:, kept]
    if matrix.holes:
        fill_holes(values)
    if labels:
        yield SeriesGroup(labels, matrix.timestamps_ms, values)


def _columns(matrix: Matrix) -> Iterator[tuple[int, Points]]:
    """Each series of a matrix without its holes, if anything is left."""
    for column, series_id in enumerate(matrix.ids.tolist()):
        timestamps_ms, values = matrix.timestamps_ms, matrix.values[:, column]
        if matrix.holes:
            there = ~is_hole(values)
            timestamps_ms, values = timestamps_ms[there], values[there]
        if len(values):
            yield series_id, (timestamps_ms, values)


def _grouped(points: dict[int, Points], labels: dict[int, Labels]) -> Iterator[SeriesGroup]:
    """Series that stand alone, those of equal timestamps in one group."""
    alike: dict[bytes, list[int]] = {}
    for series_id, (timestamps_ms, _) in points.items():
        alike.setdefault(timestamps_ms.tobytes(), []).append(series_id)
    for ids in alike.values():
        values = np.stack([points[series_id][1] for series_id in ids], axis=1)
        yield SeriesGroup(tuple([labels[i] for i in ids]), points[ids[0]][0], values)


def _ragged_points(tiles: TileReader, view: _RaggedView, start_ms: int, end_ms: int) -> dict[int, Points]:
    """Timestamps and values of each series that came one at a time and has samples in the range."""
    wanted: dict[int, list[int]] = {}
    chunks: dict[int, Chunk] = {}
    for series_id, known in view.chunks.items():
        for chunk in known:
            if chunk.start_ms <= end_ms and chunk.end_ms >= start_ms:
                chunks[chunk.id] = chunk
                wanted.setdefault(chunk.id, []).append(series_id)
    parts: dict[int, list[Points]] = {}
    for chunk in sorted(chunks.values(), key=lambda one: (one.group_id == LATE, one.start_ms, one.id)):
        columns = np.array(sorted(chunk.layout.position[series_id] for series_id in wanted[chunk.id]), np.int64)
        ids = chunk.layout.ids[columns]
        found: list[Part] = []
        add_part(found, chunk, ids, columns, tiles.timestamps(chunk), start_ms, end_ms)
        for matrix in gather(found, Wanted(ids), tiles):
            for series_id, points in _columns(matrix):
                parts.setdefault(series_id, []).append(points)
    for series_id, (timestamps_ms, values) in (*view.heads.items(), *view.late.items()):
        first, last = np.searchsorted(timestamps_ms, start_ms), np.searchsorted(timestamps_ms, end_ms, "right")
        if first < last:
            parts.setdefault(series_id, []).append((timestamps_ms[first:last], values[first:last]))
    return {series_id: joined(points) for series_id, points in parts.items()}


def _merge(parts: list[Points]) -> Points:
    """One series from several groups, by time; at equal times a sample beats a marker, an older group a younger."""
    if len(parts) == 1:
        return parts[0]
    timestamps_ms = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    source = np.repeat(np.arange(len(parts)), [len(part[0]) for part in parts])
    order = np.lexsort((source, is_stale(values), timestamps_ms))
    timestamps_ms, values = timestamps_ms[order], values[order]
    first = np.ones(len(values), np.bool_)
    first[1:] = timestamps_ms[1:] != timestamps_ms[:-1]
    return timestamps_ms[first], values[first]
