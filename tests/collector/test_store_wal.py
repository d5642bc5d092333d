"""Write-ahead rows as bytes, and what is left of a store whose rows, tiles or log were damaged."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collector.model.labels import from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Float64Array, Int64Array, Series
from collector.store import CodecError, Store
from collector.store.wal import Batch, decode_batch, decode_scrape, encode_batch, encode_scrape

IDS = hnp.arrays(np.int64, st.integers(0, 40), elements=st.integers(0, 2**32 - 1))
LAYOUT = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(50)]


@given(hnp.arrays(np.uint64, st.integers(0, 200)), IDS)
def test_a_scrape_row_comes_back(bits: "np.ndarray[tuple[int], np.dtype[np.uint64]]", vanished: Int64Array) -> None:
    values, gone = decode_scrape(encode_scrape(bits.view(np.float64), vanished))
    assert values.view(np.uint64).tolist() == bits.tolist()
    assert gone.tolist() == vanished.tolist()


@given(st.lists(st.integers(1, 5), max_size=30), st.data())
def test_a_batch_row_comes_back(counts: list[int], data: st.DataObject) -> None:
    total = sum(counts)
    times = data.draw(hnp.arrays(np.int64, total))
    values = data.draw(hnp.arrays(np.float64, total))
    batch = decode_batch(encode_batch(Batch(np.arange(len(counts)), np.array(counts, np.int64), times, values)))
    assert batch.counts.tolist() == counts
    assert batch.timestamps_ms.tolist() == times.tolist()
    assert batch.values.tobytes() == values.tobytes()


@given(st.binary(max_size=100))
def test_random_bytes_are_read_or_refused_with_a_typed_error(payload: bytes) -> None:
    for decode in (decode_scrape, decode_batch):
        try:
            decode(payload)
        except CodecError:
            continue


def fill(directory: Path, scrapes: int) -> Store:
    store = Store.open(directory, block_ms=10_000, retention_ms=None)
    for step in range(scrapes):
        store.append_scrape("target", LAYOUT, 1000 * step, np.arange(50.0) * step)
    return store


def times_and_values(store: Store) -> dict[int, list[float]]:
    found = store.select([Matcher("__name__", "=", "m"), Matcher("i", "=~", "1|2")], 0, 10**9)
    return {int(time): group.values[row].tolist() for group in found for row, time in enumerate(group.timestamps_ms)}


def damage(directory: Path, query: str, *values: object) -> None:
    connection = sqlite3.connect(directory / "loadline.db")
    with connection:
        assert connection.execute(query, values).rowcount == 1
    connection.close()


@pytest.mark.parametrize("payload", [b"", b"\x07", b"\x00" * 500], ids=["empty", "short", "zeros"])
def test_a_damaged_write_ahead_row_is_reported_and_the_others_come_back(tmp_path: Path, payload: bytes) -> None:
    fill(tmp_path, 9).close()
    damage(tmp_path, "UPDATE wal SET payload = ? WHERE timestamp_ms = 4000", payload)
    with Store.open(tmp_path) as store:
        recovered = store.stats().recovered
        assert (recovered.wal_rows, recovered.damaged) == (8, 1)
        assert "write-ahead row 5 of group 1 at 4000 ms" in recovered.problems[0]
        assert times_and_values(store) == {1000 * step: [step, 2 * step] for step in range(9) if step != 4}


def test_a_damaged_tile_is_reported_and_the_others_are_served(tmp_path: Path) -> None:
    store = fill(tmp_path, 20)
    store.cut(25_000)
    store.close()
    damage(tmp_path, "UPDATE tiles SET data = CAST(substr(data, 1, 60) || x'ffff' AS BLOB) WHERE id = 1 << 16")
    with Store.open(tmp_path) as store:
        (group,) = store.select([Matcher("__name__", "=", "m")], 0, 9_000)
        assert len(group.labels) == 34
        assert "chunk 1 of group 1, tile 0: tile does not match its checksum" in store.stats().recovered.problems[0]
        (group,) = store.select([Matcher("__name__", "=", "m")], 10_000, 19_000)
        assert len(group.labels) == 50


def test_a_damaged_timestamp_vector_costs_its_window_only(tmp_path: Path) -> None:
    store = fill(tmp_path, 20)
    store.cut(25_000)
    store.close()
    damage(tmp_path, "UPDATE chunks SET timestamps = 'x' WHERE id = 1")
    with Store.open(tmp_path) as store:
        assert min(times_and_values(store)) == 10_000
        assert store.stats().recovered.damaged == 1


@pytest.mark.parametrize("cut", [1, 700, 5_000])
def test_a_torn_log_gives_back_every_scrape_before_the_tear(tmp_path: Path, cut: int) -> None:
    store = fill(tmp_path / "live", 9)
    torn = tmp_path / "torn"
    torn.mkdir()
    for name in ("loadline.db", "loadline.db-wal"):  # as kill -9 and a torn last write leave them
        (torn / name).write_bytes((tmp_path / "live" / name).read_bytes())
    store.close()
    log = torn / "loadline.db-wal"
    log.write_bytes(log.read_bytes()[:-cut])
    with Store.open(torn) as store:
        assert store.stats().recovered.torn_frames >= 1
        found = times_and_values(store)
        kept = len(found)
        assert kept in (7, 8)
        assert found == {1000 * step: [step, 2 * step] for step in range(kept)}
        store.append_scrape("target", LAYOUT, 100_000, np.arange(50.0))


def test_a_log_that_is_whole_has_no_torn_frames(tmp_path: Path) -> None:
    store = fill(tmp_path / "live", 9)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("loadline.db", "loadline.db-wal"):
        (copy / name).write_bytes((tmp_path / "live" / name).read_bytes())
    store.close()
    with Store.open(copy) as store:
        assert store.stats().recovered.torn_frames == 0
        assert len(times_and_values(store)) == 9


def test_labels_that_cannot_be_read_cost_one_series(tmp_path: Path) -> None:
    fill(tmp_path, 5).close()
    damage(tmp_path, "UPDATE series SET labels = '[' WHERE id = 1")
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
        assert "labels of series 1" in store.stats().recovered.problems[0]
        store.cut(25_000)
        (group,) = store.select([Matcher("__name__", "=", "m")], 0, 10_000)
        assert len(group.labels) == 49


def test_samples_of_a_batch_that_spans_a_cut_are_not_doubled_by_recovery(tmp_path: Path) -> None:
    labels = from_mapping({"__name__": "m", "i": "1"})
    store = Store.open(tmp_path, block_ms=10_000, retention_ms=None)
    times = np.array([5_000, 9_000, 11_000], np.int64)
    store.append_series([Series(labels, times, np.array([1.0, 2.0, 3.0]))])
    store.cut(11_500)
    assert store.stats().wal_rows == 1
    store.close()
    with Store.open(tmp_path) as store:
        (group,) = store.select([Matcher("i", "=", "1")], 0, 10**9)
        assert group.timestamps_ms.tolist() == times.tolist()
        assert values_of(group.values) == [1.0, 2.0, 3.0]


def values_of(values: Float64Array) -> list[float]:
    assert values.shape[1] == 1
    return [float(value) for value in values[:, 0]]
