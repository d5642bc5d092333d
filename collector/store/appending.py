"""Appends of scrapes: a write-ahead row first, then the head. When one returns, kill -9 cannot undo it."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from collector.model.errors import StoreError
from collector.model.labels import Labels
from collector.model.series import Float64Array, Int64Array
from collector.store.database import Database
from collector.store.errors import OutOfOrder
from collector.store.holes import without_holes
from collector.store.pending import Pending
from collector.store.schema import LATE, MAX_MS, MIN_MS, WINDOW_BITS
from collector.store.state import Group, Layout, State
from collector.store.wal import checksum, encode_scrape

T = TypeVar("T")

_NONE = np.empty(0, np.int64)
_NO_VALUES = np.empty(0, np.float64)
INSERT_WAL = "INSERT INTO wal (id, layout, timestamp_ms, crc, payload) VALUES (?, ?, ?, ?, ?)"


class Appender:
    """The half of appending that is scraping. Thread-safe: appends of all threads go one after the other."""

    def __init__(self, database: Database, state: State) -> None:
        self.out_of_order = 0
        self.duplicate = 0
        self._database = database
        self._state = state

    def scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """See ``Store.append_scrape``."""
        if len(layout) != len(values):
            raise StoreError(f"group {group_key!r}: {len(values)} values for {len(layout)} series")
        check_time("group {!r}".format, group_key, timestamp_ms)
        values = without_holes(values)
        with self._database.write_lock:
            group = self._state.groups.get(group_key)
            if group is not None and group.last_ms is not None and timestamp_ms <= group.last_ms:
                self.out_of_order += len(values)
                raise OutOfOrder(group_key, timestamp_ms, group.last_ms)
            if group is not None and group.given is layout and group.alive is not None:
                taken = values if group.first_of is None else values[group.first_of]
                self._write_scrape(group, group.alive, _NONE, timestamp_ms, taken, Pending(self._state))
            else:
                self._new_layout(group, group_key, layout, timestamp_ms, values)

    def stale(self, group_key: str, timestamp_ms: int) -> None:
        """See ``Store.mark_stale``."""
        with self._database.write_lock:
            group = self._state.groups.get(group_key)
            if group is not None and group.alive is not None:
                self.scrape(group_key, (), timestamp_ms, _NO_VALUES)

    def _new_layout(
        self, group: Group | None, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array
    ) -> None:
        state = self._state
        pending = Pending(state)
        ids = np.array([pending.id_of(labels) for labels in layout], np.int64)
        first_of: Int64Array | None = None
        unique, first = np.unique(ids, return_index=True)
        if len(unique) < len(ids):
            first_of = np.sort(first)
            self.duplicate += len(ids) - len(unique)
            ids, values = ids[first_of], values[first_of]
        known = state.layouts.get(ids.tobytes())
        if known is None and len(ids):
            known = pending.layout = Layout.of(state.next_layout, ids)
        if group is None:
            group = pending.group = Group(state.next_group, group_key)
            if group.id >= LATE:
                raise StoreError(f"group {group_key!r}: a store holds {LATE} groups at most")
        vanished = _NONE
        if group.alive is not None and group.alive is not known:
            vanished = np.setdiff1d(group.alive.ids, ids, assume_unique=True)
        if known is None and not len(vanished):
            return
        self._write_scrape(group, known, vanished, timestamp_ms, values, pending)
        group.given, group.first_of = layout, first_of

    def _write_scrape(
        self,
        group: Group,
        layout: Layout | None,
        vanished: Int64Array,
        timestamp_ms: int,
        values: Float64Array,
        pending: Pending,
    ) -> None:
        payload = encode_scrape(values, vanished)
        row = (
            group.id << WINDOW_BITS | group.next_sequence,
            layout.id if layout is not None else None,
            timestamp_ms,
            checksum(payload),
            payload,
        )
        with self._database.transaction() as connection:
            pending.write(connection)
            connection.execute(INSERT_WAL, row)
        state = self._state
        with state.lock:
            pending.publish()
            ids = layout.ids if layout is not None else _NONE
            if group.alive is not layout:
                state.settle(ids, group.id)
            group.head.append(ids, vanished, timestamp_ms, values)
            group.alive, group.last_ms = layout, timestamp_ms
            group.next_sequence += 1


def check_time(show: Callable[[T], str], subject: T, timestamp_ms: int) -> None:
    """Raise StoreError where the store does not keep samples of that time."""
    if not MIN_MS <= timestamp_ms <= MAX_MS:
        raise StoreError(f"{show(subject)}: timestamp {timestamp_ms} ms is beyond ±2**53 ms")
