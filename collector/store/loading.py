"""From file to memory: the catalogue of series, layouts, groups and chunks, then the write-ahead rows into the heads.

A row that cannot be read is noted as damage and skipped; the rest is served.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import orjson

from collector.model.labels import Labels
from collector.model.series import Float64Array, Int64Array
from collector.store.damage import Damage
from collector.store.database import format_of
from collector.store.errors import CodecError
from collector.store.schema import CHUNK_STEPS, LATE, MAX_CHUNKS, MAX_SERIES, RAGGED, WINDOW_BITS
from collector.store.state import Chunk, Group, Layout, State
from collector.store.stats import Metadata
from collector.store.wal import Batch, checksum, decode_batch, decode_scrape

_ROWS_AT_ONCE = 512
_SEQUENCE = (1 << WINDOW_BITS) - 1


@dataclass(frozen=True, slots=True)
class _Row:
    """A write-ahead row as it stands in the table."""

    id: int
    layout_id: int | None
    timestamp_ms: int
    crc: int
    payload: bytes


def load(connection: sqlite3.Connection, damage: Damage) -> State:
    """Build the state; ``connection`` is inside a read transaction, so that it sees one moment."""
    state = State(damage)
    damage.wal_rows = 0
    _load_catalogue(connection, state)
    for row in _wal_rows(connection, state, 0):
        _replay(state, row)
    state.ragged.join()
    return state


def chunk_mark(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Changes whenever chunks come or go: then rows have moved, and a reader has to load anew."""
    mark: tuple[int, ...] = connection.execute("SELECT count(*), max(id), min(id) FROM chunks").fetchone()
    return mark


def load_rows(connection: sqlite3.Connection, state: State) -> None:
    """Bring rows that another process has committed meanwhile into the heads. Under the state's lock."""
    _load_series(connection, state, state.index.next_id)
    _load_layouts(connection, state, state.next_layout)
    _load_groups(connection, state, state.next_group)
    _load_metadata(connection, state)
    sequences = {group.id: group.next_sequence for group in state.groups.values()}
    sequences[RAGGED], sequences[LATE] = state.ragged_sequence, state.late_sequence
    for group_id, sequence in sorted(sequences.items()):
        last = (group_id + 1 << WINDOW_BITS) - 1
        for row in _wal_rows(connection, state, group_id << WINDOW_BITS | sequence, last):
            _replay(state, row)


def _replay(state: State, row: _Row) -> None:
    """Put one write-ahead row into its head, or note why not."""
    group_id, sequence = row.id >> WINDOW_BITS, row.id & _SEQUENCE
    try:
        if not isinstance(row.payload, bytes) or checksum(row.payload) != row.crc or not _whole([row.timestamp_ms]):
            raise CodecError("payload does not match its checksum")
        if group_id == RAGGED:
            live = _replay_batch(state, decode_batch(row.payload))
        elif group_id == LATE:
            live = _replay_late(state, decode_batch(row.payload))
        else:
            live = _replay_scrape(state, group_id, row)
        if live:
            state.damage.wal_rows += 1
        else:
            state.dead_rows.append(row.id)
    except CodecError as error:
        state.damage.add(f"write-ahead row {sequence} of group {group_id} at {row.timestamp_ms} ms: {error}")
    if group_id == RAGGED:
        state.ragged_sequence = max(state.ragged_sequence, sequence + 1)
    elif group_id == LATE:
        state.late_sequence = max(state.late_sequence, sequence + 1)
    elif group_id in state.groups_by_id:
        group = state.groups_by_id[group_id]
        group.next_sequence = max(group.next_sequence, sequence + 1)


def _replay_scrape(state: State, group_id: int, row: _Row) -> bool:
    group = state.groups_by_id.get(group_id)
    if group is None:
        _reserve(state, group_id, row.layout_id)
        raise CodecError("its group is unknown")
    if group.tiles_ms is not None and row.timestamp_ms <= group.tiles_ms:
        return False
    values, vanished = decode_scrape(row.payload)
    layout = state.layouts_by_id.get(row.layout_id) if row.layout_id is not None else None
    if row.layout_id is not None and layout is None:
        _reserve(state, group_id, row.layout_id)
        raise CodecError(f"its layout {row.layout_id} is unknown")
    ids = layout.ids if layout is not None else np.empty(0, np.int64)
    if len(ids) != len(values):
        raise CodecError(f"{len(values)} values for a layout of {len(ids)} series")
    if group.last_ms is not None and row.timestamp_ms <= group.last_ms:
        raise CodecError(f"not after the row before it, {group.last_ms} ms")
    state.settle(ids, group.id)
    state.settle(vanished, group.id)
    group.head.append(ids, vanished, row.timestamp_ms, values)
    group.alive, group.last_ms = layout, row.timestamp_ms
    return True


def _replay_batch(state: State, batch: Batch) -> bool:
    if _repeats(state, batch):
        rows = int(batch.counts[0])
        times, values = batch.timestamps_ms.reshape(-1, rows).T, batch.values.reshape(-1, rows).T
        state.ragged.append_batch(batch.ids.tobytes(), batch.ids, times, values)
        state.last_ms[batch.ids] = times[-1]
        return True
    live = False
    for series_id, timestamps_ms, values in _runs(state, batch):
        later = int(np.searchsorted(timestamps_ms, state.last_ms[series_id], "right"))  # the others are in tiles
        if later < len(values):
            live = True
            state.ragged.append(series_id, timestamps_ms[later:], values[later:])
            state.last_ms[series_id] = timestamps_ms[-1]
    return live


def _repeats(state: State, batch: Batch) -> bool:
    """Whether a batch is of the series of the one before, as many samples of each, all of them later."""
    key = batch.ids.tobytes()
    repeats = key == state.last_batch or state.ragged.knows(key)
    state.last_batch = key
    if not repeats or (batch.counts != batch.counts[0]).any() or not all(map(state.index.has, batch.ids.tolist())):
        return False
    times = batch.timestamps_ms.reshape(len(batch.ids), -1)
    return bool((times[:, 0] > state.last_ms[batch.ids]).all() and (times[:, 1:] > times[:, :-1]).all())


def _replay_late(state: State, batch: Batch) -> bool:
    for series_id, timestamps_ms, values in _runs(state, batch):
        state.late.append(series_id, timestamps_ms, values)
    return True


def _runs(state: State, batch: Batch) -> Iterator[tuple[int, Int64Array, Float64Array]]:
    """A batch series by series, those that are unknown noted and left out."""
    if int(batch.ids.max(initial=0)) < MAX_SERIES:
        state.cover(batch.ids)
    known = []
    ends = np.cumsum(batch.counts)
    for series_id, first, last in zip(batch.ids.tolist(), (ends - batch.counts).tolist(), ends.tolist(), strict=True):
        if state.index.has(series_id):
            known.append(series_id)
            yield series_id, batch.timestamps_ms[first:last], batch.values[first:last]
        else:
            count = last - first
            state.index.reserve(min(series_id, MAX_SERIES - 1))
            state.damage.add(f"a write-ahead row has {count} samples of series {series_id}, which is unknown")
    state.settle(np.array(known, np.int64), RAGGED)


def _wal_rows(connection: sqlite3.Connection, state: State, first: int, last: int = (1 << 63) - 1) -> Iterator[_Row]:
    """Rows by number; a page of rows that SQLite cannot read is read row by row, and the unreadable are noted."""
    query = "SELECT id, layout, timestamp_ms, crc, payload FROM wal WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
    while True:
        try:
            rows = connection.execute(query, (first, last, _ROWS_AT_ONCE)).fetchall()
        except sqlite3.DatabaseError as error:
            rows = list(_one_by_one(connection, state, first, last, error))
        for row in rows:
            yield _Row(*row)
        if len(rows) < _ROWS_AT_ONCE:
            return
        first = rows[-1][0] + 1


def _one_by_one(
    connection: sqlite3.Connection, state: State, first: int, last: int, error: sqlite3.DatabaseError
) -> Iterator[tuple[int, int | None, int, int, bytes]]:
    try:
        ids = [row[0] for row in connection.execute("SELECT id FROM wal WHERE id BETWEEN ? AND ?", (first, last))]
    except sqlite3.DatabaseError:
        state.damage.add(f"write-ahead rows from {first} on cannot be read: {error}")
        return
    for row_id in ids:
        query = "SELECT id, layout, timestamp_ms, crc, payload FROM wal WHERE id = ?"
        try:
            yield connection.execute(query, (row_id,)).fetchone()
        except sqlite3.DatabaseError as row_error:
            group_id, sequence = row_id >> WINDOW_BITS, row_id & _SEQUENCE
            state.damage.add(f"write-ahead row {sequence} of group {group_id}: {row_error}")


def _load_catalogue(connection: sqlite3.Connection, state: State) -> None:
    _load_series(connection, state, 0)
    _load_layouts(connection, state, 0)
    _load_groups(connection, state, 0)
    resolution = "resolution_ms" if format_of(connection) > 1 else "0"
    columns = f"id, group_id, layout, start_ms, end_ms, steps, samples, bytes, {resolution}"
    query = f"SELECT {columns} FROM chunks ORDER BY group_id, start_ms, id"
    for row in connection.execute(query):
        chunk_id, group_id, layout_id, start_ms, end_ms, steps, samples, size, resolution_ms = row
        layout = state.layouts_by_id.get(layout_id)
        if layout is None or (group_id not in (RAGGED, LATE) and group_id not in state.groups_by_id):
            state.damage.add(f"chunk {chunk_id}: its group {group_id} or layout {layout_id} is unknown")
            _reserve(state, group_id, layout_id)
        elif not (_whole(row) and 0 < chunk_id < MAX_CHUNKS and 0 < steps <= CHUNK_STEPS and start_ms <= end_ms):
            state.damage.add(f"chunk {chunk_id}: its row is damaged: {row}")
        else:
            state.add_chunk(Chunk(chunk_id, group_id, layout, start_ms, end_ms, steps, samples, size, resolution_ms))
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'").fetchone()
    if last is not None and _whole(last) and 0 < last[0] < MAX_CHUNKS:
        state.next_chunk = max(state.next_chunk, last[0] + 1)
    _load_metadata(connection, state)


def _reserve(state: State, group_id: object, layout_id: object) -> None:
    """Give no other group or layout a number that a row refers to, though the group or layout itself be lost."""
    if isinstance(group_id, int) and 0 < group_id < LATE:
        state.next_group = max(state.next_group, group_id + 1)
    if isinstance(layout_id, int) and 0 < layout_id < MAX_SERIES:
        state.next_layout = max(state.next_layout, layout_id + 1)


def _load_metadata(connection: sqlite3.Connection, state: State) -> None:
    for metric, kind, help_text, unit in connection.execute("SELECT metric, type, help, unit FROM metadata"):
        state.metadata[metric] = Metadata(kind, help_text, unit)


def _whole(row: Sequence[object]) -> bool:
    return all(isinstance(value, int) for value in row)


def _load_series(connection: sqlite3.Connection, state: State, first: int) -> None:
    series: list[tuple[int, Labels]] = []
    for series_id, text in connection.execute(
        "SELECT id, CAST(labels AS BLOB) FROM series WHERE id >= ? ORDER BY id", (first,)
    ):
        try:
            if not 0 < series_id < MAX_SERIES:
                raise ValueError("its number is damaged")
            series.append((series_id, tuple((str(name), str(value)) for name, value in orjson.loads(text))))
        except (ValueError, TypeError) as error:
            state.damage.add(f"labels of series {series_id} cannot be read: {error}")
    state.index.add(series)


def _load_layouts(connection: sqlite3.Connection, state: State, first: int) -> None:
    for layout_id, blob in connection.execute("SELECT id, series FROM layouts WHERE id >= ? ORDER BY id", (first,)):
        ids = np.frombuffer(blob, "<u4").astype(np.int64) if isinstance(blob, bytes) and len(blob) % 4 == 0 else None
        if ids is None or not len(ids) or ids.max() >= MAX_SERIES or len(np.unique(ids)) < len(ids):
            state.damage.add(f"layout {layout_id} is no list of series")
        else:
            state.add_layout(Layout.of(layout_id, ids))
            state.index.reserve(int(ids.max()))


def _load_groups(connection: sqlite3.Connection, state: State, first: int) -> None:
    query = "SELECT id, CAST(key AS BLOB), layout, last_ms FROM groups WHERE id >= ? ORDER BY id"
    for group_id, key, layout_id, last_ms in connection.execute(query, (first,)):
        try:
            group = Group(group_id, key.decode())
        except UnicodeDecodeError:
            group = Group(LATE, "")
        if not (0 < group.id < LATE and isinstance(last_ms, int | None)):
            state.damage.add(f"group {group_id}: its row is damaged: {(key, layout_id, last_ms)}")
            continue
        _reserve(state, group_id, layout_id)
        group.alive = state.layouts_by_id.get(layout_id) if layout_id is not None else None
        group.last_ms = group.tiles_ms = last_ms
        state.add_group(group)
