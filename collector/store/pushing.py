"""Appends of any series at any times: remote write, OTLP, rule results. A write-ahead row first, then the head.

A batch that repeats the series of an earlier one is stored as rows of a matrix, without a look at single series.
Samples behind their series' latest one are kept apart, if they are not too far behind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from collector.model.errors import StoreError
from collector.model.labels import Labels, render
from collector.model.series import Float64Array, Int64Array, Series
from collector.store.appending import INSERT_WAL, check_time
from collector.store.database import Database
from collector.store.head import Points
from collector.store.holes import without_holes
from collector.store.pending import Pending
from collector.store.reading import Reader
from collector.store.schema import LATE, MAX_MS, MIN_MS, RAGGED, WINDOW_BITS
from collector.store.state import State
from collector.store.stats import AppendResult
from collector.store.wal import Batch, checksum, encode_batch

MAX_PLANS = 32
"""Batches that are remembered to be met again."""


@dataclass(slots=True, eq=False)
class _Plan:
    """A batch that may repeat itself: its series, their numbers, and how often series had been forgotten by then."""

    labels: list[Labels]
    ids: Int64Array
    key: bytes
    removals: int
    given: Sequence[Labels] | None = None


@dataclass(slots=True)
class _Sorted:
    """Samples of one append by what becomes of them: ``runs`` in order, ``late`` behind the latest, both by series."""

    runs: dict[int, list[Points]]
    late: dict[int, Points]
    result: AppendResult


@dataclass(frozen=True, slots=True)
class _Behind:
    """A sample that is not after its series' latest one, ``newest_ms``."""

    timestamp_ms: int
    value: float
    newest_ms: int


class Pusher:
    """The half of appending that is not scraping. Thread-safe."""

    def __init__(self, database: Database, state: State, reader: Reader, window_ms: int) -> None:
        self.late = self.out_of_order = self.duplicate = self.conflict = 0
        self._database = database
        self._state = state
        self._reader = reader
        self._window_ms = window_ms
        self._plans: list[_Plan] = []

    def series(self, given: Iterable[Series]) -> AppendResult:
        """See ``Store.append_series``."""
        given = list(given)
        values, times = [one.values for one in given], [one.timestamps_ms for one in given]
        rows = {*map(len, values), *map(len, times)}
        if len(rows) != 1 or rows == {0}:
            some = [one for one in given if _length(one)]
            with self._database.write_lock:
                return self._append_each(some) if some else AppendResult(0, 0, 0)
        labels = [one.labels for one in given]
        shape = (len(given), rows.pop())
        with self._database.write_lock:
            plan = self._plan(labels)
            if plan is not None:
                matrix = np.concatenate(values).reshape(shape).T
                if self._append_rows(plan, np.concatenate(times).reshape(shape).T, matrix):
                    return AppendResult(matrix.size, 0, 0)
            result = self._append_each(given)
            if plan is None:
                self._remember(labels)
            return result

    def batch(self, layout: Sequence[Labels], timestamps_ms: Int64Array, values: Float64Array) -> AppendResult:
        """See ``Store.append_batch``."""
        times, matrix = np.atleast_2d(timestamps_ms), np.atleast_2d(values)
        if times.shape != matrix.shape or matrix.shape[1] != len(layout):
            raise StoreError(f"batch: values {matrix.shape} and times {times.shape} for {len(layout)} series")
        if not matrix.size:
            return AppendResult(0, 0, 0)
        with self._database.write_lock:
            plan = next((plan for plan in self._plans if plan.given is layout), None) or self._plan(list(layout))
            if plan is not None:
                plan.given = layout
                if self._append_rows(plan, times, matrix):
                    return AppendResult(matrix.size, 0, 0)
            columns = enumerate(layout)
            result = self._append_each([Series(one, times[:, column], matrix[:, column]) for column, one in columns])
            if plan is None:
                self._remember(list(layout))
            return result

    def _plan(self, labels: list[Labels]) -> _Plan | None:
        for plan in self._plans:
            if plan.labels == labels:
                return plan
        return None

    def _remember(self, labels: list[Labels]) -> None:
        index = self._state.index
        ids = np.array([index.id_of(one) or 0 for one in labels], np.int64)
        if len(np.unique(ids)) == len(ids) and ids.all():
            del self._plans[MAX_PLANS - 1 :]
            self._plans.insert(0, _Plan(labels, ids, ids.tobytes(), index.removals))

    def _append_rows(self, plan: _Plan, times: Int64Array, values: Float64Array) -> bool:
        """Append (rows, series) samples if all are in order; otherwise nothing happens. Under the write lock."""
        state = self._state
        if plan.removals != state.index.removals:
            self._plans.remove(plan)
            return False
        state.cover(plan.ids)
        in_order = (times[0] > state.last_ms[plan.ids]).all() and (times[1:] > times[:-1]).all()
        if not in_order or times[0].min() < MIN_MS or times[-1].max() > MAX_MS:
            return False
        values = without_holes(values)
        counts = np.full(len(plan.ids), len(values), np.int64)
        batch = Batch(plan.ids, counts, times.T.reshape(-1), values.T.reshape(-1))
        with self._database.transaction() as connection:
            connection.execute(INSERT_WAL, _row(RAGGED, state.ragged_sequence, batch))
        with state.lock:
            state.settle(plan.ids, RAGGED)
            state.ragged.append_batch(plan.key, plan.ids, times, values)
            state.last_ms[plan.ids] = times[-1]
            state.ragged_sequence += 1
        return True

    def _append_each(self, given: Sequence[Series]) -> AppendResult:
        pending = Pending(self._state)
        found = self._sort(given, pending)
        result = found.result
        if result.accepted:
            self._write(found, pending)
        self.duplicate += result.duplicate
        self.out_of_order += result.out_of_order
        self.conflict += result.conflict
        self.late += sum(len(values) for _, values in found.late.values())
        return result

    def _sort(self, given: Sequence[Series], pending: Pending) -> _Sorted:
        runs: dict[int, list[Points]] = {}
        behind: dict[int, list[_Behind]] = {}
        accepted = 0
        for one in given:
            series_id = pending.id_of(one.labels)
            run = runs.get(series_id)
            newest_ms = int(run[-1][0][-1]) if run else self._state.last_of(series_id)
            points, rest = _in_order(one, newest_ms)
            if points is not None:
                check_time(render, one.labels, int(points[0][0]))
                check_time(render, one.labels, int(points[0][-1]))
                runs.setdefault(series_id, []).append(points)
                accepted += len(points[1])
            if rest:
                behind.setdefault(series_id, []).extend(rest)
        late, counts = self._judge(behind, runs)
        return _Sorted(runs, late, AppendResult(accepted + counts["late"], *(counts[name] for name in _REFUSED)))

    def _judge(
        self, behind: dict[int, list[_Behind]], runs: dict[int, list[Points]]
    ) -> tuple[dict[int, Points], dict[str, int]]:
        """Samples behind their series' latest: those that are kept, and how many came to which end."""
        counts = dict.fromkeys(("late", *_REFUSED), 0)
        in_window = {
            series_id: near
            for series_id, samples in behind.items()
            if (near := [one for one in samples if one.timestamp_ms >= one.newest_ms - self._window_ms])
        }
        counts["out_of_order"] = sum(map(len, behind.values())) - sum(map(len, in_window.values()))
        if not in_window:
            return {}, counts
        times = [one.timestamp_ms for samples in in_window.values() for one in samples]
        found = self._reader.points(np.array(sorted(in_window), np.int64), min(times), max(times))
        stored = {series_id: (points,) for series_id, points in found.items()}
        late: dict[int, Points] = {}
        for series_id, samples in in_window.items():
            known: dict[int, int] = {}
            for timestamps_ms, values in (*runs.get(series_id, ()), *stored.get(series_id, ())):
                known.update(zip(timestamps_ms.tolist(), _bits(values), strict=True))
            fresh: dict[int, float] = {}
            for one, bits in zip(samples, _bits(np.array([one.value for one in samples])), strict=True):
                if one.timestamp_ms not in known:
                    known[one.timestamp_ms] = bits
                    fresh[one.timestamp_ms] = one.value
                else:
                    counts["duplicate" if known[one.timestamp_ms] == bits else "conflict"] += 1
            counts["late"] += len(fresh)
            if fresh:
                ordered = sorted(fresh)
                late[series_id] = (np.array(ordered, np.int64), without_holes(np.array([fresh[t] for t in ordered])))
        return late, counts

    def _write(self, found: _Sorted, pending: Pending) -> None:
        state = self._state
        runs = {series_id: _joined(parts) for series_id, parts in found.runs.items()}
        with self._database.transaction() as connection:
            pending.write(connection)
            if runs:
                connection.execute(INSERT_WAL, _row(RAGGED, state.ragged_sequence, _batch(runs)))
            if found.late:
                connection.execute(INSERT_WAL, _row(LATE, state.late_sequence, _batch(found.late)))
        with state.lock:
            pending.publish()
            ids = np.array([*runs, *found.late], np.int64)
            state.cover(ids)
            state.settle(ids, RAGGED)
            for series_id, (timestamps_ms, values) in runs.items():
                state.ragged.append(series_id, timestamps_ms, values)
                state.last_ms[series_id] = timestamps_ms[-1]
            for series_id, (timestamps_ms, values) in found.late.items():
                state.late.append(series_id, timestamps_ms, values)
            state.ragged_sequence += bool(runs)
            state.late_sequence += bool(found.late)


_REFUSED = ("duplicate", "out_of_order", "conflict")


def _length(one: Series) -> int:
    if len(one.timestamps_ms) != len(one.values):
        times, values = len(one.timestamps_ms), len(one.values)
        raise StoreError(f"{render(one.labels)}: {values} values for {times} times")
    return len(one.values)


def _in_order(series: Series, newest_ms: int) -> tuple[Points | None, list[_Behind]]:
    """The samples that come after all before them, and the others."""
    timestamps_ms, values = series.timestamps_ms, series.values
    if timestamps_ms[0] > newest_ms and (len(values) == 1 or (timestamps_ms[1:] > timestamps_ms[:-1]).all()):
        return (timestamps_ms, without_holes(values)), []
    kept: list[int] = []
    rest: list[_Behind] = []
    for place, timestamp_ms in enumerate(timestamps_ms.tolist()):
        if timestamp_ms > newest_ms:
            newest_ms = timestamp_ms
            kept.append(place)
        else:
            rest.append(_Behind(timestamp_ms, float(values[place]), newest_ms))
    return ((timestamps_ms[kept], without_holes(values[kept])) if kept else None), rest


def _bits(values: Float64Array) -> list[int]:
    bits: list[int] = without_holes(values).view(np.uint64).tolist()
    return bits


def _joined(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _batch(points: dict[int, Points]) -> Batch:
    times, values = _joined(list(points.values()))
    counts = np.array([len(part[1]) for part in points.values()], np.int64)
    return Batch(np.fromiter(points, np.int64, len(points)), counts, times, values)


def _row(group_id: int, sequence: int, batch: Batch) -> tuple[int, None, int, int, bytes]:
    payload = encode_batch(batch)
    newest_ms = int(batch.timestamps_ms.max())
    return group_id << WINDOW_BITS | sequence, None, newest_ms, checksum(payload), payload
