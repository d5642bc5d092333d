"""Retention by age and by size, for samples, series and spans; unused pages go back to the file system."""

from pathlib import Path

import numpy as np
import pytest

from collector.model.labels import from_mapping
from collector.model.logs import LogRecord
from collector.model.series import Series
from collector.model.spans import Span
from collector.store import LogStore, SpanStore, Store
from collector.store.cache import TileCache
from collector.store.damage import Damage
from collector.store.database import Database
from collector.store.state import Layout
from collector.store.tiles import ChunkMoved, TileReader, encode_chunk, write_row, write_tiles

LAYOUT = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(40)]
OLD = from_mapping({"__name__": "old"})


def fill(store: Store, first: int, last: int) -> None:
    rng = np.random.default_rng(first)
    for step in range(first, last):
        store.append_scrape("target", LAYOUT, 1_000 * step, rng.random(40))


def times(store: Store) -> list[int]:
    return [int(time) for group in store.select([], 0, 10**12) for time in group.timestamps_ms]


def test_samples_past_their_age_go_and_the_rest_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=30_000) as store:
        fill(store, 0, 60)
        store.maintain(61_000)
        assert times(store) == [1_000 * step for step in range(30, 60)]
        assert store.stats().chunks == 3
    with Store.open(tmp_path) as store:
        assert times(store) == [1_000 * step for step in range(30, 60)]


def test_series_without_samples_are_forgotten_and_may_come_back(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=30_000) as store:
        store.append_series([Series(OLD, np.array([1_000], np.int64), np.ones(1))])
        store.append_scrape("gone", [from_mapping({"__name__": "gone"})], 1_000, np.ones(1))
        store.mark_stale("gone", 2_000)
        fill(store, 0, 60)
        assert (store.stats().series, store.stats().groups) == (42, 2)
        store.maintain(61_000)
        assert (store.stats().series, store.stats().groups) == (40, 1)
        assert store.append_series([Series(OLD, np.array([500], np.int64), np.ones(1))]).accepted == 1
        store.append_scrape("gone", [from_mapping({"__name__": "gone"})], 62_000, np.ones(1))
    with Store.open(tmp_path) as store:
        recovered = store.stats().recovered
        assert recovered.damaged == 0, recovered.problems
        assert OLD in store.series([], 0, 1_000)
        assert store.stats().series == 42


def test_the_oldest_of_samples_spans_and_logs_go_when_the_file_holds_too_much(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None, retention_bytes=600_000) as store:
        fill(store, 0, 1_000)
        spans, logs = SpanStore(store.database), LogStore(store.database)
        spans.append(
            [Span(f"{i:032x}", f"{i:016x}", None, "n", "s", "server", i * 10**9, i * 10**9 + 1) for i in range(1_000)]
        )
        logs.append([LogRecord(i * 10**9, 9, "INFO", f"record {i} " + "x" * 300, "s") for i in range(1_000)])
        store.cut(1_002_000)
        assert store.database.used_bytes() > 1_000_000
        store.maintain(1_002_000)
        assert store.database.used_bytes() <= 600_000
        assert (tmp_path / "loadline.db").stat().st_size < 700_000
        oldest_s = min(times(store)) // 1_000
        assert times(store)[-1] == 999_000
        assert 300 < oldest_s < 900
        for records in (spans, logs):
            first_ns, last_ns = records.time_range_ns() or (0, 0)
            assert oldest_s <= first_ns / 1e9 <= oldest_s + 20
            assert last_ns == 999 * 10**9


def test_pages_go_back_to_the_file_system(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=30_000) as store:
        fill(store, 0, 600)
        store.maintain(601_000)
        store.maintain(601_000)
        pages, unused = store.database.pages()
        assert unused <= pages // 20 + 1
        assert (tmp_path / "loadline.db").stat().st_size < 300_000


def test_spans_past_their_age_go(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=30_000) as store:
        spans = SpanStore(store.database)
        spans.append(
            [
                Span("ab" * 16, f"{number:016x}", None, "n", "s", "server", 10**9 * number, 10**9 * number + 1)
                for number in range(60)
            ]
        )
        store.maintain(61_000)
        assert [span.start_ns // 10**9 for span in spans.trace("ab" * 16)] == list(range(31, 60))


def test_a_reader_at_work_keeps_its_answer_while_retention_runs(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=30_000) as store:
        fill(store, 0, 60)
        store.cut(61_000)
        (before,) = store.select([], 0, 10**9)
        kept = before.values.copy()
        store.maintain(91_000)
        assert before.values.tobytes() == kept.tobytes()
        assert times(store) == []


def test_a_snapshot_whose_chunk_was_deleted_is_told_to_begin_anew(tmp_path: Path) -> None:
    database, damage = Database(tmp_path), Damage()
    row, encoded = encode_chunk(1, np.arange(5), np.ones((5, 20)))
    with database.transaction() as connection:
        write_tiles(connection, 1, 0, encoded)
        chunk = write_row(connection, 1, Layout.of(1, np.arange(20)), row)
    with database.reader() as connection:
        tiles = TileReader(connection, TileCache(0), damage)
        assert tiles.tiles(chunk, [0, 1])[1].shape == (5, 4)
        with database.transaction() as writer:
            writer.execute("DELETE FROM chunks")
            writer.execute("DELETE FROM tiles")
        for read in (lambda: tiles.tiles(chunk, [0, 1]), lambda: tiles.timestamps(chunk)):
            with pytest.raises(ChunkMoved):
                read()
    assert damage.report().damaged == 0
    database.close()
