"""Which series a set of matchers selects, and where the store has them: kept for the next query with these matchers.

A selection is true for as long as ``State.version`` stays what it was: samples may come, but no series, no other group
for a series, no chunk of pushed series. Arrays and label sets of a selection are shared, never written to.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from collector.model.labels import Labels, LabelSets
from collector.model.matchers import Matcher
from collector.model.series import Int64Array
from collector.store.head import Block
from collector.store.schema import LATE, RAGGED
from collector.store.state import MANY, Chunk, Group, State

KEPT_SERIES = 100_000
"""Series of all selections that are kept, a series counted for each."""

_KEPT_UNIONS = 64

T = TypeVar("T")

Place = Int64Array | None
"""Where the columns of a part go among those of the union; None for "the first ones, in order"."""


@dataclass(frozen=True, slots=True)
class Union:
    """Columns of several parts: all ``ids`` and their ``labels`` (columns,), and for each part where its go."""

    ids: Int64Array
    labels: LabelSets
    places: list[Place]

    def some(self, first: int, last: int) -> LabelSets:
        """Labels of neighbouring columns, the same object each time."""
        if last - first == len(self.labels):
            return self.labels
        return self.labels.derived((first, last), lambda: LabelSets(self.labels[first:last]))


class Wanted:
    """Series to look for in chunks and heads: ``ids``, and where they are in layouts, found out once each."""

    def __init__(self, ids: Int64Array, labels: Mapping[int, Labels] | None = None) -> None:
        self.ids = ids
        self._labels = labels  # None: nobody asks for them
        self._columns: dict[int, tuple[Int64Array, Int64Array, Int64Array]] = {}
        self._unions: dict[tuple[int, ...], Union] = {}

    def columns(self, ids: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Which columns of a layout of ``ids`` are wanted, and their numbers: the same arrays each time."""
        found = self._columns.get(id(ids))
        if found is None:
            mask = np.zeros(int(self.ids.max(initial=0)) + 1, np.bool_)
            mask[self.ids] = True
            small = ids < len(mask)
            columns = np.flatnonzero(small & mask[np.where(small, ids, 0)])
            found = self._columns[id(ids)] = (ids, columns, ids[columns])  # holds ids, so that its id() stays taken
        return found[1], found[2]

    def union(self, columns: Sequence[Int64Array]) -> Union:
        """All columns of parts, in order of appearance; ``columns`` are numbers as ``columns()`` gave them."""
        key = tuple(map(id, columns))
        union = self._unions.get(key)
        if union is None:
            if len(self._unions) >= _KEPT_UNIONS:
                self._unions.clear()
            ids, places = _union(columns)
            labels = LabelSets() if self._labels is None else LabelSets([self._labels[i] for i in ids.tolist()])
            union = self._unions[key] = Union(ids, labels, places)
        return union


@dataclass(frozen=True, slots=True)
class Alike:
    """Pushed series that are in the same chunks and blocks, so that they probably share all their timestamps."""

    wanted: Wanted
    chunks: tuple[Chunk, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Series of a set of matchers.

    ``ids``      all of them, rising; ``labels`` by number
    ``groups``   scrape groups that have some, which are ``scraped``
    ``pushed``   series that did not come by scrape: ``alike`` ones together, the others ``alone``
    ``shared``   series that several groups know, or a group and a sender
    """

    version: int
    ids: Int64Array
    labels: dict[int, Labels]
    groups: tuple[Group, ...]
    scraped: Wanted
    pushed: Int64Array
    alike: tuple[Alike, ...]
    alone: Int64Array
    shared: Int64Array


class Selections:
    """Selections by matchers, the least recently used first out. Thread-safe."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept: OrderedDict[tuple[Matcher, ...], Selection] = OrderedDict()
        self._series = 0

    def see(self, matchers: Sequence[Matcher], view: Callable[[Selection], T]) -> T:
        """``view`` of the selection of these matchers, under ``State.lock``, so that nothing moves before it is taken.

        Labels are matched without the lock, which can take long: a series that comes or goes meanwhile may be missed.
        """
        key = tuple(matchers)
        state = self._state
        with state.lock:
            kept = self._kept.get(key)
            if kept is not None and kept.version == state.version:
                self._kept.move_to_end(key)
                return view(kept)
        indexed = state.index.changes
        labels = state.index.known(state.index.match(matchers).tolist())
        with state.lock:
            selection = _placed(state, labels)
            if indexed == state.index.changes:
                self._keep(key, selection)
            return view(selection)

    def _keep(self, key: tuple[Matcher, ...], selection: Selection) -> None:
        gone = self._kept.pop(key, None)
        self._series += len(selection.ids) - (len(gone.ids) if gone is not None else 0)
        self._kept[key] = selection
        while self._series > KEPT_SERIES:
            self._series -= len(self._kept.popitem(last=False)[1].ids)


def _placed(state: State, labels: dict[int, Labels]) -> Selection:
    """Where these series, by rising number, are now. Under ``State.lock``."""
    ids = np.fromiter(labels, np.int64, len(labels))
    homes = state.homes(ids)
    shared = ids[homes == MANY]
    numbers = state.groups_by_id if len(shared) else np.unique(homes[homes > RAGGED]).tolist()
    groups = tuple([state.groups_by_id[number] for number in numbers if number in state.groups_by_id])
    pushed = ids[(homes == RAGGED) | (homes == MANY)]
    alike, alone = _alike(state, ids[homes == RAGGED], labels)
    scraped = Wanted(ids[(homes > RAGGED) | (homes == MANY)], labels)
    apart = np.sort(np.concatenate([np.array(alone, np.int64), shared]))
    return Selection(state.version, ids, labels, groups, scraped, pushed, alike, apart, shared)


def _alike(state: State, ids: Int64Array, labels: dict[int, Labels]) -> tuple[tuple[Alike, ...], list[int]]:
    """Series whose samples are in the same places, and those that have some apart from the others."""
    together: dict[tuple[int, ...], tuple[tuple[Chunk, ...], tuple[Block, ...], list[int]]] = {}
    alone: list[int] = []
    for series_id in ids.tolist():
        chunks = state.ragged_chunks.get(series_id, ())
        blocks = state.ragged.blocks_of(series_id)
        late = any(chunk.group_id == LATE for chunk in chunks) or state.late.points(series_id) is not None
        if late or state.ragged.has_column(series_id):
            alone.append(series_id)
            continue
        key = (*[chunk.id for chunk in chunks], -1, *map(id, blocks))
        together.setdefault(key, (chunks, blocks, []))[2].append(series_id)
    alike = [
        Alike(Wanted(np.array(some, np.int64), labels), chunks, blocks) for chunks, blocks, some in together.values()
    ]
    return tuple(alike), alone


def _union(columns: Sequence[Int64Array]) -> tuple[Int64Array, list[Place]]:
    first = columns[0]
    others = {id(ids) for ids in columns if ids is not first and not np.array_equal(ids, first)}
    if not others:
        return first, [None] * len(columns)
    position = {series_id: column for column, series_id in enumerate(first.tolist())}
    places: list[Place] = []
    for ids in columns:
        if id(ids) not in others:
            places.append(None)
        else:
            places.append(np.array([position.setdefault(i, len(position)) for i in ids.tolist()], np.int64))
    return np.fromiter(position, np.int64, len(position)), places
