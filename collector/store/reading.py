"""Answers: series and samples by matcher and time, merged from heads and tiles into one matrix per scrape group.

A snapshot of heads and chunks is taken under the state's lock, then everything is read without it. Series of one
scrape group stay together in one matrix. Series that came one at a time are joined where their timestamps are equal.
A series that several groups know is merged into one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.labels import Labels
from collector.model.matchers import Matcher
from collector.model.series import BoolArray, Float64Array, Int64Array, SeriesGroup, is_stale
from collector.store.cache import TileCache
from collector.store.database import Database
from collector.store.head import Points, Rows, joined
from collector.store.holes import HOLE, fill_holes, is_hole
from collector.store.schema import LATE, RAGGED
from collector.store.state import MANY, NOWHERE, Chunk, State
from collector.store.tiles import TILE_SERIES, ChunkMoved, TileReader

_ATTEMPTS = 5
TILES_AT_ONCE = 8
"""Tiles of a chunk that are decoded before they are copied: bounds memory beside the answer and the cache."""


@dataclass(frozen=True, slots=True)
class _GroupView:
    wanted: Int64Array
    chunks: tuple[Chunk, ...]
    rows: list[Rows]


@dataclass(frozen=True, slots=True)
class _RaggedView:
    wanted: Int64Array
    chunks: dict[int, tuple[Chunk, ...]]
    heads: dict[int, Points]
    late: dict[int, Points]


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What a select reads: label sets by number, scrape groups, ragged series, and the series that several know."""

    labels: dict[int, Labels]
    groups: list[_GroupView]
    ragged: _RaggedView
    shared: Int64Array


@dataclass(frozen=True, slots=True)
class _Part:
    """Some columns of a chunk or of head rows: ``ids`` (columns,), ``rows`` first and last step."""

    source: Chunk | Rows
    ids: Int64Array
    columns: Int64Array
    timestamps_ms: Int64Array
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Matrix:
    """``ids`` (series,), ``timestamps_ms`` (steps,), ``values`` (steps, series) with holes where ``holes``."""

    ids: Int64Array
    timestamps_ms: Int64Array
    values: Float64Array
    holes: bool


class Reader:
    """The reading half of a store. Thread-safe; takes no lock while it decodes."""

    def __init__(self, database: Database, state: State, cache: TileCache) -> None:
        self._database = database
        self._state = state
        self._cache = cache

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[SeriesGroup]:
        """See ``Store.select``."""
        ids = self._state.index.match(matchers)
        for attempt in range(_ATTEMPTS):
            snapshot = self._snapshot(ids)
            try:
                return self._select(snapshot, start_ms, end_ms)
            except ChunkMoved:
                if attempt + 1 == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> tuple[Labels, ...]:
        """See ``Store.series``."""
        snapshot = self._snapshot(self._state.index.match(matchers))
        seen = _seen(snapshot, start_ms, end_ms)
        return tuple(sorted(labels for series_id, labels in snapshot.labels.items() if series_id in seen))

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

    def _ragged_view(self, alone: Int64Array) -> _RaggedView:
        state = self._state
        return _RaggedView(
            alone,
            {i: state.ragged_chunks[i] for i in alone.tolist() if i in state.ragged_chunks},
            {i: points for i in alone.tolist() if (points := state.ragged.points(i)) is not None},
            {i: points for i in alone.tolist() if (points := state.late.points(i)) is not None},
        )

    def _snapshot(self, ids: Int64Array) -> _Snapshot:
        state = self._state
        with state.lock:
            labels = state.index.known(ids.tolist())
            if len(labels) < len(ids):
                ids = np.fromiter(labels, np.int64, len(labels))
            homes = state.homes(ids)
            shared = ids[homes == MANY]
            groups = []
            for number, wanted in _by_group(ids, homes, state.groups_by_id if len(shared) else ()):
                group = state.groups_by_id[number]
                groups.append(_GroupView(wanted, group.chunks, group.head.rows()))
            ragged = self._ragged_view(ids[(homes == RAGGED) | (homes == MANY)])
        return _Snapshot(labels, groups, ragged, shared)

    def _select(self, snapshot: _Snapshot, start_ms: int, end_ms: int) -> list[SeriesGroup]:
        answer: list[SeriesGroup] = []
        pieces: dict[int, list[Points]] = {series_id: [] for series_id in snapshot.shared.tolist()}
        with self._database.reader() as connection:
            tiles = TileReader(connection, self._cache, self._state.damage)
            for view in snapshot.groups:
                matrix = _gather(_parts(tiles, view, start_ms, end_ms), tiles)
                if matrix is not None:
                    _add_group(answer, matrix, pieces, snapshot.labels)
            points = _ragged_points(tiles, snapshot.ragged, start_ms, end_ms)
        for series_id in list(points):
            if series_id in pieces:
                pieces[series_id].append(points.pop(series_id))
        points.update({series_id: _merge(parts) for series_id, parts in pieces.items() if parts})
        _add_ragged(answer, points, snapshot.labels)
        return answer


def _by_group(ids: Int64Array, homes: Int64Array, everywhere: Iterable[int]) -> list[tuple[int, Int64Array]]:
    """Scrape groups with the series to look for in each; those of several groups are looked for ``everywhere``."""
    order = np.argsort(homes, kind="stable")
    numbers, begins = np.unique(homes[order], return_index=True)
    own = dict(zip(numbers.tolist(), np.split(ids[order], begins[1:]), strict=True)) if len(ids) else {}
    shared = own.pop(MANY, None)
    own.pop(NOWHERE, None)
    own.pop(RAGGED, None)
    if shared is None:
        return list(own.items())
    return [(number, np.concatenate([own.get(number, ids[:0]), shared])) for number in everywhere]


def _seen(snapshot: _Snapshot, start_ms: int, end_ms: int) -> set[int]:
    """Series that belong to a chunk or head with samples in the range."""
    seen: set[int] = set()
    for view in snapshot.groups:
        layouts = {c.layout.id: c.layout.ids for c in view.chunks if c.start_ms <= end_ms and c.end_ms >= start_ms}
        for columns in layouts.values():
            seen.update(columns.tolist())
        for rows in view.rows:
            if _overlaps(rows.timestamps_ms, start_ms, end_ms):
                seen.update(rows.ids.tolist())
    for series_id, chunks in snapshot.ragged.chunks.items():
        if any(chunk.start_ms <= end_ms and chunk.end_ms >= start_ms for chunk in chunks):
            seen.add(series_id)
    for series_id, (timestamps_ms, _) in (*snapshot.ragged.heads.items(), *snapshot.ragged.late.items()):
        if _overlaps(timestamps_ms, start_ms, end_ms):
            seen.add(series_id)
    return seen


def _overlaps(timestamps_ms: Int64Array, start_ms: int, end_ms: int) -> bool:
    return bool(np.searchsorted(timestamps_ms, start_ms) < np.searchsorted(timestamps_ms, end_ms, "right"))


def _add_group(
    answer: list[SeriesGroup], matrix: _Matrix, pieces: dict[int, list[Points]], labels: dict[int, Labels]
) -> None:
    """Add a matrix to the answer, less the series that other groups know as well, which go to ``pieces``."""
    ids, values = matrix.ids, matrix.values
    if pieces:
        own = np.array([series_id not in pieces for series_id in ids.tolist()], np.bool_)
        for column in np.flatnonzero(~own).tolist():
            there = ~is_hole(values[:, column])
            if there.any():
                pieces[int(ids[column])].append((matrix.timestamps_ms[there], values[there, column]))
        ids, values = ids[own], values[:, own]
    if matrix.holes:
        some = ~is_hole(values).all(axis=0)
        if not some.all():
            ids, values = ids[some], np.ascontiguousarray(values[:, some])
        fill_holes(values)
    if len(ids):
        answer.append(SeriesGroup(tuple(labels[i] for i in ids.tolist()), matrix.timestamps_ms, values))


def _add_ragged(answer: list[SeriesGroup], points: dict[int, Points], labels: dict[int, Labels]) -> None:
    """Add series that stand alone, those of equal timestamps in one group."""
    alike: dict[bytes, list[int]] = {}
    for series_id, (timestamps_ms, _) in points.items():
        alike.setdefault(timestamps_ms.tobytes(), []).append(series_id)
    for ids in alike.values():
        values = np.stack([points[series_id][1] for series_id in ids], axis=1)
        answer.append(SeriesGroup(tuple(labels[i] for i in ids), points[ids[0]][0], values))


def _parts(tiles: TileReader, view: _GroupView, start_ms: int, end_ms: int) -> list[_Part]:
    """The pieces of one scrape group that hold wanted columns and steps, oldest first."""
    if not len(view.wanted):
        return []
    mask = np.zeros(int(view.wanted.max()) + 1, np.bool_)
    mask[view.wanted] = True
    chosen: dict[int, tuple[Int64Array, Int64Array]] = {}
    parts: list[_Part] = []
    for chunk in view.chunks:
        if chunk.end_ms < start_ms or chunk.start_ms > end_ms:
            continue
        layout = chunk.layout
        if layout.id not in chosen:
            columns = _columns(mask, layout.ids)
            chosen[layout.id] = (columns, layout.ids[columns])
        columns, ids = chosen[layout.id]
        if len(columns):
            _add_part(parts, chunk, ids, columns, tiles.timestamps(chunk), start_ms, end_ms)
    for rows in view.rows:
        columns = _columns(mask, rows.ids)
        if len(columns):
            _add_part(parts, rows, rows.ids[columns], columns, rows.timestamps_ms, start_ms, end_ms)
    return parts


def _columns(mask: BoolArray, ids: Int64Array) -> Int64Array:
    small = ids < len(mask)
    return np.flatnonzero(small & mask[np.where(small, ids, 0)])


def _add_part(
    parts: list[_Part],
    source: Chunk | Rows,
    ids: Int64Array,
    columns: Int64Array,
    timestamps_ms: Int64Array,
    start_ms: int,
    end_ms: int,
) -> None:
    first = int(np.searchsorted(timestamps_ms, start_ms))
    last = int(np.searchsorted(timestamps_ms, end_ms, "right"))
    if first < last:
        parts.append(_Part(source, ids, columns, timestamps_ms[first:last], first, last))


def _gather(parts: list[_Part], tiles: TileReader) -> _Matrix | None:
    """Stack parts below each other over the union of their columns."""
    if not parts:
        return None
    ids, places = _union([part.ids for part in parts])
    values = np.empty((sum(len(part.timestamps_ms) for part in parts), len(ids)), np.float64)
    holes = False
    row = 0
    for part, place in zip(parts, places, strict=True):
        out = values[row : row + len(part.timestamps_ms)]
        row += len(out)
        if len(part.ids) < len(ids):
            out[:] = HOLE
            holes = True
        holes |= part.source.holes
        if isinstance(part.source, Rows):
            block = np.take(part.source.values[part.first : part.last], part.columns, axis=1)
            out[:, slice(0, len(part.ids)) if place is None else place] = block
        else:
            holes |= _read_tiles(tiles, part, part.source, place, out)
    timestamps_ms = np.concatenate([part.timestamps_ms for part in parts])
    return _Matrix(ids, timestamps_ms, values, holes)


def _union(columns: list[Int64Array]) -> tuple[Int64Array, list[Int64Array | None]]:
    """All ids in order of appearance, and for each part where its columns go; None for "the first ones, in order"."""
    first = columns[0]
    others = {id(ids) for ids in columns if ids is not first and not np.array_equal(ids, first)}
    if not others:
        return first, [None] * len(columns)
    position = {series_id: column for column, series_id in enumerate(first.tolist())}
    places: list[Int64Array | None] = []
    for ids in columns:
        if id(ids) not in others:
            places.append(None)
        else:
            places.append(np.array([position.setdefault(i, len(position)) for i in ids.tolist()], np.int64))
    return np.fromiter(position, np.int64, len(position)), places


def _read_tiles(tiles: TileReader, part: _Part, chunk: Chunk, place: Int64Array | None, out: Float64Array) -> bool:
    """Copy a chunk's columns to ``out``; tell whether damage left holes."""
    numbers, begins = np.unique(part.columns // TILE_SERIES, return_index=True)
    ends = [*begins[1:].tolist(), len(part.columns)]
    bounds = dict(zip(numbers.tolist(), zip(begins.tolist(), ends, strict=True), strict=True))
    damaged = False
    for count in range(0, len(numbers), TILES_AT_ONCE):
        some = numbers[count : count + TILES_AT_ONCE].tolist()
        for number, step, values in tiles.parts(chunk, some, part.first, part.last):
            begin, end = bounds[number]
            first, last = max(part.first, step), min(part.last, step + len(values))
            block = values[first - step : last - step]
            damaged |= bool(is_hole(block[0]).any())
            if end - begin < block.shape[1]:
                block = block[:, part.columns[begin:end] - number * TILE_SERIES]
            rows = slice(first - part.first, last - part.first)
            out[rows, slice(begin, end) if place is None else place[begin:end]] = block
    return damaged


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
        found: list[_Part] = []
        _add_part(found, chunk, chunk.layout.ids[columns], columns, tiles.timestamps(chunk), start_ms, end_ms)
        matrix = _gather(found, tiles)
        if matrix is None:
            continue
        for column, series_id in enumerate(matrix.ids.tolist()):
            timestamps_ms, values = matrix.timestamps_ms, matrix.values[:, column]
            if matrix.holes:
                there = ~is_hole(values)
                timestamps_ms, values = timestamps_ms[there], values[there]
            if len(values):
                parts.setdefault(series_id, []).append((timestamps_ms, values))
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
