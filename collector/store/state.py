"""What a store holds in memory: label index, layouts, groups with their heads and chunks, and the damage seen.

Two locks. The database's write lock is held by whoever changes what is stored, for as long as its transaction takes.
``State.lock`` is held for moments only, by writers while they publish and by readers while they take a snapshot; it is
taken inside the write lock, never the other way round. Chunks are tuples replaced whole, so a snapshot stays true.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from collector.model.labels import METRIC_NAME, Labels, get
from collector.model.series import Int64Array
from collector.store.head import RaggedHead, ScrapeHead
from collector.store.index import LabelIndex
from collector.store.schema import RAGGED
from collector.store.stats import Metadata, Recovery

MAX_PROBLEMS = 100
NOWHERE, MANY = -1, -2


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """An ordered set of series: the columns of a scrape or of a chunk. Equal ones are the same object."""

    id: int
    ids: Int64Array
    position: dict[int, int] = field(repr=False)

    @staticmethod
    def of(layout_id: int, ids: Int64Array) -> "Layout":
        """A layout over ``ids`` (series,), which becomes read-only."""
        ids.flags.writeable = False
        return Layout(layout_id, ids, {int(series_id): column for column, series_id in enumerate(ids)})


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Samples of one group and one window on disk: a timestamp vector and tiles of 16 columns of ``layout``."""

    id: int
    group_id: int
    layout: Layout
    start_ms: int
    end_ms: int
    steps: int
    samples: int
    bytes: int

    @property
    def holes(self) -> bool:
        """Whether some column lacks a sample at some step."""
        return self.samples < self.steps * len(self.layout.ids)


class Group:
    """One scrape group: what its last scrape looked like, its head and its chunks (oldest first)."""

    def __init__(self, group_id: int, key: str) -> None:
        self.id = group_id
        self.key = key
        self.head = ScrapeHead()
        self.chunks: tuple[Chunk, ...] = ()
        self.alive: Layout | None = None
        self.last_ms: int | None = None
        self.next_sequence = 1
        self.given: Sequence[Labels] | None = None  # the caller's own layout object, compared by identity
        self.first_of: Int64Array | None = None  # where the given layout names a series twice: the places that count


class Damage:
    """Counts what was found damaged and keeps the first lines about it. Thread-safe."""

    def __init__(self) -> None:
        self.wal_rows = 0
        self.torn_frames = 0
        self._problems: dict[str, None] = {}
        self._count = 0
        self._lock = Lock()

    def add(self, problem: str) -> None:
        """Note a damaged row or tile; the same one is counted once."""
        with self._lock:
            if problem in self._problems:
                return
            self._count += 1
            if len(self._problems) < MAX_PROBLEMS:
                self._problems[problem] = None

    def report(self) -> Recovery:
        """What was found so far."""
        with self._lock:
            return Recovery(self.wal_rows, self.torn_frames, self._count, tuple(self._problems))


class State:
    """Everything in memory; see the module for its locks."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.index = LabelIndex()
        self.groups: dict[str, Group] = {}
        self.groups_by_id: dict[int, Group] = {}
        self.layouts: dict[bytes, Layout] = {}
        self.layouts_by_id: dict[int, Layout] = {}
        self.ragged = RaggedHead()
        self.ragged_chunks: dict[int, tuple[Chunk, ...]] = {}
        self.ragged_last_ms: dict[int, int] = {}
        self.ragged_sequence = 1
        self.metadata: dict[str, Metadata] = {}
        self.home = np.full(1024, NOWHERE, np.int32)
        self.next_layout = 1
        self.next_group = RAGGED + 1
        self.next_chunk = 1
        self.damage = Damage()

    def add_layout(self, layout: Layout) -> None:
        """Make a layout known."""
        self.layouts[layout.ids.tobytes()] = layout
        self.layouts_by_id[layout.id] = layout
        self.next_layout = max(self.next_layout, layout.id + 1)

    def add_group(self, group: Group) -> None:
        """Make a group known."""
        self.groups[group.key] = group
        self.groups_by_id[group.id] = group
        self.next_group = max(self.next_group, group.id + 1)

    def settle(self, ids: Int64Array, group_id: int) -> None:
        """Note that ``group_id`` has samples of these series. Under ``lock``."""
        if not len(ids):
            return
        most = int(ids.max())
        if most >= len(self.home):
            self.home = np.concatenate([self.home, np.full(most + len(self.home) // 2, NOWHERE, np.int32)])
        here = self.home[ids]
        self.home[ids] = np.where((here == NOWHERE) | (here == group_id), group_id, MANY)

    def homes(self, ids: Int64Array) -> Int64Array:
        """For each series the group that holds it, MANY or NOWHERE. Under ``lock``."""
        known = ids < len(self.home)
        return np.where(known, self.home[np.where(known, ids, 0)], NOWHERE)

    def add_chunk(self, chunk: Chunk) -> None:
        """Add a chunk behind those of its group. Under ``lock``."""
        self.next_chunk = max(self.next_chunk, chunk.id + 1)
        self.settle(chunk.layout.ids, chunk.group_id)
        if chunk.group_id != RAGGED:
            group = self.groups_by_id[chunk.group_id]
            group.chunks = (*group.chunks, chunk)
            return
        for series_id in chunk.layout.ids.tolist():
            self.ragged_chunks[series_id] = (*self.ragged_chunks.get(series_id, ()), chunk)
            self.ragged_last_ms[series_id] = max(chunk.end_ms, self.ragged_last_ms.get(series_id, chunk.end_ms))

    def remove_chunks(self, gone: Iterable[Chunk]) -> None:
        """Forget chunks. Under ``lock``."""
        removed = {chunk.id: chunk for chunk in gone}
        for group_id in {chunk.group_id for chunk in removed.values()} - {RAGGED}:
            group = self.groups_by_id[group_id]
            group.chunks = tuple(chunk for chunk in group.chunks if chunk.id not in removed)
        ragged = {i for chunk in removed.values() if chunk.group_id == RAGGED for i in chunk.layout.ids.tolist()}
        for series_id in ragged:
            left = tuple(chunk for chunk in self.ragged_chunks[series_id] if chunk.id not in removed)
            if left:
                self.ragged_chunks[series_id] = left
            else:
                del self.ragged_chunks[series_id]

    def chunks(self) -> list[Chunk]:
        """Every chunk once, by number. Under ``lock``."""
        found = {chunk.id: chunk for group in self.groups.values() for chunk in group.chunks}
        found.update({chunk.id: chunk for chunks in self.ragged_chunks.values() for chunk in chunks})
        return [found[chunk_id] for chunk_id in sorted(found)]

    def sorted_ids(self, ids: Int64Array) -> Int64Array:
        """Known ones of ``ids`` in the order of tiles: by metric name, then labels, so that neighbours look alike."""
        labels = self.index.known(ids.tolist())
        ordered = sorted(labels, key=lambda series_id: (get(labels[series_id], METRIC_NAME), labels[series_id]))
        return np.array(ordered, np.int64)

    def forget(self, series: Iterable[int], layouts: Iterable[Layout], groups: Iterable[Group]) -> None:
        """Drop what nothing refers to any more. Under ``lock``."""
        gone = list(series)
        self.index.remove(gone)
        for series_id in gone:
            self.ragged_last_ms.pop(series_id, None)
        for layout in layouts:
            del self.layouts[layout.ids.tobytes()], self.layouts_by_id[layout.id]
        for group in groups:
            del self.groups[group.key], self.groups_by_id[group.id]
