"""Retention: what is too old goes, and the oldest of everything goes while the file holds too much."""

from dataclasses import dataclass

from collector.store.database import Database
from collector.store.exemplars import ExemplarRing
from collector.store.logs import LogStore
from collector.store.publishing import Publisher
from collector.store.spans import SpanStore
from collector.store.state import Chunk, State

CHUNKS_AT_ONCE = 32
"""Chunks that go in one transaction."""

STEPS = 32
"""The time from oldest to newest goes in so many steps, until the file fits."""


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept, by age and by bytes of the file in use; None keeps everything."""

    age_ms: int | None
    size_bytes: int | None


class Retainer:
    """Applies the limits. Its caller sees to it that one thread does so at a time."""

    def __init__(
        self, database: Database, state: State, publisher: Publisher, exemplars: ExemplarRing, limits: Retention
    ) -> None:
        self._database = database
        self._state = state
        self._publisher = publisher
        self._exemplars = exemplars
        self._limits = limits
        self._spans = SpanStore(database)
        self._logs = LogStore(database)

    def retain(self, now_ms: int) -> None:
        """Delete what is past the limits, then series that nothing refers to."""
        self._publisher.empty_trash()
        gone = 0
        if self._limits.age_ms is not None:
            gone += self._drop(now_ms - self._limits.age_ms)
        if self._limits.size_bytes is not None:
            gone += self._fit(self._limits.size_bytes)
        if gone:
            self._forget_unused()

    def _fit(self, size_bytes: int) -> int:
        """Delete the oldest of samples, spans and logs until the file's used pages fit."""
        gone = 0
        times = self._times() if self._database.used_bytes() > size_bytes else None
        if times is None:
            return 0
        oldest_ms, newest_ms = times
        for step in range(1, STEPS + 1):
            gone += self._drop(oldest_ms + (newest_ms - oldest_ms) * step // STEPS + step // STEPS)
            if self._database.used_bytes() <= size_bytes:
                break
        return gone

    def _times(self) -> tuple[int, int] | None:
        """Earliest and latest time of chunks, spans and logs."""
        with self._state.lock:
            times = [moment for chunk in self._state.chunks() for moment in (chunk.start_ms, chunk.end_ms)]
        for records in (self._spans, self._logs):
            range_ns = records.time_range_ns()
            times += [moment // 1_000_000 for moment in range_ns] if range_ns is not None else []
        return (min(times), max(times)) if times else None

    def _drop(self, oldest_ms: int) -> int:
        with self._state.lock:
            gone = [chunk for chunk in self._state.chunks() if chunk.end_ms < oldest_ms]
        for first in range(0, len(gone), CHUNKS_AT_ONCE):
            self._publisher.show((), gone[first : first + CHUNKS_AT_ONCE])
        self._publisher.empty_trash()
        self._spans.retain(oldest_ms * 1_000_000)
        self._logs.retain(oldest_ms * 1_000_000)
        self._exemplars.retain(oldest_ms)
        return len(gone)

    def _forget_unused(self) -> None:
        """Drop series, layouts and groups that no chunk, head or living target refers to."""
        state = self._state
        with self._database.write_lock:
            with state.lock:
                chunks: list[Chunk] = state.chunks()
                layouts = {chunk.layout.id: chunk.layout for chunk in chunks}
                groups = {group.id: group for group in state.groups.values()}
                layouts.update({g.alive.id: g.alive for g in groups.values() if g.alive is not None})
                used = {i for layout in layouts.values() for i in layout.ids.tolist()}
                used.update(state.ragged.ids(), state.late.all())
                for group in groups.values():
                    used.update(i for rows in group.head.rows() for i in rows.ids.tolist())
            series = sorted(state.index.all_ids() - used)
            idle = [g for g in groups.values() if not g.chunks and g.alive is None and not g.head.segments]
            with self._database.transaction() as connection:
                in_wal = {row[0] for row in connection.execute("SELECT DISTINCT layout FROM wal")}
                unused = [layout for layout in state.layouts.values() if layout.id not in in_wal | layouts.keys()]
                connection.executemany("DELETE FROM series WHERE id = ?", ((i,) for i in series))
                connection.executemany("DELETE FROM exemplars WHERE series = ?", ((i,) for i in series))
                connection.executemany("DELETE FROM layouts WHERE id = ?", ((layout.id,) for layout in unused))
                connection.executemany("DELETE FROM groups WHERE id = ?", ((group.id,) for group in idle))
            with state.lock:
                state.forget(series, unused, idle)
