"""The label index: which series has which number, and which numbers satisfy a set of matchers.

Everything is in memory and rebuilt at open from the ``series`` table. Numbers are given once, rise, and are never
given to another series while the store is open.
"""

from collections.abc import Iterable, Sequence
from threading import Lock

import numpy as np

from collector.model.labels import Labels
from collector.model.matchers import Matcher
from collector.model.series import BoolArray, Int64Array


class LabelIndex:
    """Label sets by number, numbers by label; ``removals`` counts when some were forgotten, ``changes`` any change.

    Thread-safe.
    """

    def __init__(self) -> None:
        self.next_id = 1
        self.removals = 0
        self.changes = 0
        self._labels: dict[int, Labels] = {}
        self._ids: dict[Labels, int] = {}
        self._postings: dict[str, dict[str, list[int]]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._labels)

    def id_of(self, labels: Labels) -> int | None:
        """Number of a label set, or None where it is unknown."""
        return self._ids.get(labels)

    def has(self, series_id: int) -> bool:
        """Whether the number belongs to a series of the index."""
        return series_id in self._labels

    def known(self, ids: Iterable[int]) -> dict[int, Labels]:
        """Those of ``ids`` that are in the index, in their order, with their label sets."""
        labels = self._labels
        return {series_id: labels[series_id] for series_id in ids if series_id in labels}

    def all_ids(self) -> set[int]:
        """Every series' number."""
        with self._lock:
            return set(self._labels)

    def reserve(self, series_id: int) -> None:
        """Give no series the numbers up to this one: samples of a series whose labels are lost have it."""
        self.next_id = max(self.next_id, series_id + 1)

    def add(self, series: Iterable[tuple[int, Labels]]) -> None:
        """Add series under numbers not below ``next_id``."""
        with self._lock:
            self.changes += 1
            for series_id, labels in series:
                self._labels[series_id] = labels
                self._ids[labels] = series_id
                self.next_id = max(self.next_id, series_id + 1)
                for name, value in labels:
                    self._postings.setdefault(name, {}).setdefault(value, []).append(series_id)

    def remove(self, ids: Iterable[int]) -> None:
        """Forget series."""
        with self._lock:
            gone = {series_id for series_id in ids if series_id in self._labels}
            touched = {pair for series_id in gone for pair in self._labels[series_id]}
            for name, value in touched:
                left = [series_id for series_id in self._postings[name][value] if series_id not in gone]
                if left:
                    self._postings[name][value] = left
                    continue
                del self._postings[name][value]
                if not self._postings[name]:
                    del self._postings[name]
            self.removals += bool(gone)
            self.changes += bool(gone)
            for series_id in gone:
                del self._ids[self._labels.pop(series_id)]

    def match(self, matchers: Sequence[Matcher]) -> Int64Array:
        """Numbers of the series that satisfy every matcher, rising."""
        with self._lock:
            mask = np.zeros(self.next_id, np.bool_)
            mask[np.fromiter(self._labels, np.int64, len(self._labels))] = True
            for matcher in matchers:
                mask &= self._allowed(matcher)
        return np.flatnonzero(mask)

    def _allowed(self, matcher: Matcher) -> BoolArray:
        values = self._postings.get(matcher.name, {})
        if matcher.op == "=" and matcher.value:
            allowed = np.zeros(self.next_id, np.bool_)
            allowed[values.get(matcher.value, [])] = True
            return allowed
        absent_matches = matcher.matches("")
        allowed = np.full(self.next_id, absent_matches)
        for value, ids in values.items():
            if matcher.matches(value) != absent_matches:
                allowed[ids] = not absent_matches
        return allowed
