"""The store of one data directory: what the rest of the collector calls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType

from collector.model.errors import StoreError
from collector.model.exemplars import Exemplar
from collector.model.labels import Labels, get
from collector.model.matchers import Matcher
from collector.model.series import Float64Array, Int64Array, Series, SeriesGroup
from collector.store.appending import Appender
from collector.store.cache import TileCache
from collector.store.compacting import COMPACT_MS
from collector.store.database import Database, Synchronous
from collector.store.exemplars import ExemplarRing
from collector.store.loading import chunk_mark, load, load_rows
from collector.store.pushing import Pusher
from collector.store.reading import Reader
from collector.store.retaining import Retention
from collector.store.stats import AppendResult, Metadata, StoreStats
from collector.store.tiles import ChunkMoved
from collector.store.upkeep import Upkeep, Windows

BLOCK_MS = 1_800_000
RETENTION_MS = 15 * 86_400_000
OUT_OF_ORDER_MS = 600_000
CACHE_BYTES = 64 << 20
MIN_BLOCK_MS = 1_000
_ATTEMPTS = 5
_TOO_FAST = "its chunks are replaced faster than they can be read"


class Store:
    """Metrics of one data directory; a ``Querier``. Open it with ``Store.open``; thread-safe.

    One process writes to a directory, any number read it (``read_only=True``). Every method may raise StoreError.
    """

    def __init__(
        self, database: Database, windows: Windows, retention: Retention, out_of_order_ms: int, cache_bytes: int
    ) -> None:
        self.database = database
        self._cache = TileCache(cache_bytes)
        self._version = database.data_version()
        self._following = Lock()
        with database.snapshot() as connection:
            self._chunk_mark = chunk_mark(connection)
            self._state = load(connection, database.damage)
        database.damage.torn_frames = database.torn_frames
        self._reader = Reader(database, self._state, self._cache)
        self._appender = Appender(database, self._state)
        self._pusher = Pusher(database, self._state, self._reader, out_of_order_ms)
        self._exemplars = ExemplarRing(database, self._state)
        self._upkeep = Upkeep(database, self._state, self._exemplars, windows, retention)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        block_ms: int = BLOCK_MS,
        compact_ms: int = COMPACT_MS,
        downsample_after_ms: int | None = None,
        retention_ms: int | None = RETENTION_MS,
        retention_bytes: int | None = None,
        out_of_order_ms: int = OUT_OF_ORDER_MS,
        cache_bytes: int = CACHE_BYTES,
        read_only: bool = False,
        synchronous: Synchronous = "NORMAL",
    ) -> "Store":
        """Open the data directory ``path``, made if absent; the samples are in its ``loadline.db``.

        ``block_ms`` is the length of a window, at the end of which samples move into tiles; the tiles of four windows
        are joined, and those of a finished ``compact_ms`` (a multiple of it). Samples older than
        ``downsample_after_ms`` are thinned out to about two per five minutes; None keeps all. ``retention_ms`` and
        ``retention_bytes`` (of the file in use: samples, spans and logs) bound what is kept; None keeps everything.
        ``out_of_order_ms`` is how far behind its series' latest a pushed sample may be. ``cache_bytes`` bounds decoded
        tiles in memory. A reader sees what the writer has committed. ``synchronous="FULL"`` costs an fsync per append
        and survives a loss of power as well as kill -9. Where SQLite cannot read some pages, the readable rows go into
        a new file, and ``stats()`` tells what was lost. Raises StoreError; DirectoryInUse for a second writer.
        """
        if block_ms < MIN_BLOCK_MS:
            raise StoreError(f"block_ms is {block_ms}; a window lasts at least {MIN_BLOCK_MS} ms")
        if compact_ms < block_ms or compact_ms % block_ms:
            raise StoreError(f"compact_ms is {compact_ms}; it is a multiple of block_ms, {block_ms}")
        if out_of_order_ms < 0:
            raise StoreError(f"out_of_order_ms is {out_of_order_ms}; 0 takes no late samples")
        database = Database(path, read_only=read_only, synchronous=synchronous)
        windows = Windows(block_ms, compact_ms, downsample_after_ms)
        retention = Retention(retention_ms, retention_bytes)
        try:
            if database.is_marked() and not read_only:
                database.recover()
            try:
                return cls(database, windows, retention, out_of_order_ms, cache_bytes)
            except StoreError:
                if read_only or not database.is_marked():
                    raise
            database.recover()
            return cls(database, windows, retention, out_of_order_ms, cache_bytes)
        except BaseException:
            database.close()
            raise

    # Writing ----------------------------------------------------------------------------------------------------

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """Store all series of one scrape of one target; kill -9 cannot undo it once this returns.

        ``values`` is (series,) float64 in the order of ``layout``. Pass the same ``layout`` object, unchanged, for as
        long as the target's series stay the same: that is the fast path. Series of the group's previous scrape that
        are absent now get a stale marker at this time. Of a series named twice the first counts, the others are
        counted as duplicates. Raises OutOfOrder where ``timestamp_ms`` is not after the group's last.
        """
        self._appender.scrape(group_key, layout, timestamp_ms, values)

    def mark_stale(self, group_key: str, timestamp_ms: int) -> None:
        """The target went away: every series of its last scrape gets a stale marker. Unknown groups are left alone.

        Raises OutOfOrder where ``timestamp_ms`` is not after the group's last.
        """
        self._appender.stale(group_key, timestamp_ms)

    def append_series(self, series: Iterable[Series]) -> AppendResult:
        """Store samples of any series at any times: remote write, OTLP, rule results. Durable when it returns.

        A sample behind its series' latest one is stored too, if it is not further behind than the out-of-order window
        and its time is free; the others are counted by reason. A call that repeats the series of an earlier one, with
        equally many samples of each, is several times faster.
        """
        return self._pusher.series(series)

    def append_batch(self, layout: Sequence[Labels], timestamps_ms: Int64Array, values: Float64Array) -> AppendResult:
        """Like ``append_series``, for a sender whose batches repeat themselves: ``layout`` (series,) names the series.

        ``timestamps_ms`` int64 and ``values`` float64 are (series,) or (rows, series). Pass the same ``layout``
        object, unchanged, for as long as the series stay the same: that is the fast path.
        """
        return self._pusher.batch(layout, timestamps_ms, values)

    def append_exemplars(self, exemplars: Iterable[Exemplar]) -> int:
        """Keep exemplars, of each series the latest 16; returns how many were stored.

        Refused and counted: those of unknown series, those that are not after their series' latest, and those whose
        labels have more than 128 characters.
        """
        return self._exemplars.append(exemplars)

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        """Keep TYPE, HELP and UNIT of a metric family; written only when they changed."""
        metadata = Metadata(type, help, unit)
        if self._state.metadata.get(metric) == metadata:
            return
        with self.database.transaction() as connection:
            query = "INSERT OR REPLACE INTO metadata (metric, type, help, unit) VALUES (?, ?, ?, ?)"
            connection.execute(query, (metric, type, help, unit))
            self._state.metadata[metric] = metadata

    def cut(self, now_ms: int) -> int:
        """Move samples of past windows from memory into tiles; returns how many. Appends go on meanwhile."""
        return self._upkeep.cut(now_ms)

    def compact(self, now_ms: int) -> int:
        """Join the tiles of past days, thin out what is old enough; returns how many chunks were replaced."""
        return self._upkeep.compact(now_ms)

    def maintain(self, now_ms: int) -> None:
        """Cut, compact, apply retention to samples, spans and logs, checkpoint, give unused pages back.

        Call it every minute or so, in a thread of its own.
        """
        self._upkeep.run(now_ms)

    # Reading ----------------------------------------------------------------------------------------------------

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[SeriesGroup]:
        """Series that satisfy every matcher, with their samples of ``start_ms <= t <= end_ms``.

        One group for the series of each scrape group, one for the other series of equal timestamps; a label set
        is in exactly one of them. Series without samples in the range are left out. Arrays may be read-only.
        """
        for _ in range(_ATTEMPTS):
            self._refresh()
            try:
                return self._reader.select(matchers, start_ms, end_ms)
            except ChunkMoved:  # the writer, another process, was faster: look again
                continue
        raise StoreError(f"{self.database.directory}: {_TOO_FAST}")

    def scan(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Iterator[SeriesGroup]:
        """What ``select`` answers, in groups of about 2 MiB of samples, each read when it is asked for."""
        self._refresh()
        try:
            yield from self._reader.scan(matchers, start_ms, end_ms)
        except ChunkMoved as error:
            raise StoreError(f"{self.database.directory}: {_TOO_FAST}") from error

    def series(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> tuple[Labels, ...]:
        """Label sets that satisfy every matcher and were there in the range, sorted.

        To the precision of a window: a series may be named that was there a little before or after the range.
        """
        self._refresh()
        return self._reader.series(matchers, start_ms, end_ms)

    def label_names(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> tuple[str, ...]:
        """Names of the labels of those series, sorted."""
        found = self.series(matchers, start_ms, end_ms)
        return tuple(sorted({name for labels in found for name, _ in labels}))

    def label_values(self, name: str, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> tuple[str, ...]:
        """Values of label ``name`` among those series, sorted."""
        values = {get(labels, name) for labels in self.series(matchers, start_ms, end_ms)}
        return tuple(sorted(values - {""}))

    def exemplars(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[Exemplar]:
        """Exemplars of ``start_ms <= t <= end_ms`` of series that satisfy every matcher, by series and time."""
        self._refresh()
        return self._exemplars.select(matchers, start_ms, end_ms)

    def metadata(self) -> Mapping[str, Metadata]:
        """TYPE, HELP and UNIT by metric family."""
        self._refresh()
        return dict(self._state.metadata)

    def stats(self) -> StoreStats:
        """Figures of this moment."""
        self._refresh()
        state = self._state
        with state.lock:
            chunks = state.chunks()
            heads = [rows for group in state.groups.values() for rows in group.head.rows()]
            ragged = [points for i in state.ragged.ids() if (points := state.ragged.points(i)) is not None]
            late = list(state.late.all().values())
            scraped = [group.head for group in state.groups.values()]
            head_samples = state.late.samples + state.ragged.samples + sum(head.samples for head in scraped)
            head_bytes = 16 * state.late.samples + state.ragged.bytes + sum(head.bytes for head in scraped)
            series, groups = len(state.index), len(state.groups)
        times = [int(rows.timestamps_ms[place]) for rows in heads for place in (0, -1)]
        times += [int(timestamps_ms[place]) for timestamps_ms, _ in (*ragged, *late) for place in (0, -1)]
        times += [moment for chunk in chunks for moment in (chunk.start_ms, chunk.end_ms)]
        tile_samples = sum(chunk.samples for chunk in chunks)
        with self.database.reader() as connection:
            wal_rows = connection.execute("SELECT count(*) FROM wal").fetchone()[0]
            tiles = connection.execute("SELECT count(*) FROM tiles").fetchone()[0]
        return StoreStats(
            series=series,
            groups=groups,
            head_samples=head_samples,
            head_bytes=head_bytes,
            chunks=len(chunks),
            tiles=tiles,
            tile_samples=tile_samples,
            bytes_on_disk=self.database.bytes_on_disk(),
            bytes_per_sample=sum(chunk.bytes for chunk in chunks) / tile_samples if tile_samples else None,
            oldest_ms=min(times, default=None),
            newest_ms=max(times, default=None),
            wal_rows=wal_rows,
            late=self._pusher.late,
            out_of_order=self._appender.out_of_order + self._pusher.out_of_order,
            duplicate=self._appender.duplicate + self._pusher.duplicate,
            conflict=self._pusher.conflict,
            exemplars_refused=self._exemplars.refused,
            cached_bytes=self._cache.used_bytes,
            recovered=self.database.damage.report(),
        )

    def close(self) -> None:
        """Close the files; nothing is lost by not calling it."""
        self.database.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _refresh(self) -> None:
        """A read-only store follows what the writer has committed."""
        if self.database.read_only:
            self._follow()

    def _follow(self) -> None:
        with self._following:
            version = self.database.data_version()
            if version == self._version:
                return
            with self.database.snapshot() as connection:
                mark = chunk_mark(connection)
                if mark == self._chunk_mark:
                    with self._state.lock:
                        load_rows(connection, self._state)
                else:
                    self._cache.clear()
                    self._state = load(connection, self.database.damage)
                    self._exemplars = ExemplarRing(self.database, self._state)
                    self._reader = Reader(self.database, self._state, self._cache)
            self._version, self._chunk_mark = version, mark
