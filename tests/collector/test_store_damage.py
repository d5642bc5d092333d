"""A damaged file: opened and served with a report, or refused with a StoreError; never anything else."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.model.errors import StoreError
from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.model.spans import Span
from collector.store import SpanStore, Store

LAYOUT = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(100)]
PUSHED = from_mapping({"__name__": "pushed"})


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Bytes of a file with every kind of row."""
    directory = tmp_path_factory.mktemp("healthy")
    rng = np.random.default_rng(1)
    with Store.open(directory, block_ms=10_000, retention_ms=None) as store:
        for step in range(40):
            layout = LAYOUT if step % 7 else LAYOUT[:50]
            store.append_scrape("target", layout, 1_000 * step, rng.random(len(layout)))
            store.append_series([Series(PUSHED, np.array([1_000 * step], np.int64), np.ones(1))])
        store.cut(25_000)
        store.set_metadata("m", "gauge", "what", "")
        SpanStore(store.database).append(
            [Span("ab" * 16, "cd" * 8, None, "n", "s", "server", 1, 2, attributes={"a": 1})]
        )
    return (directory / "loadline.db").read_bytes()


@given(places=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=64)), min_size=1, max_size=3))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_damage_is_reported_or_refused(
    healthy: bytes, tmp_path: Path, places: list[tuple[float, bytes]]
) -> None:
    damaged = bytearray(healthy)
    for share, junk in places:
        first = int(share * (len(damaged) - len(junk)))
        damaged[first : first + len(junk)] = junk
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "loadline.db").write_bytes(damaged)
    try:
        with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
            store.select([], -(10**15), 10**15)
            store.series([], -(10**15), 10**15)
            SpanStore(store.database).search(attributes={"a": "1"})
            store.append_scrape("target", LAYOUT, 10**6, np.ones(100))
            store.maintain(10**6 + 50_000)
            assert store.stats().newest_ms is not None
    except StoreError as error:
        assert str(tmp_path) in str(error)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("UPDATE layouts SET series = x'ffffffff' WHERE id = 2", "layout 2 is no list of series"),
        ("UPDATE chunks SET steps = 1 << 50 WHERE id = 1", "chunk 1: its row is damaged"),
        ("UPDATE chunks SET layout = 99 WHERE id = 1", "chunk 1: its group 1 or layout 99 is unknown"),
        ("UPDATE series SET id = 1 << 50 WHERE id = 7", "labels of series 1125899906842624 cannot be read"),
        ("UPDATE groups SET key = x'ff' WHERE id = 1", "group 1: its row is damaged"),
    ],
)
def test_damaged_numbers_are_reported_and_cost_no_memory(
    healthy: bytes, tmp_path: Path, query: str, problem: str
) -> None:
    (tmp_path / "loadline.db").write_bytes(healthy)
    connection = sqlite3.connect(tmp_path / "loadline.db")
    with connection:
        assert connection.execute(query).rowcount == 1
    connection.close()
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
        assert problem in store.stats().recovered.problems[0]
        assert store.select([], 0, 10**9)
        assert store.stats().cached_bytes < 1 << 20
