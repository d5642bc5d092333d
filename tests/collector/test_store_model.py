"""The store against a model of plain dicts and lists: in any order of appends, cuts, compactions and reopenings."""

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher, all_match
from collector.model.series import STALE_BITS, STALE_NAN, Series, SeriesGroup
from collector.store import AppendResult, OutOfOrder, Store
from collector.store.holes import HOLE_BITS

NAMES = [from_mapping({"__name__": f"m{i % 3}", "i": str(i)}) for i in range(20)]
VALUE = st.one_of(st.integers(0, 100).map(float), st.floats(), st.sampled_from([STALE_NAN, -0.0, float("nan")]))
SUBSET = st.lists(st.sampled_from(range(len(NAMES))), max_size=12)
STEP_MS = st.sampled_from([1, 500, 4_000, 9_000, 31_000])
BLOCK_MS, COMPACT_MS, OUT_OF_ORDER_MS = 10_000, 40_000, 8_000
MATCHERS = st.sampled_from(
    [
        [],
        [Matcher("__name__", "=", "m1")],
        [Matcher("__name__", "!=", "m1"), Matcher("i", "=~", "1.*|2")],
        [Matcher("i", "!~", "1.*")],
        [Matcher("absent", "=", "")],
        [Matcher("__name__", "=", "m9")],
    ]
)
Points = list[tuple[int, int]]


def bits(value: float) -> int:
    return int(np.array([value]).view(np.uint64)[0])


def canonical(points: Points) -> Points:
    """Without the markers before the first sample, and of a run of markers only the first."""
    kept: Points = []
    for time, value in points:
        if value != STALE_BITS or (kept and kept[-1][1] != STALE_BITS):
            kept.append((time, value))
    return kept


def answer_of(groups: list[SeriesGroup]) -> dict[Labels, Points]:
    answer: dict[Labels, Points] = {}
    for group in groups:
        assert (np.diff(group.timestamps_ms) > 0).all()
        assert group.values.shape == (len(group.timestamps_ms), len(group.labels))
        for column, labels in enumerate(group.labels):
            assert labels not in answer
            column_bits = np.ascontiguousarray(group.values[:, column]).view(np.uint64)
            assert HOLE_BITS not in column_bits
            answer[labels] = list(zip(group.timestamps_ms.tolist(), column_bits.tolist(), strict=True))
    return answer


class Model:
    """Samples by source, in the order in which sources came; what is pushed is last."""

    def __init__(self) -> None:
        self.sources: dict[str, dict[Labels, Points]] = {}
        self.pushed: dict[Labels, dict[int, int]] = {}
        self.newest: dict[Labels, int] = {}
        self.alive: dict[str, set[Labels]] = {}

    def scrape(self, key: str, layout: list[Labels], time: int, values: list[float]) -> None:
        alive = self.alive.get(key, set())
        if not layout and not alive:
            return
        samples = self.sources.setdefault(key, {})
        for labels in alive - set(layout):
            samples[labels].append((time, STALE_BITS))
        seen = set()
        for labels, value in zip(layout, values, strict=True):
            if labels not in seen:
                samples.setdefault(labels, []).append((time, bits(value)))
            seen.add(labels)
        self.alive[key] = seen

    def push(self, labels: Labels, samples: list[tuple[int, float]]) -> AppendResult:
        known = self.pushed.setdefault(labels, {})
        accepted = duplicate = out_of_order = conflict = 0
        behind = []
        for time, value in samples:
            newest = self.newest.get(labels)
            if newest is None or time > newest:
                known[time] = bits(value)
                self.newest[labels] = time
                accepted += 1
            elif time < newest - OUT_OF_ORDER_MS:
                out_of_order += 1
            else:
                behind.append((time, bits(value)))
        for time, value_bits in behind:
            accepted += time not in known
            duplicate += known.get(time) == value_bits
            conflict += known.setdefault(time, value_bits) != value_bits
        return AppendResult(accepted, duplicate, out_of_order, conflict)

    def select(self, matchers: list[Matcher], start: int, end: int) -> dict[Labels, Points]:
        answer = {}
        for labels in NAMES:
            if not all_match(matchers, labels):
                continue
            merged: dict[int, int] = {}
            pushed = {name: sorted(samples.items()) for name, samples in self.pushed.items()}
            for samples in (*self.sources.values(), pushed):
                for time, value in samples.get(labels, []):
                    if start <= time <= end and merged.get(time, STALE_BITS) == STALE_BITS:
                        merged[time] = value
            points = canonical(sorted(merged.items()))
            if points:
                answer[labels] = points
        return answer


class StoreAgainstModel(RuleBasedStateMachine):
    """Random histories."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.model = Model()
        self.now = 0
        self.last: dict[str, int] = {}
        self.layouts: dict[tuple[int, ...], list[Labels]] = {}
        self.repeating: dict[int, list[Labels]] = {}
        self.reopen_store()

    def reopen_store(self) -> None:
        self.store = Store.open(
            Path(self.directory.name),
            block_ms=BLOCK_MS,
            compact_ms=COMPACT_MS,
            out_of_order_ms=OUT_OF_ORDER_MS,
            retention_ms=None,
            cache_bytes=4_000,
        )

    @rule(key=st.sampled_from(["a", "b"]), places=SUBSET, step_ms=STEP_MS, data=st.data())
    def scrape(self, key: str, places: list[int], step_ms: int, data: st.DataObject) -> None:
        self.now += step_ms
        layout = self.layouts.setdefault(tuple(places), [NAMES[place] for place in places])
        for _ in range(data.draw(st.integers(1, 3))):
            values = data.draw(st.lists(VALUE, min_size=len(places), max_size=len(places)))
            self.store.append_scrape(key, layout, self.now, np.array(values, np.float64))
            self.model.scrape(key, layout, self.now, values)
            if layout or self.last.get(key):
                self.last[key] = self.now
            self.now += 1

    @rule(key=st.sampled_from(["a", "b", "never seen"]))
    def stale(self, key: str) -> None:
        self.now += 7
        self.store.mark_stale(key, self.now)
        self.model.scrape(key, [], self.now, [])

    @rule(key=st.sampled_from(["a", "b"]))
    def scrape_late(self, key: str) -> None:
        times = [time for points in self.model.sources.get(key, {}).values() for time, _ in points]
        if times:
            try:
                self.store.append_scrape(key, NAMES[:1], max(times), np.array([1.0]))
            except OutOfOrder:
                return
            raise AssertionError("a late scrape was accepted")

    @rule(
        places=st.lists(st.sampled_from(range(len(NAMES))), min_size=1, max_size=5, unique=True),
        backs=st.lists(st.integers(-5_000, 15_000), min_size=1, max_size=4),
        value=VALUE,
    )
    def batch(self, places: list[int], backs: list[int], value: float) -> None:
        times = [self.now - back for back in backs]
        given = [Series(NAMES[p], np.array(times, np.int64), np.full(len(times), value)) for p in places]
        self.same(self.store.append_series(given), [(NAMES[p], [(time, value) for time in times]) for p in places])

    @rule(
        first=st.sampled_from([0, 4]),
        back=st.sampled_from([-3_000, -3_000, 0, 5_000]),
        rows=st.integers(1, 3),
        value=VALUE,
        spread_ms=st.sampled_from([0, 1]),
    )
    def repeating_batch(self, first: int, back: int, rows: int, value: float, spread_ms: int) -> None:
        self.now += 5 * rows
        layout = self.repeating.setdefault(first, NAMES[first : first + 6])
        times = self.now - back + 5 * np.arange(rows)[:, None] + spread_ms * np.arange(len(layout))
        values = np.full(times.shape, value)
        values[0, 0] = rows
        columns = enumerate(layout)
        pushed = [
            (labels, list(zip(times[:, i].tolist(), values[:, i].tolist(), strict=True))) for i, labels in columns
        ]
        self.same(self.store.append_batch(layout, times, values), pushed)

    def same(self, result: AppendResult, pushed: list[tuple[Labels, list[tuple[int, float]]]]) -> None:
        expected = [self.model.push(labels, samples) for labels, samples in pushed]
        for name in ("accepted", "duplicate", "out_of_order", "conflict"):
            assert getattr(result, name) == sum(getattr(one, name) for one in expected), name

    @rule()
    def compact(self) -> None:
        self.store.compact(self.now)

    @rule()
    def cut(self) -> None:
        self.store.cut(self.now)

    @rule()
    def maintain(self) -> None:
        self.store.maintain(self.now)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.reopen_store()
        assert self.store.stats().recovered.damaged == 0

    @rule(matchers=MATCHERS, start=st.integers(-10_000, 100_000), length=st.integers(0, 100_000))
    def select_range(self, matchers: list[Matcher], start: int, length: int) -> None:
        self.compare(matchers, start, start + length)

    @invariant()
    def everything_is_there(self) -> None:
        self.compare([], -(10**9), 10**9)

    def compare(self, matchers: list[Matcher], start: int, end: int) -> None:
        answer = answer_of(self.store.select(matchers, start, end))
        found = {labels: kept for labels, points in answer.items() if (kept := canonical(points))}
        assert found == self.model.select(matchers, start, end)
        assert set(found) <= set(self.store.series(matchers, start, end))

    def teardown(self) -> None:
        self.store.close()
        self.directory.cleanup()


StoreAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestStoreAgainstModel = StoreAgainstModel.TestCase
