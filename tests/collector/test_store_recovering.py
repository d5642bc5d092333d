"""A file with pages that SQLite cannot read: what can be read is served from a new file, the old one is kept."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from collector.model.errors import StoreError
from collector.model.labels import from_mapping
from collector.model.logs import LogRecord
from collector.model.matchers import Matcher
from collector.model.series import Series
from collector.store import LogStore, Store
from collector.store.recovering import finish
from collector.store.schema import PAGE_BYTES

LAYOUT = [from_mapping({"__name__": "m", "long": "x" * 40, "i": str(i)}) for i in range(200)]
PUSHED = from_mapping({"__name__": "pushed"})
STEPS = 60


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of several pages for each of the larger tables."""
    directory = tmp_path_factory.mktemp("healthy")
    rng = np.random.default_rng(1)
    with Store.open(directory, block_ms=10_000, retention_ms=None) as store:
        for step in range(STEPS):
            store.append_scrape("target", LAYOUT, 1_000 * step, rng.random(len(LAYOUT)))
            store.append_series([Series(PUSHED, np.array([1_000 * step], np.int64), np.ones(1))])
        store.maintain(45_000)
        LogStore(store.database).append([LogRecord(1, 9, "INFO", "hello world", "s", {}, {}, None, None)])
    return (directory / "loadline.db").read_bytes()


def damage(directory: Path, healthy: bytes, page: int) -> None:
    """Page ``page``, counted from 1, holds nothing of sense."""
    damaged = bytearray(healthy)
    damaged[(page - 1) * PAGE_BYTES : page * PAGE_BYTES] = b"\xa5" * PAGE_BYTES
    (directory / "loadline.db").write_bytes(damaged)


def root_of(healthy: bytes, directory: Path, table: str) -> int:
    """The page at which a table begins."""
    (directory / "look.db").write_bytes(healthy)
    with sqlite3.connect(directory / "look.db") as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    connection.close()
    return int(page)


@pytest.mark.parametrize("table", ["series", "layouts", "groups", "wal", "chunks", "tiles", "logs", "logs_by_time"])
def test_whichever_table_is_broken_the_store_opens_takes_samples_and_opens_again(
    healthy: bytes, tmp_path: Path, table: str
) -> None:
    damage(tmp_path, healthy, root_of(healthy, tmp_path, table))
    for _ in range(2):  # what only a write meets is mended at the next opening
        try:
            with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
                store.append_scrape("target", LAYOUT, 10**6, np.full(len(LAYOUT), 7.0))
                LogStore(store.database).append([LogRecord(2, 9, "INFO", "again", "s", {}, {}, None, None)])
                store.maintain(10**6 + 60_000)
            break
        except StoreError:
            continue
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
        groups = store.select([Matcher("__name__", "=", "m")], 10**6, 10**12)
        found = {
            labels: float(value)
            for group in groups
            for labels, value in zip(group.labels, group.values[0], strict=True)
        }
        assert found == dict.fromkeys(LAYOUT, 7.0)
    assert list(tmp_path.glob("loadline.db.damaged-*"))


def test_what_was_lost_is_told_and_the_damaged_file_is_kept(healthy: bytes, tmp_path: Path) -> None:
    damage(tmp_path, healthy, root_of(healthy, tmp_path, "series"))
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
        problems = store.stats().recovered.problems
        assert "the file was damaged and is kept as loadline.db.damaged-1; its readable rows are served" in problems
        assert "table series: rows from number 1 on cannot be read" in problems
        store.append_scrape("target", LAYOUT, 1_000 * STEPS, np.full(len(LAYOUT), 7.0))
        (group,) = store.select([Matcher("__name__", "=", "m")], 0, 10**12)
        assert group.timestamps_ms.tolist() == [1_000 * STEPS]  # old samples, whose labels are lost, are nobody's
        assert LogStore(store.database).search(text="hello")
    assert (tmp_path / "loadline.db.damaged-1").stat().st_size == len(healthy)


def test_a_reader_leaves_a_damaged_file_alone(healthy: bytes, tmp_path: Path) -> None:
    damage(tmp_path, healthy, root_of(healthy, tmp_path, "series"))
    with pytest.raises(StoreError, match="malformed"):
        Store.open(tmp_path, read_only=True)
    assert not list(tmp_path.glob("loadline.db.damaged-*"))


def test_an_exchange_that_was_cut_off_is_ended_at_the_next_opening(tmp_path: Path) -> None:
    file = tmp_path / "loadline.db"
    (tmp_path / "loadline.db.recovered").write_bytes(b"new")
    file.write_bytes(b"old")
    finish(file)
    assert (file.read_bytes(), (tmp_path / "loadline.db.damaged-1").read_bytes()) == (b"new", b"old")
    (tmp_path / "loadline.db.recovered").write_bytes(b"newer")
    file.unlink()
    finish(file)
    assert file.read_bytes() == b"newer"
