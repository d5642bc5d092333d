"""Exemplars: of each series the latest few, found by matchers and time."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from collector.model.exemplars import Exemplar
from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher
from collector.store import Store
from collector.store.exemplars import RING

A, B = (from_mapping({"__name__": "latency_bucket", "le": le}) for le in ("1", "2"))


def exemplar(series: Labels, time: int, value: float = 0.5, trace: str = "ab") -> Exemplar:
    return Exemplar(series, (("trace_id", trace),), value, time)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=30_000) as store:
        store.append_scrape("target", [A, B], 1_000, np.ones(2))
        yield store


def test_exemplars_are_found_by_matchers_and_time_and_after_a_restart(store: Store, tmp_path: Path) -> None:
    given = [exemplar(B, 1_000), exemplar(A, 1_000, float("inf")), exemplar(A, 2_000, trace="cd")]
    assert store.append_exemplars(given) == 3
    assert store.exemplars([], 0, 10_000) == [given[1], given[2], given[0]]
    assert store.exemplars([Matcher("le", "=", "1")], 1_500, 2_000) == [given[2]]
    store.close()
    with Store.open(tmp_path) as again:
        assert again.exemplars([Matcher("le", "=", "2")], 0, 10_000) == [given[0]]
        assert again.append_exemplars([exemplar(A, 2_000), exemplar(A, 2_001)]) == 1


def test_of_each_series_the_latest_are_kept(store: Store) -> None:
    for time in range(1_000, 1_000 + 3 * RING):
        store.append_exemplars([exemplar(A, time)])
    store.append_exemplars([exemplar(B, 5)])
    times = [one.timestamp_ms for one in store.exemplars([], 0, 10_000)]
    assert times == [*range(1_000 + 2 * RING, 1_000 + 3 * RING), 5]


def test_unknown_series_late_exemplars_and_long_labels_are_refused(store: Store) -> None:
    unknown = from_mapping({"__name__": "unknown"})
    given = [exemplar(unknown, 1), exemplar(A, 5), exemplar(A, 5), exemplar(A, 4), exemplar(B, 5, trace="a" * 121)]
    assert store.append_exemplars(given) == 1
    assert store.stats().exemplars_refused == 4
    assert store.exemplars([], 0, 10) == [given[1]]


def test_exemplars_go_with_their_age_and_with_their_series(store: Store) -> None:
    store.append_exemplars([exemplar(A, 1_000), exemplar(B, 45_000)])
    store.maintain(50_000)
    assert [one.series for one in store.exemplars([], 0, 10**6)] == [B]
    store.mark_stale("target", 51_000)
    store.maintain(200_000)
    assert store.stats().series == 0
    assert store.exemplars([], 0, 10**6) == []
