"""Reading: matchers against brute force, label questions, the cache's bound."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher, all_match
from collector.model.series import Series
from collector.store import Store
from collector.store.cache import TileCache
from collector.store.index import LabelIndex

NAMES = st.sampled_from(["__name__", "job", "le", "absent"])
VALUES = st.sampled_from(["", "a", "b", "ab", "a.c"])
LABELS = st.dictionaries(NAMES, VALUES, max_size=4).map(from_mapping)
MATCHER = st.builds(
    Matcher, NAMES, st.sampled_from(["=", "!=", "=~", "!~"]), st.sampled_from(["", "a", "a|b", "a.*", ".*", ".+"])
)


@given(st.sets(LABELS, max_size=20), st.lists(MATCHER, max_size=3), st.data())
def test_the_index_agrees_with_trying_every_series(
    series: set[Labels], matchers: list[Matcher], data: st.DataObject
) -> None:
    index = LabelIndex()
    index.add(enumerate(sorted(series), 1))
    gone = data.draw(st.sets(st.sampled_from(sorted(series)))) if series else set()
    index.remove(series_id for labels in gone if (series_id := index.id_of(labels)) is not None)
    found = index.known(index.match(matchers).tolist()).values()
    assert set(found) == {labels for labels in series - gone if all_match(matchers, labels)}
    assert len(index) == len(series - gone)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path, block_ms=10_000, retention_ms=None)
    first = [from_mapping({"__name__": "up", "job": job}) for job in ("vllm", "node")]
    store.append_scrape("first", first, 1_000, np.ones(2))
    store.append_scrape("first", first[:1], 32_000, np.ones(1))
    later = Series(from_mapping({"__name__": "ALERTS", "alertname": "Slow"}), np.array([35_000], np.int64), np.ones(1))
    store.append_series([later])
    store.cut(25_000)
    yield store
    store.close()


def test_label_names_and_values_are_those_of_the_range(store: Store) -> None:
    assert store.label_names([], 0, 9_000) == ("__name__", "job")
    assert store.label_names([], 33_000, 40_000) == ("__name__", "alertname")
    assert store.label_values("job", [], 0, 9_000) == ("node", "vllm")
    assert store.label_values("job", [Matcher("job", "!=", "node")], 0, 9_000) == ("vllm",)
    assert store.label_values("nothing", [], 0, 9_000) == ()


def test_series_are_sorted_label_sets(store: Store) -> None:
    assert store.series([Matcher("__name__", "=", "up")], 0, 9_000) == (
        (("__name__", "up"), ("job", "node")),
        (("__name__", "up"), ("job", "vllm")),
    )
    assert store.series([], 50_000, 60_000) == ()


def test_an_empty_range_has_no_groups(store: Store) -> None:
    assert store.select([], 2_000, 31_000) == []


def test_series_pushed_with_equal_timestamps_share_a_matrix(store: Store) -> None:
    times = np.arange(50_000, 60_000, 1_000)
    pushed = [
        Series(from_mapping({"__name__": "pushed", "i": str(i)}), times, np.full(10, float(i))) for i in range(20)
    ]
    store.append_series(pushed)
    matchers = [Matcher("__name__", "=", "pushed")]
    for _ in range(2):
        (group,) = store.select(matchers, 0, 10**9)
        assert group.values.shape == (10, 20)
        assert {labels: float(value) for labels, value in zip(group.labels, group.values[0], strict=True)} == {
            one.labels: float(one.values[0]) for one in pushed
        }
        store.cut(75_000)


def test_a_group_stays_one_matrix_across_cuts_with_another_order_of_columns(store: Store) -> None:
    layout = [from_mapping({"__name__": "m", "i": str(i)}) for i in reversed(range(40))]
    for step in range(60):
        store.append_scrape("target", layout, 100_000 + 1_000 * step, np.arange(40.0) + step)
        store.cut(100_000 + 1_000 * step)
    (group,) = store.select([Matcher("__name__", "=", "m"), Matcher("i", "=~", ".*[02468]")], 0, 10**9)
    assert group.values.shape == (60, 20)
    for column, labels in enumerate(group.labels):
        assert group.values[:, column].tolist() == [float(layout.index(labels) + step) for step in range(60)]


def test_the_cache_keeps_to_its_bound_and_lets_go_of_the_least_used() -> None:
    cache = TileCache(3_000)
    for number in range(3):
        cache.put((1, number), np.zeros(125))
    assert cache.get((1, 0)) is not None
    cache.put((1, 3), np.zeros(125))
    assert cache.get((1, 1)) is None
    assert cache.get((1, 0)) is not None
    assert cache.used_bytes == 3_000
    cache.put((1, 4), np.zeros(1_000))
    assert cache.get((1, 4)) is None
    assert cache.used_bytes == 3_000


def test_a_store_without_cache_answers_the_same(tmp_path: Path) -> None:
    layout = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(40)]
    with Store.open(tmp_path, block_ms=10_000, cache_bytes=0, retention_ms=None) as store:
        for step in range(30):
            store.append_scrape("target", layout, 1_000 * step, np.arange(40.0) * step)
        before = store.select([], 0, 10**9)[0]
        store.cut(45_000)
        after = store.select([], 0, 10**9)[0]
        assert dict(zip(before.labels, before.values.T.tolist(), strict=True)) == dict(
            zip(after.labels, after.values.T.tolist(), strict=True)
        )
        assert store.stats().cached_bytes == 0


def test_pushed_series_that_came_together_are_one_matrix_before_and_after_a_restart(tmp_path: Path) -> None:
    layout = [from_mapping({"__name__": "p", "i": str(i)}) for i in range(40)]
    for part in range(2):
        with Store.open(tmp_path, block_ms=20_000, retention_ms=None) as store:
            for step in range(25 * part, 25 * part + 25):
                store.append_batch(layout, np.full(40, 1_000 * step), np.arange(40.0) + step)
            store.cut(30_000)
            (group,) = store.select([Matcher("i", "!=", "7")], 0, 10**9)
            assert (len(group.labels), group.timestamps_ms.tolist()) == (39, [1_000 * step for step in range(step + 1)])
            assert [dict(labels)["i"] for labels in group.labels].index("8") == group.values[0].tolist().index(8.0)


def test_a_scan_gives_what_a_select_gives_in_smaller_pieces(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    every = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(100)]
    some = every[10:]
    with Store.open(tmp_path, block_ms=1_800_000, retention_ms=None) as store:
        for step in range(6_000):
            layout = every if step < 4_000 else some
            store.append_scrape("target", layout, 1_000 * step, rng.integers(0, 9, len(layout)).astype(float))
        store.cut(5_000_000)
        (whole,) = store.select([], 500_000, 6_000_000)
        pieces = list(store.scan([], 500_000, 6_000_000))
        assert len(pieces) > 1
        assert sum((piece.labels for piece in pieces), ()) == whole.labels
        assert np.concatenate([piece.values for piece in pieces], axis=1).tobytes() == whole.values.tobytes()


def test_a_head_of_several_full_matrices_is_read_and_cut_as_one(tmp_path: Path) -> None:
    layout = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(9_000)]
    with Store.open(tmp_path, block_ms=100_000, retention_ms=None) as store:
        for step in range(70):
            store.append_scrape("target", layout, 1_000 * step, np.full(len(layout), float(step)))
        matchers = [Matcher("__name__", "=", "m"), Matcher("i", "=~", "7|8999")]
        for _ in range(2):
            (group,) = store.select(matchers, 0, 10**9)
            assert group.timestamps_ms.tolist() == list(range(0, 70_000, 1_000))
            assert (group.values == np.arange(70.0)[:, None]).all()
            store.cut(200_000)
        assert store.stats().head_samples == 0
