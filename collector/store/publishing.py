"""How chunks come and go, in steps so small that an append never waits long.

Tiles are staged first: rows of a chunk that is not there yet, which nobody reads. Then the chunk's row is written, the
chunks that it replaces lose theirs and go on the trash list, and the memory changes, all at one moment for readers.
What is left over, tiles of the trash and write-ahead rows that are in tiles, is cleared in small steps. A process
killed in between leaves staged tiles, which the next staging overwrites, trash, or dead rows; all are found again.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from collector.model.series import Int64Array
from collector.store.database import Database
from collector.store.pending import insert_layout
from collector.store.schema import TILE_BITS, WINDOW_BITS
from collector.store.state import Chunk, Layout, State
from collector.store.tiles import ChunkRow, write_row, write_tiles

STEP_BYTES = 256 << 10
"""Tiles that one transaction stages: an append waits for that many bytes at most."""

STEP_ROWS = 100
"""Write-ahead rows that one transaction deletes."""

STEP_TILES = 16
"""Tiles that one transaction deletes."""


@dataclass(frozen=True, slots=True)
class Fresh:
    """A chunk whose tiles are staged: its columns, (series,) ids, and its row."""

    ids: Int64Array
    row: ChunkRow


class Publisher:
    """Stages, shows and clears. Its caller sees to it that one thread does so at a time."""

    def __init__(self, database: Database, state: State) -> None:
        self._database = database
        self._state = state

    def stage(self, number: int, tiles: Iterable[bytes]) -> int:
        """Write the tiles of the next but ``number`` chunk; returns their bytes."""
        chunk_id = self._state.next_chunk + number
        self._clear_tiles(chunk_id, (1 << 62) - 1)
        total = size = first = 0
        waiting: list[bytes] = []
        for tile in tiles:
            waiting.append(tile)
            size += len(tile)
            if size >= STEP_BYTES:
                first, total, size = self._write_tiles(chunk_id, first, waiting), total + size, 0
                waiting = []
        if waiting:
            self._write_tiles(chunk_id, first, waiting)
        return total + size

    def show(
        self,
        fresh: Sequence[Fresh],
        gone: Sequence[Chunk] = (),
        record: Callable[[sqlite3.Connection], None] | None = None,
        forget: Callable[[], None] | None = None,
    ) -> list[Chunk]:
        """Let the staged chunks take the place of those ``gone``, at one moment.

        ``record`` writes what belongs into the same transaction; ``forget`` drops from the heads what is now in tiles,
        under the state's lock.
        """
        state = self._state
        with self._database.write_lock:
            with self._database.transaction() as connection:
                layouts: dict[bytes, Layout] = {}
                chunks = [
                    write_row(connection, state.next_chunk + n, self._layout(connection, one.ids, layouts), one.row)
                    for n, one in enumerate(fresh)
                ]
                connection.executemany("DELETE FROM chunks WHERE id = ?", ((chunk.id,) for chunk in gone))
                connection.executemany("INSERT INTO trash (chunk) VALUES (?)", ((chunk.id,) for chunk in gone))
                if record is not None:
                    record(connection)
            with state.lock:
                if forget is not None:
                    forget()
                state.remove_chunks(gone)
                for chunk in chunks:
                    if chunk.layout.id not in state.layouts_by_id:
                        state.add_layout(chunk.layout)
                    state.add_chunk(chunk)
        self._database.pause()
        return chunks

    def clear_rows(self, group_id: int, until_ms: int, sequence: int) -> None:
        """Delete a group's write-ahead rows of times up to ``until_ms`` and numbers below ``sequence``."""
        query = (
            "DELETE FROM wal WHERE id IN "
            "(SELECT id FROM wal WHERE id >= ? AND id < ? AND timestamp_ms <= ? ORDER BY id LIMIT ?)"
        )
        first, end = group_id << WINDOW_BITS, group_id << WINDOW_BITS | sequence
        count = STEP_ROWS
        while count == STEP_ROWS:
            with self._database.step() as connection:
                count = connection.execute(query, (first, end, until_ms, STEP_ROWS)).rowcount

    def clear_dead(self) -> None:
        """Delete the write-ahead rows that were found dead at open."""
        dead = self._state.dead_rows
        while dead:
            with self._database.step() as connection:
                connection.executemany("DELETE FROM wal WHERE id = ?", ((row_id,) for row_id in dead[-STEP_ROWS:]))
            del dead[-STEP_ROWS:]

    def empty_trash(self) -> None:
        """Delete the tiles of chunks that were replaced or retired."""
        with self._database.reader() as connection:
            chunks = [row[0] for row in connection.execute("SELECT chunk FROM trash")]
        for chunk_id in chunks:
            self._clear_tiles(chunk_id, chunk_id)
            with self._database.step() as connection:
                connection.execute("DELETE FROM trash WHERE chunk = ?", (chunk_id,))

    def _write_tiles(self, chunk_id: int, first: int, tiles: Sequence[bytes]) -> int:
        with self._database.step() as connection:
            write_tiles(connection, chunk_id, first, tiles)
        return first + len(tiles)

    def _clear_tiles(self, first_chunk: int, last_chunk: int) -> None:
        last = (1 << 63) - 1 if last_chunk >= 1 << 46 else (last_chunk + 1 << TILE_BITS) - 1
        find = "SELECT id FROM tiles WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?"
        while True:
            with self._database.reader() as connection:
                ids = connection.execute(find, (first_chunk << TILE_BITS, last, STEP_TILES)).fetchall()
            if not ids:
                return
            with self._database.step() as connection:
                connection.executemany("DELETE FROM tiles WHERE id = ?", ids)

    def _layout(self, connection: sqlite3.Connection, ids: Int64Array, fresh: dict[bytes, Layout]) -> Layout:
        key = ids.tobytes()
        layout = self._state.layouts.get(key) or fresh.get(key)
        if layout is None:
            layout = fresh[key] = Layout.of(self._state.next_layout + len(fresh), ids)
            insert_layout(connection, layout)
        return layout
