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
from collector.store.damage import Damage
from collector.store.head import LateHead, RaggedHead, ScrapeHead
from collector.store.index import LabelIndex
from collector.store.schema import LATE, RAGGED
from collector.store.stats import Metadata

NOWHERE, MANY = -1, -2
NEVER = -(1 << 62)
"""Before every timestamp: the last one of a series that has none."""


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
    """Samples of one group and one window on disk: a timestamp vector and tiles of 16 columns of ``layout``.

    ``resolution_ms`` is 0 where every sample is kept, and the length of a bucket where only some of each are.
    """

    id: int
    group_id: int
    layout: Layout
    start_ms: int
    end_ms: int
    steps: int
    samples: int
    bytes: int
    resolution_ms: int = 0

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
        self.tiles_ms: int | None = None  # time of the last sample in tiles; write-ahead rows up to it are dead
        self.next_sequence = 1
        self.given: Sequence[Labels] | None = None  # the caller's own layout object, compared by identity
        self.first_of: Int64Array | None = None  # where the given layout names a series twice: the places that count


class State:
    """Everything in memory; see the module for its locks."""

    def __init__(self, damage: Damage) -> None:
        self.lock = Lock()
        self.damage = damage
        self.index = LabelIndex()
        self.groups: dict[str, Group] = {}
        self.groups_by_id: dict[int, Group] = {}
        self.layouts: dict[bytes, Layout] = {}
        self.layouts_by_id: dict[int, Layout] = {}
        self.ragged = RaggedHead()
        self.ragged_chunks: dict[int, tuple[Chunk, ...]] = {}
        self.ragged_sequence = 1
        self.last_batch = b""  # ids of the batch that was replayed last
        self.late = LateHead()
        self.late_sequence = 1
        self.dead_rows: list[int] = []  # write-ahead rows found at open of which every sample was in tiles already
        self.metadata: dict[str, Metadata] = {}
        self.home = np.full(1024, NOWHERE, np.int32)
        self.last_ms = np.full(1024, NEVER, np.int64)  # by series: its latest sample of those that came in order
        self._changes = 0  # of where series are: homes, and chunks of pushed series
        self.next_layout = 1
        self.next_group = RAGGED + 1
        self.next_chunk = 1

    @property
    def version(self) -> int:
        """Rises when a series comes, goes, or is somewhere else: in another group, another chunk of pushed series."""
        return self._changes + self.index.changes + self.ragged.changes + self.late.changes

    def add_layout(self, layout: Layout) -> None:
        """Make a layout known."""
        self.layouts[layout.ids.tobytes()] = layout
        self.layouts_by_id[layout.id] = layout
        self.next_layout = max(self.next_layout, layout.id + 1)

    def add_group(self, group: Group) -> None:
        """Make a group known."""
        self.groups[group.key] = group
        self.groups_by_id[group.id] = group
        self._changes += 1
        self.next_group = max(self.next_group, group.id + 1)

    def cover(self, ids: Int64Array) -> None:
        """Make room for these series in ``last_ms``. Under the write lock."""
        most = int(ids.max(initial=0))
        if most >= len(self.last_ms):
            self.last_ms = np.concatenate([self.last_ms, np.full(most + len(self.last_ms) // 2, NEVER, np.int64)])

    def last_of(self, series_id: int) -> int:
        """Time of the series' latest sample of those that came in order, or NEVER. Under the write lock."""
        return int(self.last_ms[series_id]) if series_id < len(self.last_ms) else NEVER

    def settle(self, ids: Int64Array, group_id: int) -> None:
        """Note that ``group_id`` has samples of these series. Under ``lock``."""
        if not len(ids):
            return
        most = int(ids.max())
        if most >= len(self.home):
            self.home = np.concatenate([self.home, np.full(most + len(self.home) // 2, NOWHERE, np.int32)])
        here = self.home[ids]
        now = np.where((here == NOWHERE) | (here == group_id), group_id, MANY)
        if (now != here).any():
            self.home[ids] = now
            self._changes += 1

    def homes(self, ids: Int64Array) -> Int64Array:
        """For each series the group that holds it, MANY or NOWHERE. Under ``lock``."""
        known = ids < len(self.home)
        return np.where(known, self.home[np.where(known, ids, 0)], NOWHERE)

    def add_chunk(self, chunk: Chunk) -> None:
        """Add a chunk to its group, by time. Under ``lock``."""
        self.next_chunk = max(self.next_chunk, chunk.id + 1)
        self.settle(chunk.layout.ids, RAGGED if chunk.group_id == LATE else chunk.group_id)
        if chunk.group_id not in (RAGGED, LATE):
            group = self.groups_by_id[chunk.group_id]
            group.chunks = _with(group.chunks, chunk)
            return
        self._changes += 1
        for series_id in chunk.layout.ids.tolist():
            self.ragged_chunks[series_id] = _with(self.ragged_chunks.get(series_id, ()), chunk)
        if chunk.group_id == RAGGED:
            self.cover(chunk.layout.ids)
            self.last_ms[chunk.layout.ids] = np.maximum(self.last_ms[chunk.layout.ids], chunk.end_ms)

    def remove_chunks(self, gone: Iterable[Chunk]) -> None:
        """Forget chunks. Under ``lock``."""
        removed = {chunk.id: chunk for chunk in gone}
        for group_id in {chunk.group_id for chunk in removed.values()} - {RAGGED, LATE}:
            group = self.groups_by_id[group_id]
            group.chunks = tuple(chunk for chunk in group.chunks if chunk.id not in removed)
        alone = [chunk.layout.ids for chunk in removed.values() if chunk.group_id in (RAGGED, LATE)]
        self._changes += bool(alone)
        for series_id in {series_id for ids in alone for series_id in ids.tolist()}:
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
        self._changes += 1
        self.index.remove(gone)
        self.last_ms[[series_id for series_id in gone if series_id < len(self.last_ms)]] = NEVER
        for layout in layouts:
            del self.layouts[layout.ids.tobytes()], self.layouts_by_id[layout.id]
        for group in groups:
            del self.groups[group.key], self.groups_by_id[group.id]


def _with(chunks: tuple[Chunk, ...], chunk: Chunk) -> tuple[Chunk, ...]:
    if not chunks or chunks[-1].start_ms <= chunk.start_ms:
        return (*chunks, chunk)
    return tuple(sorted((*chunks, chunk), key=lambda one: (one.start_ms, one.id)))
