"""Parts of chunks and heads, put below each other into one matrix, some columns at a time.

Bounds the memory of a long range: a matrix of a whole day is made in pieces that stay in the processor's cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.labels import Labels
from collector.model.series import Float64Array, Int64Array
from collector.store.head import Rows
from collector.store.holes import HOLE, is_hole
from collector.store.selection import Place, Wanted
from collector.store.state import Chunk
from collector.store.tiles import TILE_SERIES, TilePart, TileReader

TILES_AT_ONCE = 8
"""Tiles of a chunk that are decoded before they are copied: bounds memory beside the answer and the cache."""


@dataclass(frozen=True, slots=True)
class View:
    """What a query reads of series that share their timestamps: ``chunks``, oldest first, then ``rows`` of the head."""

    chunks: Sequence[Chunk]
    rows: Sequence[Rows]


@dataclass(frozen=True, slots=True)
class Part:
    """Some columns of a chunk or of head rows: ``ids`` (columns,), rows from ``first`` to before ``last``."""

    source: Chunk | Rows
    ids: Int64Array
    columns: Int64Array
    timestamps_ms: Int64Array
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Matrix:
    """``ids`` and ``labels`` (series,), ``timestamps_ms`` (steps,), ``values`` (steps, series), ``holes`` in them?"""

    ids: Int64Array
    labels: tuple[Labels, ...]
    timestamps_ms: Int64Array
    values: Float64Array
    holes: bool


def parts_of(tiles: TileReader, view: View, wanted: Wanted, start_ms: int, end_ms: int) -> list[Part]:
    """The pieces of a view that hold selected columns and steps of ``start_ms <= t <= end_ms``, oldest first."""
    parts: list[Part] = []
    for chunk in view.chunks:
        if chunk.end_ms < start_ms or chunk.start_ms > end_ms:
            continue
        columns, ids = wanted.columns(chunk.layout.ids)
        if len(columns):
            add_part(parts, chunk, ids, columns, tiles.timestamps(chunk), start_ms, end_ms)
    for rows in view.rows:
        columns, ids = wanted.columns(rows.ids)
        if len(columns):
            add_part(parts, rows, ids, columns, rows.timestamps_ms, start_ms, end_ms)
    return parts


def add_part(
    parts: list[Part],
    source: Chunk | Rows,
    ids: Int64Array,
    columns: Int64Array,
    timestamps_ms: Int64Array,
    start_ms: int,
    end_ms: int,
) -> None:
    """Add the part of ``source`` that lies in the range, if any does."""
    first = int(timestamps_ms.searchsorted(start_ms))
    last = int(timestamps_ms.searchsorted(end_ms, "right"))
    if first < last:
        parts.append(Part(source, ids, columns, timestamps_ms[first:last], first, last))


def gather(
    parts: Sequence[Part], wanted: Wanted, tiles: TileReader, most_values: int | None = None
) -> Iterator[Matrix]:
    """Parts below each other over the union of their columns, in matrices of about ``most_values``; None: in one."""
    if not parts:
        return
    union = wanted.union([part.ids for part in parts])
    count = len(union.ids)
    times = [part.timestamps_ms for part in parts]
    timestamps_ms = times[0] if len(times) == 1 else np.concatenate(times)
    width = count
    if most_values is not None:
        width = max(TILE_SERIES, most_values // len(timestamps_ms) // TILE_SERIES * TILE_SERIES)
    for first in range(0, count, width):
        last = min(first + width, count)
        values = np.empty((len(timestamps_ms), last - first), np.float64)
        holes = False
        row = 0
        for part, place in zip(parts, union.places, strict=True):
            out = values[row : row + len(part.timestamps_ms)]
            row += len(out)
            holes |= _fill(tiles, part, place, first, out)
        yield Matrix(union.ids[first:last], union.some(first, last), timestamps_ms, values, holes)


def _fill(tiles: TileReader, part: Part, place: Place, first: int, out: Float64Array) -> bool:
    """Copy what a part has of ``out``, whose columns begin at ``first`` of the union; tell of holes."""
    width = out.shape[1]
    target: Int64Array | slice
    if place is None:
        columns = part.columns[first : first + width]
        target = slice(0, len(columns))
    elif first == 0 and width >= len(place) and int(place.max()) < width:
        columns, target = part.columns, place
    else:
        here = np.flatnonzero((place >= first) & (place < first + width))
        columns, target = part.columns[here], place[here] - first
    holes = part.source.holes
    if len(columns) < width:
        out[:] = HOLE
        holes = True
    if not len(columns):
        return True
    if isinstance(part.source, Rows):
        out[:, target] = part.source.values[part.first : part.last].take(columns, axis=1)
        return holes
    return _read_tiles(tiles, part, part.source, columns, target, out) or holes


def _read_tiles(
    tiles: TileReader, part: Part, chunk: Chunk, columns: Int64Array, target: Int64Array | slice, out: Float64Array
) -> bool:
    """Copy columns of a chunk to the ``target`` columns of ``out``; tell whether damage left holes."""
    tile_of = columns // TILE_SERIES
    edges = np.flatnonzero(tile_of[1:] != tile_of[:-1]) + 1
    begins, ends = [0, *edges.tolist()], [*edges.tolist(), len(columns)]
    numbers = tile_of[begins].tolist()
    bounds = dict(zip(numbers, zip(begins, ends, strict=True), strict=True))
    damaged = False
    for count in range(0, len(numbers), TILES_AT_ONCE):
        some = numbers[count : count + TILES_AT_ONCE]
        for number, step, values in tiles.parts(chunk, some, part.first, part.last):
            begin, end = bounds[number]
            first, last = max(part.first, step), min(part.last, step + len(values))
            block = values[first - step : last - step]
            damaged |= block.dtype == np.float64 and bool(is_hole(block[0]).any())
            if end - begin < block.shape[1]:
                block = _some(block, columns[begin:end] - number * TILE_SERIES)
            rows = slice(first - part.first, last - part.first)
            out[rows, slice(begin, end) if isinstance(target, slice) else target[begin:end]] = block
    return damaged


def _some(block: TilePart, columns: Int64Array) -> TilePart:
    """Some columns, rising; neighbouring ones without a copy."""
    first, last = int(columns[0]), int(columns[-1]) + 1
    if last - first == len(columns):
        return block[:, first:last]
    return block.take(columns, axis=1)
