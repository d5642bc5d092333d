"""Appends: a write-ahead row first, then the head. When an append returns, kill -9 cannot undo it."""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import orjson

from collector.model.errors import StoreError
from collector.model.labels import Labels, render
from collector.model.series import Float64Array, Int64Array, Series
from collector.store.database import Database
from collector.store.errors import OutOfOrder
from collector.store.holes import without_holes
from collector.store.schema import MAX_GROUPS, MAX_SERIES, RAGGED, WINDOW_BITS
from collector.store.state import Group, Layout, State
from collector.store.stats import AppendResult
from collector.store.wal import Batch, checksum, encode_batch, encode_scrape

T = TypeVar("T")

_NONE = np.empty(0, np.int64)
_NO_VALUES = np.empty(0, np.float64)
_INSERT_WAL = "INSERT INTO wal (id, layout, timestamp_ms, crc, payload) VALUES (?, ?, ?, ?, ?)"
MIN_MS, MAX_MS = -(1 << 53), 1 << 53
"""Timestamps that are kept: those that a float64 of milliseconds holds exactly."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Accepted samples of one series, (samples,) each."""

    series_id: int
    timestamps_ms: Int64Array
    values: Float64Array


@dataclass(slots=True)
class _Pending:
    """New series, layouts and groups of one append, known to others only once it is committed."""

    series: dict[Labels, int]
    layout: Layout | None = None
    group: Group | None = None


class Appender:
    """The writing half of a store. Thread-safe: appends of all threads go one after the other."""

    def __init__(self, database: Database, state: State) -> None:
        self.out_of_order = 0
        self.duplicate = 0
        self._database = database
        self._state = state

    def scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """See ``Store.append_scrape``."""
        if len(layout) != len(values):
            raise StoreError(f"group {group_key!r}: {len(values)} values for {len(layout)} series")
        _check_time("group {!r}".format, group_key, timestamp_ms)
        values = without_holes(values)
        with self._database.write_lock:
            group = self._state.groups.get(group_key)
            if group is not None and group.last_ms is not None and timestamp_ms <= group.last_ms:
                self.out_of_order += len(values)
                raise OutOfOrder(group_key, timestamp_ms, group.last_ms)
            if group is not None and group.given is layout and group.alive is not None:
                taken = values if group.first_of is None else values[group.first_of]
                self._write_scrape(group, group.alive, _NONE, timestamp_ms, taken, _Pending({}))
            else:
                self._new_layout(group, group_key, layout, timestamp_ms, values)

    def stale(self, group_key: str, timestamp_ms: int) -> None:
        """See ``Store.mark_stale``."""
        with self._database.write_lock:
            group = self._state.groups.get(group_key)
            if group is not None and group.alive is not None:
                self.scrape(group_key, (), timestamp_ms, _NO_VALUES)

    def series(self, given: Iterable[Series]) -> AppendResult:
        """See ``Store.append_series``."""
        accepted: list[_Run] = []
        last_ms: dict[int, int] = {}
        pending = _Pending({})
        duplicate = out_of_order = 0
        known_last_ms = self._state.ragged_last_ms
        with self._database.write_lock:
            for one in given:
                if len(one.timestamps_ms) != len(one.values):
                    times, values = len(one.timestamps_ms), len(one.values)
                    raise StoreError(f"{render(one.labels)}: {values} values for {times} times")
                if not len(one.values):
                    continue
                series_id = self._id_of(one.labels, pending)
                before_ms = last_ms.get(series_id)
                if before_ms is None:
                    before_ms = known_last_ms.get(series_id, MIN_MS - 1)
                run, repeated, late = _in_order(series_id, one, before_ms)
                duplicate += repeated
                out_of_order += late
                if run is not None:
                    last_ms[series_id] = int(run.timestamps_ms[-1])
                    _check_time(render, one.labels, last_ms[series_id])
                    accepted.append(run)
            if accepted:
                self._write_batch(accepted, last_ms, pending)
            self.duplicate += duplicate
            self.out_of_order += out_of_order
        return AppendResult(sum(len(run.values) for run in accepted), duplicate, out_of_order)

    def _new_layout(
        self, group: Group | None, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array
    ) -> None:
        state = self._state
        pending = _Pending({})
        ids = np.array([self._id_of(labels, pending) for labels in layout], np.int64)
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
            if group.id >= MAX_GROUPS:
                raise StoreError(f"group {group_key!r}: a store holds {MAX_GROUPS} groups at most")
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
        pending: _Pending,
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
            self._write_pending(connection, pending)
            connection.execute(_INSERT_WAL, row)
        state = self._state
        with state.lock:
            self._publish(pending)
            ids = layout.ids if layout is not None else _NONE
            if group.alive is not layout:
                state.settle(ids, group.id)
            group.head.append(ids, vanished, timestamp_ms, values)
            group.alive, group.last_ms = layout, timestamp_ms
            group.next_sequence += 1

    def _write_batch(self, accepted: list[_Run], last_ms: dict[int, int], pending: _Pending) -> None:
        state = self._state
        values = without_holes(np.concatenate([run.values for run in accepted]))
        counts = [len(run.values) for run in accepted]
        ids = np.array([run.series_id for run in accepted], np.int64)
        times = np.concatenate([run.timestamps_ms for run in accepted])
        payload = encode_batch(Batch(ids, np.array(counts, np.int64), times, values))
        row = (RAGGED << WINDOW_BITS | state.ragged_sequence, None, int(times.max()), checksum(payload), payload)
        with self._database.transaction() as connection:
            self._write_pending(connection, pending)
            connection.execute(_INSERT_WAL, row)
        with state.lock:
            self._publish(pending)
            state.settle(ids, RAGGED)
            first = 0
            for run, count in zip(accepted, counts, strict=True):
                state.ragged.append(run.series_id, run.timestamps_ms, values[first : first + count])
                first += count
            state.ragged_last_ms.update(last_ms)
            state.ragged_sequence += 1

    def _id_of(self, labels: Labels, pending: _Pending) -> int:
        series_id = self._state.index.id_of(labels)
        if series_id is None:
            series_id = pending.series.setdefault(labels, self._state.index.next_id + len(pending.series))
            if series_id >= MAX_SERIES:
                raise StoreError(f"{render(labels)}: a store holds {MAX_SERIES} series at most")
        return series_id

    def _write_pending(self, connection: sqlite3.Connection, pending: _Pending) -> None:
        for labels, series_id in pending.series.items():
            connection.execute(
                "INSERT INTO series (id, labels) VALUES (?, ?)", (series_id, orjson.dumps(labels).decode())
            )
        if pending.layout is not None:
            insert_layout(connection, pending.layout)
        if pending.group is not None:
            connection.execute("INSERT INTO groups (id, key) VALUES (?, ?)", (pending.group.id, pending.group.key))

    def _publish(self, pending: _Pending) -> None:
        if pending.series:
            self._state.index.add((series_id, labels) for labels, series_id in pending.series.items())
        if pending.layout is not None:
            self._state.add_layout(pending.layout)
        if pending.group is not None:
            self._state.add_group(pending.group)


def insert_layout(connection: sqlite3.Connection, layout: Layout) -> None:
    """Write a layout's row."""
    blob = layout.ids.astype("<u4").tobytes()
    connection.execute("INSERT INTO layouts (id, series) VALUES (?, ?)", (layout.id, blob))


def _check_time(show: Callable[[T], str], subject: T, timestamp_ms: int) -> None:
    if not MIN_MS <= timestamp_ms <= MAX_MS:
        raise StoreError(f"{show(subject)}: timestamp {timestamp_ms} ms is beyond ±2**53 ms")


def _in_order(series_id: int, series: Series, before_ms: int) -> tuple[_Run | None, int, int]:
    """The samples that come after all before them; how many of the others repeat the last time, and how many not."""
    timestamps_ms, values = series.timestamps_ms, series.values
    if timestamps_ms[0] > before_ms and (len(values) == 1 or (timestamps_ms[1:] > timestamps_ms[:-1]).all()):
        return _Run(series_id, timestamps_ms, values), 0, 0
    kept: list[int] = []
    repeated = 0
    for place, timestamp_ms in enumerate(timestamps_ms.tolist()):
        if timestamp_ms > before_ms:
            before_ms = timestamp_ms
            kept.append(place)
        else:
            repeated += timestamp_ms == before_ms
    run = _Run(series_id, timestamps_ms[kept], values[kept]) if kept else None
    return run, repeated, len(values) - len(kept) - repeated
