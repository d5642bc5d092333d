"""Compaction: cut windows are joined by fours, those of a past day become one, and long ago few steps are kept.

Tiles are read, joined and encoded 16 columns at a time, so memory is bounded whatever the number of series. A chunk
with damage is left as it is. Downsampling computes nothing: the steps that stay are samples as they were scraped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.labels import METRIC_NAME, get
from collector.model.series import BoolArray, Float64Array, Int64Array, is_stale
from collector.store.cache import TileCache
from collector.store.cutting import Cutter
from collector.store.damage import Damage
from collector.store.database import Database
from collector.store.errors import CodecError
from collector.store.holes import HOLE, is_hole
from collector.store.publishing import Fresh, Publisher
from collector.store.schema import CHUNK_STEPS, LATE, RAGGED
from collector.store.state import Chunk, State
from collector.store.tiles import TILE_SERIES, TileReader, chunk_row, encode_columns

COMPACT_MS = 86_400_000
DOWNSAMPLE_MS = 300_000
JOINED_WINDOWS = 4
"""Cut windows that become one before the day is over, so that what is read of a day is few chunks."""

READ_BYTES = 16 << 20
"""Decoded tiles that are held while chunks are joined."""

_COUNTER_ENDINGS = ("_total", "_sum", "_count", "_bucket")


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring chunks of one group that become one of ``resolution_ms``."""

    chunks: tuple[Chunk, ...]
    resolution_ms: int


class Compactor:
    """Joins and thins out chunks. Its caller sees to it that one thread does so at a time."""

    def __init__(
        self,
        database: Database,
        state: State,
        publisher: Publisher,
        block_ms: int,
        compact_ms: int,
        downsample_after_ms: int | None,
    ) -> None:
        self._database = database
        self._state = state
        self._publisher = publisher
        few_ms = block_ms * JOINED_WINDOWS
        self._windows_ms = (compact_ms,) if compact_ms % few_ms else (compact_ms, few_ms)
        self._downsample_after_ms = downsample_after_ms
        self._damaged: set[int] = set()

    def compact(self, now_ms: int) -> int:
        """Join and thin out what is old enough; returns how many chunks were replaced."""
        replaced = 0
        for window_ms in self._windows_ms:
            with self._state.lock:
                chunks = self._state.chunks()
            for run in _runs(chunks, window_ms, Cutter.settled(now_ms, window_ms)):
                replaced += self._replace(run)
        if self._downsample_after_ms is not None:
            oldest_ms = now_ms - self._downsample_after_ms
            with self._state.lock:
                chunks = self._state.chunks()
            for chunk in chunks:
                if chunk.end_ms < oldest_ms and not chunk.resolution_ms and chunk.group_id != LATE:
                    replaced += self._replace(_Run((chunk,), DOWNSAMPLE_MS))
        return replaced

    def _replace(self, run: _Run) -> int:
        if self._damaged.intersection(chunk.id for chunk in run.chunks):
            return 0
        try:
            fresh = self._joined(run)
        except CodecError as error:
            self._damaged.update(chunk.id for chunk in run.chunks)
            self._state.damage.add(str(error))
            return 0
        self._publisher.show([fresh], run.chunks)
        return len(run.chunks)

    def _joined(self, run: _Run) -> Fresh:
        """Stage the tiles of the run's chunk. Raises CodecError where a part is damaged."""
        first = run.chunks[0]
        ids = first.layout.ids
        if any(chunk.layout is not first.layout for chunk in run.chunks):
            ids = self._state.sorted_ids(np.unique(np.concatenate([chunk.layout.ids for chunk in run.chunks])))
        samples = 0
        with self._database.reader() as connection:
            damage = Damage()
            columns = _Columns(TileReader(connection, TileCache(READ_BYTES), damage), damage, run.chunks)
            timestamps_ms = columns.timestamps()
            kept = self._kept(columns, timestamps_ms, ids) if run.resolution_ms else None

            def tiles() -> Iterator[bytes]:
                nonlocal samples
                for place in range(0, len(ids), TILE_SERIES):
                    values = columns.values(ids[place : place + TILE_SERIES])
                    values = values if kept is None else values[kept]
                    samples += values.size - int(np.count_nonzero(is_hole(values)))
                    yield encode_columns(values)

            size = self._publisher.stage(0, tiles())
        times = timestamps_ms if kept is None else timestamps_ms[kept]
        return Fresh(ids, chunk_row(first.group_id, times, samples, size, run.resolution_ms))

    def _kept(self, columns: "_Columns", timestamps_ms: Int64Array, ids: Int64Array) -> BoolArray:
        """Steps that stay, (steps,): see FORMAT.md."""
        bucket = timestamps_ms // DOWNSAMPLE_MS
        kept = np.ones(len(bucket), np.bool_)
        kept[1:-1] = (bucket[1:-1] != bucket[:-2]) | (bucket[1:-1] != bucket[2:])
        for place in range(0, len(ids), TILE_SERIES):
            some = ids[place : place + TILE_SERIES]
            values = columns.values(some)
            for column, series_id in enumerate(some.tolist()):
                keep_edges(np.ascontiguousarray(values[:, column]), self._is_counter(series_id), kept)
        return kept

    def _is_counter(self, series_id: int) -> bool:
        name = get(self._state.index.known([series_id]).get(series_id, ()), METRIC_NAME)
        metadata = self._state.metadata.get(name)
        return name.endswith(_COUNTER_ENDINGS) or (metadata is not None and metadata.type == "counter")


class _Columns:
    """Columns of several chunks below each other."""

    def __init__(self, tiles: TileReader, damage: Damage, chunks: Sequence[Chunk]) -> None:
        self._tiles = tiles
        self._damage = damage
        self._chunks = chunks

    def timestamps(self) -> Int64Array:
        """Their timestamps, (steps,)."""
        timestamps_ms = np.concatenate([self._tiles.timestamps(chunk) for chunk in self._chunks])
        self._check()
        return timestamps_ms

    def values(self, ids: Int64Array) -> Float64Array:
        """(steps, series) values of ``ids``, holes where a chunk does not know one."""
        parts = [self._part(chunk, ids.tolist()) for chunk in self._chunks]
        self._check()
        return np.concatenate(parts)

    def _part(self, chunk: Chunk, ids: list[int]) -> Float64Array:
        values = np.full((chunk.steps, len(ids)), HOLE)
        places = [(column, chunk.layout.position[i]) for column, i in enumerate(ids) if i in chunk.layout.position]
        tiles = self._tiles.tiles(chunk, sorted({place // TILE_SERIES for _, place in places}))
        for column, place in places:
            values[:, column] = tiles[place // TILE_SERIES][:, place % TILE_SERIES]
        return values

    def _check(self) -> None:
        if self._damage.count:
            raise CodecError(self._damage.report().problems[0])


def keep_edges(values: Float64Array, counter: bool, kept: BoolArray) -> None:
    """Add to ``kept`` (steps,) where a column starts, goes stale, or, being a counter, falls: both sides of it."""
    holes = is_hole(values)
    kept |= is_stale(values)
    kept[1:] |= holes[:-1] & ~holes[1:]
    if counter:
        there = np.flatnonzero(~np.isnan(values))
        falls = np.flatnonzero(values[there[1:]] < values[there[:-1]])
        kept[there[falls]] = kept[there[falls + 1]] = True


def _runs(chunks: Sequence[Chunk], window_ms: int, boundary_ms: int) -> list[_Run]:
    """Chunks before the boundary that may become one: of one group, window, resolution; pushed ones of one layout."""
    alike: dict[tuple[int, ...], list[Chunk]] = {}
    for chunk in chunks:
        window = chunk.start_ms // window_ms
        if (window + 1) * window_ms <= boundary_ms:
            layout = chunk.layout.id if chunk.group_id in (RAGGED, LATE) else 0
            alike.setdefault((chunk.group_id, window, chunk.resolution_ms, layout), []).append(chunk)
    runs = []
    for some in alike.values():
        run: list[Chunk] = []
        for chunk in sorted(some, key=lambda one: (one.start_ms, one.id)):
            if run and (sum(one.steps for one in run) + chunk.steps > CHUNK_STEPS or chunk.start_ms <= run[-1].end_ms):
                runs.append(_Run(tuple(run), run[0].resolution_ms))
                run = []
            run.append(chunk)
        runs.append(_Run(tuple(run), run[0].resolution_ms))
    return [run for run in runs if len(run.chunks) > 1]
