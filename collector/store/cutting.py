"""The cut: samples of past windows go from the heads into tiles, and their write-ahead rows go in the same transaction.

Encoding happens beside appends and holds no lock. One group is one transaction, so an append waits for one group's
insertion at most. Retention and the return of unused pages are here too.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock

import numpy as np

from collector.model.series import Float64Array, Int64Array
from collector.store.appending import insert_layout
from collector.store.database import Database
from collector.store.head import Rows
from collector.store.holes import HOLE
from collector.store.schema import CHUNK_STEPS, RAGGED, WINDOW_BITS
from collector.store.state import Chunk, Group, Layout, State
from collector.store.tiles import EncodedChunk, delete_chunk, encode_chunk, write_chunk

VACUUM_PAGES = 1024
"""Pages given back per transaction: an append waits for that many at most."""

SETTLE_MS = 60_000
"""A window is cut this long after its end (a tenth of a window if that is less), so that late scrapes are in it."""

_SPARE = 0.02


@dataclass(frozen=True, slots=True)
class Limits:
    """Length of a window, and what is kept: by age and by bytes; None keeps everything."""

    block_ms: int
    retention_ms: int | None
    retention_bytes: int | None


class Cutter:
    """Cuts, retains and tidies. One of its methods runs at a time, in whatever thread; appends and reads go on."""

    def __init__(self, database: Database, state: State, limits: Limits) -> None:
        self._database = database
        self._state = state
        self._limits = limits
        self._lock = Lock()

    def cut(self, now_ms: int) -> int:
        """Move samples of windows that ended some time before ``now_ms`` into tiles; returns how many."""
        block_ms = self._limits.block_ms
        boundary_ms = (now_ms - min(SETTLE_MS, block_ms // 10)) // block_ms * block_ms
        with self._lock:
            with self._state.lock:
                groups = list(self._state.groups.values())
            moved = sum(self._cut_group(group, boundary_ms) for group in groups)
            return moved + self._cut_ragged(boundary_ms)

    def retain(self, now_ms: int) -> int:
        """Delete chunks past the limits, then series that nothing refers to; returns how many chunks."""
        with self._lock:
            gone = self._expired(now_ms)
            for first in range(0, len(gone), 64):
                some = gone[first : first + 64]
                with self._database.write_lock:
                    with self._database.transaction() as connection:
                        for chunk in some:
                            delete_chunk(connection, chunk.id)
                    with self._state.lock:
                        self._state.remove_chunks(some)
            if gone:
                self._forget_unused()
            return len(gone)

    def tidy(self) -> None:
        """Checkpoint SQLite's log and give unused pages back, but for a few that the next appends need."""
        with self._lock:
            pages, unused = self._database.pages()
            surplus = unused - int(pages * _SPARE)
            while surplus > 0:
                self._database.vacuum(min(surplus, VACUUM_PAGES))
                surplus -= VACUUM_PAGES
            self._database.checkpoint()

    def _cut_group(self, group: Group, boundary_ms: int) -> int:
        state = self._state
        with state.lock:
            parts = [before for rows in group.head.rows() if (before := _before(rows, boundary_ms)) is not None]
        if not parts:
            return 0
        ids = state.sorted_ids(np.unique(np.concatenate([part.ids for part in parts])))
        timestamps_ms = np.concatenate([part.timestamps_ms for part in parts])
        values = _stack(parts, ids)
        encoded = [
            (ids, encode_chunk(group.id, timestamps_ms[first:last], values[first:last]))
            for first, last in _slices(timestamps_ms, self._limits.block_ms)
        ]
        with self._database.write_lock:
            with self._database.transaction() as connection:
                chunks = self._write(connection, encoded)
                _delete_rows(connection, group.id, boundary_ms)
                row = (group.alive.id if group.alive is not None else None, int(timestamps_ms[-1]), group.id)
                connection.execute("UPDATE groups SET layout = ?, last_ms = ? WHERE id = ?", row)
            with state.lock:
                group.head.drop_before(boundary_ms)
                self._publish(chunks)
        return sum(chunk.samples for chunk in chunks)

    def _cut_ragged(self, boundary_ms: int) -> int:
        state = self._state
        with state.lock:
            points = {i: found for i in state.ragged.ids() if (found := state.ragged.points(i)) is not None}
        alike: dict[bytes, tuple[Int64Array, list[int], list[Float64Array]]] = {}
        for series_id, (timestamps_ms, values) in points.items():
            before = timestamps_ms[: np.searchsorted(timestamps_ms, boundary_ms)]
            for first, last in _slices(before, self._limits.block_ms):
                times = before[first:last]
                _, members, columns = alike.setdefault(times.tobytes(), (times, [], []))
                members.append(series_id)
                columns.append(values[first:last])
        if not alike:
            return 0
        encoded = []
        for times, members, columns in alike.values():
            column_of = dict(zip(members, columns, strict=True))
            ids = state.sorted_ids(np.array(members, np.int64))
            matrix = np.stack([column_of[series_id] for series_id in ids.tolist()], axis=1)
            encoded.append((ids, encode_chunk(RAGGED, times, matrix)))
        encoded.sort(key=lambda pair: pair[1].start_ms)
        with self._database.write_lock:
            with self._database.transaction() as connection:
                chunks = self._write(connection, encoded)
                _delete_rows(connection, RAGGED, boundary_ms)
            with state.lock:
                state.ragged.drop_before(boundary_ms)
                self._publish(chunks)
        return sum(chunk.samples for chunk in chunks)

    def _write(self, connection: sqlite3.Connection, encoded: Sequence[tuple[Int64Array, EncodedChunk]]) -> list[Chunk]:
        """Insert chunks and the layouts that they need; nothing in memory changes. Under the write lock."""
        state = self._state
        fresh: dict[bytes, Layout] = {}
        chunks = []
        for number, (ids, chunk) in enumerate(encoded):
            key = ids.tobytes()
            layout = state.layouts.get(key) or fresh.get(key)
            if layout is None:
                layout = fresh[key] = Layout.of(state.next_layout + len(fresh), ids)
                insert_layout(connection, layout)
            chunks.append(write_chunk(connection, state.next_chunk + number, layout, chunk))
        return chunks

    def _publish(self, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:
            if chunk.layout.id not in self._state.layouts_by_id:
                self._state.add_layout(chunk.layout)
            self._state.add_chunk(chunk)

    def _expired(self, now_ms: int) -> list[Chunk]:
        with self._state.lock:
            chunks = sorted(self._state.chunks(), key=lambda chunk: (chunk.end_ms, chunk.id))
        limits = self._limits
        oldest_ms = now_ms - limits.retention_ms if limits.retention_ms is not None else None
        gone = [chunk for chunk in chunks if oldest_ms is not None and chunk.end_ms < oldest_ms]
        if limits.retention_bytes is not None:
            kept = chunks[len(gone) :]
            size = sum(chunk.bytes for chunk in kept)
            for chunk in kept:
                if size <= limits.retention_bytes:
                    break
                gone.append(chunk)
                size -= chunk.bytes
        return gone

    def _forget_unused(self) -> None:
        """Drop series, layouts and groups that no chunk, head or living target refers to."""
        state = self._state
        with self._database.write_lock:
            with state.lock:
                layouts = {chunk.layout.id: chunk.layout for chunk in state.chunks()}
                groups = {group.id: group for group in state.groups.values()}
                layouts.update({g.alive.id: g.alive for g in groups.values() if g.alive is not None})
                used = {i for layout in layouts.values() for i in layout.ids.tolist()} | set(state.ragged.ids())
                for group in groups.values():
                    used.update(i for rows in group.head.rows() for i in rows.ids.tolist())
            series = sorted(state.index.all_ids() - used)
            idle = [g for g in groups.values() if not g.chunks and g.alive is None and not g.head.segments]
            with self._database.transaction() as connection:
                in_wal = {row[0] for row in connection.execute("SELECT DISTINCT layout FROM wal")}
                unused = [layout for layout in state.layouts.values() if layout.id not in in_wal | layouts.keys()]
                connection.executemany("DELETE FROM series WHERE id = ?", ((i,) for i in series))
                connection.executemany("DELETE FROM layouts WHERE id = ?", ((layout.id,) for layout in unused))
                connection.executemany("DELETE FROM groups WHERE id = ?", ((group.id,) for group in idle))
            with state.lock:
                state.forget(series, unused, idle)


def _before(rows: Rows, boundary_ms: int) -> Rows | None:
    length = int(np.searchsorted(rows.timestamps_ms, boundary_ms))
    return Rows(rows.ids, rows.timestamps_ms[:length], rows.values[:length], rows.holes) if length else None


def _slices(timestamps_ms: Int64Array, block_ms: int) -> Iterator[tuple[int, int]]:
    """First and last row of each chunk: one window, and no more than CHUNK_STEPS of it."""
    edges = [0, *(np.flatnonzero(np.diff(timestamps_ms // block_ms)) + 1).tolist(), len(timestamps_ms)]
    for first, last in pairwise(edges):
        for begin in range(first, last, CHUNK_STEPS):
            yield begin, min(begin + CHUNK_STEPS, last)


def _stack(parts: Sequence[Rows], ids: Int64Array) -> Float64Array:
    """Rows below each other over the columns ``ids``, holes where a part lacks a column."""
    place = {series_id: column for column, series_id in enumerate(ids.tolist())}
    values = np.full((sum(len(part.timestamps_ms) for part in parts), len(ids)), HOLE)
    row = 0
    for part in parts:
        known = [(column, place[i]) for column, i in enumerate(part.ids.tolist()) if i in place]
        there, here = np.array(known, np.int64).reshape(-1, 2).T
        values[row : row + len(part.timestamps_ms), here] = part.values[:, there]
        row += len(part.timestamps_ms)
    return values


def _delete_rows(connection: sqlite3.Connection, group_id: int, boundary_ms: int) -> None:
    first, last = group_id << WINDOW_BITS, (group_id + 1 << WINDOW_BITS) - 1
    connection.execute("DELETE FROM wal WHERE id BETWEEN ? AND ? AND timestamp_ms < ?", (first, last, boundary_ms))
