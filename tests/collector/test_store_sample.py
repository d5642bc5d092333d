"""A database of format 1, made by the first version of the store, still opens and answers exactly."""

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

import collector.store
from collector.model.labels import from_mapping
from collector.model.matchers import Matcher
from collector.model.series import is_stale
from collector.store import LogStore, Metadata, SpanStore, Store

SAMPLE = Path(collector.store.__file__).parent / "samples" / "v1" / "loadline.db"
LAYOUT = [from_mapping({"__name__": f"sample_{i % 2}_total", "i": str(i)}) for i in range(20)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of the sample, in which 20 of 30 scrapes are in tiles, the others in write-ahead rows."""
    shutil.copy(SAMPLE, tmp_path / "loadline.db")
    return tmp_path


def assert_sample(store: Store) -> None:
    (group,) = store.select([Matcher("i", "!=", "")], 0, 10**9)
    assert group.timestamps_ms.tolist() == [1_000 * step for step in range(30)]
    assert set(group.labels) == set(LAYOUT)
    for column, labels in enumerate(group.labels):
        i = int(dict(labels)["i"])
        steps = np.arange(30 if i < 18 else 25)
        expected = steps * (i + 1.0) + i / 8
        assert group.values[: len(steps), column].tobytes() == expected.tobytes()
        assert is_stale(group.values[len(steps) :, column]).all()
    (pushed,) = store.select([Matcher("kind", "=", "push")], 0, 10**9)
    assert pushed.timestamps_ms.tolist() == [1_000 * step + 500 for step in range(30)]
    assert pushed.values[:, 0].tolist() == [step / 3 for step in range(30)]
    assert store.metadata() == {"sample_0": Metadata("counter", "even ones", "")}
    (span,) = SpanStore(store.database).search(service="api", attributes={"http.status": "200", "ok": "true"})
    assert (span.trace_id, span.duration_ms) == ("ab" * 16, 2.0)
    assert store.stats().recovered.damaged == 0


def test_a_file_of_format_1_answers_exactly_and_is_brought_forward(directory: Path) -> None:
    with Store.open(directory, block_ms=10_000, retention_ms=None) as store:
        assert_sample(store)
        assert store.stats().tile_samples > 0
        assert LogStore(store.database).search() == []
        store.maintain(10**9)
        assert_sample(store)
        assert store.stats().wal_rows == 0
    connection = sqlite3.connect(directory / "loadline.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (2,)
    connection.close()
    with Store.open(directory, retention_ms=None) as store:
        assert_sample(store)


def test_a_reader_leaves_a_file_of_format_1_as_it_is(directory: Path) -> None:
    with Store.open(directory, read_only=True) as store:
        assert_sample(store)
        assert LogStore(store.database).search(text="x") == []
        assert store.exemplars([], 0, 10**9) == []
    assert (directory / "loadline.db").read_bytes() == SAMPLE.read_bytes()
