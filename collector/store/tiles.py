"""Chunks to rows of the tables and back: one timestamp vector, and tiles of 16 neighbouring columns each."""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from collector.model.series import Float64Array, Int64Array
from collector.store.cache import TileCache
from collector.store.codec import (
    PACKED,
    decode_tile,
    decode_timestamps,
    encode_tile,
    encode_timestamps,
    pack_parts,
    part_of,
)
from collector.store.damage import Damage
from collector.store.errors import CodecError
from collector.store.holes import HOLE, is_hole
from collector.store.schema import TILE_BITS
from collector.store.state import Chunk, Layout

TILE_SERIES = 16
PART_STEPS = 2048
"""Steps that are decoded together: a longer tile is packed from parts, so that an hour of a day costs no day."""

TilePart = Float64Array | npt.NDArray[np.int32] | npt.NDArray[np.int16]
"""Values of a tile, (steps, up to 16): float64 with holes, or integers that equal them."""

_PARTS = 16  # parts of the longest chunk
_TIMESTAMPS = -1  # the tile number under which a chunk's timestamps are cached


class ChunkMoved(Exception):
    """A chunk of the snapshot is gone from the file: retention or a compaction was faster than the reader."""


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A chunk ready to be shown: everything about it but its number and layout. ``size_bytes`` counts its tiles too."""

    group_id: int
    start_ms: int
    end_ms: int
    steps: int
    samples: int
    size_bytes: int
    timestamps: bytes
    resolution_ms: int = 0


def encode_chunk(group_id: int, timestamps_ms: Int64Array, values: Float64Array) -> tuple[ChunkRow, tuple[bytes, ...]]:
    """Encode ``values``, (steps, series) float64 with holes, in the order of its layout: a row and its tiles."""
    columns = values.shape[1]
    tiles = tuple(encode_columns(values[:, first : first + TILE_SERIES]) for first in range(0, columns, TILE_SERIES))
    samples = values.size - int(np.count_nonzero(is_hole(values)))
    return chunk_row(group_id, timestamps_ms, samples, sum(map(len, tiles))), tiles


def encode_columns(values: Float64Array) -> bytes:
    """A tile, (steps, up to 16 columns) float64, in parts where it is long."""
    if len(values) <= PART_STEPS:
        return encode_tile(values)
    return pack_parts([encode_tile(values[first : first + PART_STEPS]) for first in range(0, len(values), PART_STEPS)])


def chunk_row(
    group_id: int, timestamps_ms: Int64Array, samples: int, tile_bytes: int, resolution_ms: int = 0
) -> ChunkRow:
    """The row of a chunk of these timestamps, (steps,)."""
    timestamps = encode_timestamps(timestamps_ms)
    start_ms, end_ms = int(timestamps_ms[0]), int(timestamps_ms[-1])
    size = tile_bytes + len(timestamps)
    return ChunkRow(group_id, start_ms, end_ms, len(timestamps_ms), samples, size, timestamps, resolution_ms)


def write_tiles(connection: sqlite3.Connection, chunk_id: int, first: int, tiles: Sequence[bytes]) -> None:
    """Write tiles from number ``first`` on, inside the caller's transaction."""
    rows = ((chunk_id << TILE_BITS | number, tile) for number, tile in enumerate(tiles, first))
    connection.executemany("INSERT INTO tiles (id, data) VALUES (?, ?)", rows)


def write_row(connection: sqlite3.Connection, chunk_id: int, layout: Layout, row: ChunkRow) -> Chunk:
    """Write a chunk's row, inside the caller's transaction; from then on its tiles count."""
    chunk = Chunk(
        chunk_id,
        row.group_id,
        layout,
        row.start_ms,
        row.end_ms,
        row.steps,
        row.samples,
        row.size_bytes,
        row.resolution_ms,
    )
    connection.execute(
        "INSERT INTO chunks (id, group_id, layout, start_ms, end_ms, steps, samples, bytes, timestamps, resolution_ms) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            chunk.id,
            chunk.group_id,
            layout.id,
            chunk.start_ms,
            chunk.end_ms,
            chunk.steps,
            chunk.samples,
            chunk.bytes,
            row.timestamps,
            chunk.resolution_ms,
        ),
    )
    return chunk


class TileReader:
    """Reads chunks through a cache over one connection; damaged tiles become holes and a line in ``damage``."""

    def __init__(self, connection: sqlite3.Connection, cache: TileCache, damage: Damage) -> None:
        self._connection = connection
        self._cache = cache
        self._damage = damage

    def timestamps(self, chunk: Chunk) -> Int64Array:
        """Timestamps of a chunk, (steps,); none where they are damaged. Raises ChunkMoved."""
        key = (chunk.id, _TIMESTAMPS)
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        try:
            row = self._connection.execute("SELECT timestamps FROM chunks WHERE id = ?", (chunk.id,)).fetchone()
            if row is None:
                raise ChunkMoved
            timestamps_ms = decode_timestamps(row[0])
            if len(timestamps_ms) != chunk.steps:
                raise CodecError(f"{len(timestamps_ms)} timestamps for {chunk.steps} steps")
        except (CodecError, sqlite3.DatabaseError) as error:
            self._damage.add(f"chunk {chunk.id} of group {chunk.group_id}: {error}")
            timestamps_ms = np.empty(0, np.int64)
        self._cache.put(key, timestamps_ms)
        return timestamps_ms

    def tiles(self, chunk: Chunk, numbers: Sequence[int]) -> dict[int, Float64Array]:
        """Whole tiles by number, each (steps, up to 16) float64 with holes. Raises ChunkMoved."""
        parts: dict[int, list[TilePart]] = {number: [] for number in numbers}
        for number, _, part in self.parts(chunk, numbers, 0, chunk.steps):
            parts[number].append(part)
        return {number: np.concatenate(some, dtype=np.float64) for number, some in parts.items()}

    def parts(self, chunk: Chunk, numbers: Sequence[int], first: int, last: int) -> Iterator[tuple[int, int, TilePart]]:
        """Parts of tiles that hold some of the steps from ``first`` to before ``last``.

        For each the tile's number, the part's first step and (steps, up to 16) values. Raises ChunkMoved.
        """
        wanted = range(first // PART_STEPS, -(-last // PART_STEPS))
        found: dict[tuple[int, int], TilePart] = {}
        for key in ((number, part) for number in numbers for part in wanted):
            cached = self._cache.get((chunk.id, key[0] * _PARTS + key[1]))
            if cached is not None:
                found[key] = cached
        missing = sorted({number for number in numbers for part in wanted if (number, part) not in found})
        data = self._read(chunk, missing) if missing else {}
        for number in numbers:
            for part in wanted:
                values = found.get((number, part))
                if values is None:
                    values = self._decode(chunk, number, part, data[number])
                yield number, part * PART_STEPS, values

    def _read(self, chunk: Chunk, numbers: list[int]) -> dict[int, bytes | None]:
        first = chunk.id << TILE_BITS
        marks = ",".join("?" * len(numbers))
        query = f"SELECT id, data FROM tiles WHERE id IN ({marks})"
        try:
            rows = self._connection.execute(query, [first | number for number in numbers]).fetchall()
        except sqlite3.DatabaseError:
            return {number: self._read_one(first | number) for number in numbers}
        data: dict[int, bytes | None] = {int(tile_id) - first: blob for tile_id, blob in rows}
        if len(data) < len(numbers):
            if self._connection.execute("SELECT 1 FROM chunks WHERE id = ?", (chunk.id,)).fetchone() is None:
                raise ChunkMoved
            data.update(dict.fromkeys(set(numbers) - data.keys()))
        return data

    def _read_one(self, tile_id: int) -> bytes | None:
        try:
            row = self._connection.execute("SELECT data FROM tiles WHERE id = ?", (tile_id,)).fetchone()
        except sqlite3.DatabaseError:
            return None
        return row[0] if row else None

    def _decode(self, chunk: Chunk, number: int, part: int, data: bytes | None) -> TilePart:
        columns = min(TILE_SERIES, len(chunk.layout.ids) - number * TILE_SERIES)
        first = part * PART_STEPS
        steps = min(PART_STEPS, chunk.steps - first)
        try:
            if data is None:
                raise CodecError("tile is missing or SQLite cannot read it")
            if data[:1] == bytes([PACKED]):
                tile = decode_tile(part_of(data, part))
            else:  # of format 1 a tile of any length is in one part
                tile = decode_tile(data)
                if tile.shape == (chunk.steps, columns):
                    tile = tile[first : first + steps].copy() if chunk.steps > PART_STEPS else tile
            if tile.shape != (steps, columns):
                raise CodecError(f"tile holds {tile.shape}, its chunk says {(steps, columns)}")
        except CodecError as error:
            self._damage.add(f"chunk {chunk.id} of group {chunk.group_id}, tile {number}: {error}")
            tile = np.full((steps, columns), HOLE)
        small = _narrowed(tile)
        self._cache.put((chunk.id, number * _PARTS + part), small)
        return small


def _narrowed(values: Float64Array) -> TilePart:
    """The same numbers as small integers, where all of them are, bit for bit: a half or a quarter of the memory."""
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int32)
    if not np.array_equal(whole.astype(np.float64).view(np.uint64), values.view(np.uint64)):
        return values
    short = whole.astype(np.int16)
    return short if np.array_equal(short, whole) else whole
