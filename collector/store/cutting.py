"""The cut: samples of past windows go from the heads into tiles, and then their write-ahead rows go.

Encoding happens beside appends and holds no lock; what an append can be held up by is one small step of
``publishing``. What arrives while a cut runs stays in the heads for the next one.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from collector.model.series import Float64Array, Int64Array
from collector.store.head import Points, Rows
from collector.store.holes import HOLE
from collector.store.publishing import Fresh, Publisher
from collector.store.schema import CHUNK_STEPS, LATE, RAGGED, WINDOW_BITS
from collector.store.state import Group, State
from collector.store.tiles import encode_chunk

SETTLE_MS = 60_000
"""A window is cut this long after its end (a tenth of a window if that is less), so that late scrapes are in it."""

CHUNKS_AT_ONCE = 32
"""Chunks of single series that are shown in one transaction."""


class Cutter:
    """Cuts windows of ``block_ms``. Its caller sees to it that one thread does so at a time."""

    def __init__(self, state: State, publisher: Publisher, block_ms: int) -> None:
        self._state = state
        self._publisher = publisher
        self._block_ms = block_ms

    def cut(self, now_ms: int) -> int:
        """Move samples of windows that ended some time before ``now_ms`` into tiles; returns how many."""
        self._publisher.clear_dead()
        boundary_ms = self.settled(now_ms, self._block_ms)
        with self._state.lock:
            groups = list(self._state.groups.values())
        moved = sum(self._cut_group(group, boundary_ms) for group in groups)
        return moved + self._cut_ragged(boundary_ms) + self._cut_late(boundary_ms)

    @staticmethod
    def settled(now_ms: int, window_ms: int) -> int:
        """End of the last window of that length that may be put into tiles at ``now_ms``."""
        return (now_ms - min(SETTLE_MS, window_ms // 10)) // window_ms * window_ms

    def _cut_group(self, group: Group, boundary_ms: int) -> int:
        state = self._state
        with state.lock:
            parts = [before for rows in group.head.rows() if (before := _before(rows, boundary_ms)) is not None]
        if not parts:
            return 0
        ids = state.sorted_ids(np.unique(np.concatenate([part.ids for part in parts])))
        timestamps_ms = np.concatenate([part.timestamps_ms for part in parts])
        last_ms = int(timestamps_ms[-1])
        values = _stack(parts, ids)
        fresh = []
        for number, (first, last) in enumerate(_slices(timestamps_ms, self._block_ms)):
            row, tiles = encode_chunk(group.id, timestamps_ms[first:last], values[first:last])
            self._publisher.stage(number, tiles)
            fresh.append(Fresh(ids, row))

        def record(connection: sqlite3.Connection) -> None:
            row = (group.alive.id if group.alive is not None else None, last_ms, group.id)
            connection.execute("UPDATE groups SET layout = ?, last_ms = ? WHERE id = ?", row)

        def forget() -> None:
            group.head.drop_before(last_ms + 1)
            group.tiles_ms = last_ms

        chunks = self._publisher.show(fresh, record=record, forget=forget)
        self._publisher.clear_rows(group.id, last_ms, group.next_sequence)
        return sum(chunk.samples for chunk in chunks)

    def _cut_ragged(self, boundary_ms: int) -> int:
        state = self._state
        with state.lock:
            points = {i: found for i in state.ragged.ids() if (found := state.ragged.points(i)) is not None}
            sequence = state.ragged_sequence
        chunks = self._alike(points, boundary_ms)
        moved = 0
        for first in range(0, len(chunks), CHUNKS_AT_ONCE):
            fresh = [
                self._stage(RAGGED, number, chunk)
                for number, chunk in enumerate(chunks[first : first + CHUNKS_AT_ONCE])
            ]

            def forget(shown: Sequence[Fresh] = fresh) -> None:
                for one in shown:
                    state.ragged.drop_until(one.ids.tolist(), one.row.end_ms)

            moved += sum(chunk.samples for chunk in self._publisher.show(fresh, forget=forget))
        if chunks:
            with state.lock:
                state.ragged.shrink()
            self._publisher.clear_rows(RAGGED, boundary_ms - 1, sequence)
        return moved

    def _cut_late(self, boundary_ms: int) -> int:
        """Late samples go all at once, with their rows, so that each is in a row or in a tile, never in both."""
        state = self._state
        with state.lock:
            points = state.late.all()
            sequence = state.late_sequence
        if not any(timestamps_ms[0] < boundary_ms for timestamps_ms, _ in points.values()):
            return 0
        fresh = [self._stage(LATE, number, chunk) for number, chunk in enumerate(self._alike(points, 1 << 62))]

        def record(connection: sqlite3.Connection) -> None:
            ids = (LATE << WINDOW_BITS, LATE << WINDOW_BITS | sequence)
            connection.execute("DELETE FROM wal WHERE id >= ? AND id < ?", ids)

        def forget() -> None:
            state.late.drop(points)

        return sum(chunk.samples for chunk in self._publisher.show(fresh, record=record, forget=forget))

    def _alike(self, points: dict[int, Points], boundary_ms: int) -> list[tuple[Int64Array, dict[int, Float64Array]]]:
        """Samples before the boundary, by window: series of equal timestamps together, oldest first."""
        alike: dict[bytes, tuple[Int64Array, dict[int, Float64Array]]] = {}
        for series_id, (timestamps_ms, values) in points.items():
            before = timestamps_ms[: np.searchsorted(timestamps_ms, boundary_ms)]
            for first, last in _slices(before, self._block_ms):
                times = before[first:last]
                alike.setdefault(times.tobytes(), (times, {}))[1][series_id] = values[first:last]
        return sorted(alike.values(), key=lambda chunk: int(chunk[0][0]))

    def _stage(self, group_id: int, number: int, chunk: tuple[Int64Array, dict[int, Float64Array]]) -> Fresh:
        timestamps_ms, columns = chunk
        ids = self._state.sorted_ids(np.fromiter(columns, np.int64, len(columns)))
        row, tiles = encode_chunk(group_id, timestamps_ms, np.stack([columns[i] for i in ids.tolist()], axis=1))
        self._publisher.stage(number, tiles)
        return Fresh(ids, row)


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
