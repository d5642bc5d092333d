"""Appends: staleness, order, durability, and who may write where."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from collector.model.errors import StoreError
from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Series, is_stale
from collector.store import AppendResult, DirectoryInUse, Metadata, OutOfOrder, Store

ALL = [Matcher("__name__", "!=", "")]
A, B, C = (from_mapping({"__name__": name, "job": "x"}) for name in "abc")
FOREVER = 10**12


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data", block_ms=10_000, retention_ms=None) as store:
        yield store


def column(store: Store, labels: Labels) -> dict[int, str]:
    """Samples of one series by time, markers as ``stale``; asked for alone, so that no neighbour fills in."""
    for group in store.select([Matcher(name, "=", value) for name, value in labels], 0, FOREVER):
        if group.labels == (labels,):
            values = group.values[:, 0]
            shown = ["stale" if stale else f"{value:g}" for stale, value in zip(is_stale(values), values, strict=True)]
            return dict(zip(group.timestamps_ms.tolist(), shown, strict=True))
    return {}


def test_all_series_of_a_scrape_come_back_as_one_matrix(store: Store) -> None:
    layout = [A, B, C]
    for step in range(5):
        store.append_scrape("target", layout, 1_000 * step, np.array([1.0, 2.0, 3.0]) * step)
    (group,) = store.select(ALL, 1_000, 3_000)
    assert group.labels == (A, B, C)
    assert group.timestamps_ms.tolist() == [1_000, 2_000, 3_000]
    assert group.values.tolist() == [[1, 2, 3], [2, 4, 6], [3, 6, 9]]


def test_a_series_that_vanishes_from_its_target_turns_stale_at_that_scrape(store: Store) -> None:
    store.append_scrape("target", [A, B], 1_000, np.array([1.0, 2.0]))
    store.append_scrape("target", [A], 2_000, np.array([3.0]))
    assert column(store, A) == {1_000: "1", 2_000: "3"}
    assert column(store, B) == {1_000: "2", 2_000: "stale"}


def test_a_series_that_vanished_before_a_restart_turns_stale_after_it(store: Store, tmp_path: Path) -> None:
    store.append_scrape("target", [A, B], 1_000, np.array([1.0, 2.0]))
    store.cut(25_000)
    store.close()
    with Store.open(tmp_path / "data") as again:
        again.append_scrape("target", [A], 30_000, np.array([3.0]))
        assert column(again, B) == {1_000: "2", 30_000: "stale"}


def test_a_series_asked_for_alone_is_stale_although_its_columns_were_cut_away(store: Store) -> None:
    store.append_scrape("target", [A, B], 1_000, np.array([1.0, 2.0]))
    store.cut(25_000)
    store.append_scrape("target", [A], 30_000, np.array([3.0]))
    store.append_scrape("target", [A], 31_000, np.array([3.0]))
    assert column(store, B)[30_000] == "stale"
    store.cut(55_000)
    assert column(store, B)[30_000] == "stale"


def test_a_series_that_comes_back_goes_on(store: Store) -> None:
    for time, layout in ((1_000, [A, B]), (2_000, [A]), (3_000, [B, A])):
        store.append_scrape("target", layout, time, np.arange(float(len(layout))))
    assert column(store, B) == {1_000: "1", 2_000: "stale", 3_000: "0"}
    assert column(store, A) == {1_000: "0", 2_000: "0", 3_000: "1"}


def test_every_series_of_a_target_that_went_away_turns_stale_once(store: Store) -> None:
    store.append_scrape("target", [A, B], 1_000, np.array([1.0, 2.0]))
    store.mark_stale("target", 2_000)
    store.mark_stale("target", 3_000)
    store.mark_stale("unknown", 3_000)
    assert column(store, A) == {1_000: "1", 2_000: "stale"}
    assert store.stats().wal_rows == 2


def test_a_scrape_that_is_not_after_the_last_is_refused_and_counted(store: Store) -> None:
    store.append_scrape("target", [A], 2_000, np.array([1.0]))
    with pytest.raises(OutOfOrder, match="group 'target': scrape at 2000 ms is not after the last one, 2000 ms"):
        store.append_scrape("target", [A], 2_000, np.array([9.0]))
    assert store.stats().out_of_order == 1
    assert column(store, A) == {2_000: "1"}


def test_of_a_series_named_twice_in_a_scrape_the_first_counts(store: Store) -> None:
    layout = [A, B, A]
    for time in (1_000, 2_000):
        store.append_scrape("target", layout, time, np.array([1.0, 2.0, 3.0]))
    assert column(store, A) == {1_000: "1", 2_000: "1"}
    assert store.stats().duplicate == 1


def test_values_that_do_not_fit_the_layout_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="3 values for 2 series"):
        store.append_scrape("target", [A, B], 1_000, np.arange(3.0))
    assert store.select(ALL, 0, FOREVER) == []


def test_samples_of_a_batch_are_stored_or_counted_by_reason(store: Store) -> None:
    times = np.array([1_000_000, 1_003_000, 1_002_000, 1_003_000, 1_003_000, 399_000, 1_004_000], np.int64)
    values = np.array([0.0, 1.0, 2.0, 1.0, 9.0, 5.0, 4.0])
    assert store.append_series([Series(A, times, values)]) == AppendResult(4, 1, 1, 1)
    again = [Series(A, times[:3], np.array([0.0, 7.0, 2.0])), Series(B, times[:1], np.ones(1))]
    assert store.append_series(again) == AppendResult(1, 2, 0, 1)
    assert column(store, A) == {1_000_000: "0", 1_002_000: "2", 1_003_000: "1", 1_004_000: "4"}
    stats = store.stats()
    assert (stats.late, stats.duplicate, stats.out_of_order, stats.conflict) == (1, 3, 1, 2)


def test_without_an_out_of_order_window_late_samples_are_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path, out_of_order_ms=0) as store:
        times = np.array([1_000, 3_000, 2_000, 3_000, 4_000], np.int64)
        assert store.append_series([Series(A, times, np.array([0.0, 1.0, 2.0, 1.0, 4.0]))]) == AppendResult(3, 1, 1)
        assert column(store, A) == {1_000: "0", 3_000: "1", 4_000: "4"}
    with pytest.raises(StoreError, match="out_of_order_ms is -1; 0 takes no late samples"):
        Store.open(tmp_path, out_of_order_ms=-1)


def test_a_repeated_time_is_known_again_after_cut_and_restart(store: Store, tmp_path: Path) -> None:
    store.append_series([Series(A, np.array([5_000], np.int64), np.ones(1))])
    store.append_series([Series(A, np.array([3_000], np.int64), np.ones(1))])
    store.cut(25_000)
    store.close()
    with Store.open(tmp_path / "data") as again:
        given = Series(A, np.array([5_000, 4_000, 3_000, 3_000], np.int64), np.array([1.0, 1.0, 1.0, 2.0]))
        assert again.append_series([given]) == AppendResult(1, 2, 0, 1)
        again.cut(10**9)
        assert column(again, A) == {3_000: "1", 4_000: "1", 5_000: "1"}
        assert again.stats().wal_rows == 0


def test_late_samples_come_back_after_a_restart_without_a_cut(store: Store, tmp_path: Path) -> None:
    for time in (5_000, 9_000, 2_000, 7_000):
        store.append_series([Series(A, np.array([time], np.int64), np.array([time / 1_000]))])
    store.close()
    with Store.open(tmp_path / "data") as again:
        assert column(again, A) == {2_000: "2", 5_000: "5", 7_000: "7", 9_000: "9"}


def test_samples_of_one_series_from_two_sources_are_merged(store: Store) -> None:
    store.append_scrape("first", [A], 1_000, np.array([1.0]))
    store.append_scrape("second", [A], 1_500, np.array([2.0]))
    store.append_scrape("second", [A], 2_000, np.array([3.0]))
    store.append_scrape("first", [B], 2_000, np.array([4.0]))
    store.append_series([Series(A, np.array([1_000, 9_000], np.int64), np.array([7.0, 8.0]))])
    expected = {1_000: "1", 1_500: "2", 2_000: "3", 9_000: "8"}
    assert column(store, A) == expected
    store.cut(25_000)
    assert column(store, A) == expected


def test_a_sample_whose_time_no_float_holds_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match=r"beyond ±2\*\*53 ms"):
        store.append_scrape("target", [A], 2**60, np.ones(1))
    with pytest.raises(StoreError, match=r"a\{job=\"x\"\}: timestamp"):
        store.append_series([Series(A, np.array([2**60], np.int64), np.ones(1))])


def test_metadata_come_back(store: Store, tmp_path: Path) -> None:
    store.set_metadata("a", "counter", "what it counts", "seconds")
    store.set_metadata("a", "gauge", "another", "")
    store.close()
    with Store.open(tmp_path / "data") as again:
        assert again.metadata() == {"a": Metadata("gauge", "another", "")}


def test_a_second_writer_is_refused_and_told_which_directory(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DirectoryInUse, match=rf"{tmp_path}/data is being written by process {os.getpid()}"):
        Store.open(tmp_path / "data")
    store.close()
    Store.open(tmp_path / "data").close()


def test_a_reader_follows_the_writer_and_cannot_write(store: Store, tmp_path: Path) -> None:
    layout = [A, B]
    store.append_scrape("target", layout, 1_000, np.array([1.0, 2.0]))
    with Store.open(tmp_path / "data", read_only=True) as reader:
        assert column(reader, A) == {1_000: "1"}
        store.append_scrape("target", layout, 2_000, np.array([3.0, 4.0]))
        store.append_series([Series(C, np.array([2_000], np.int64), np.ones(1))])
        assert column(reader, A) == {1_000: "1", 2_000: "3"}
        assert column(reader, C) == {2_000: "1"}
        store.append_scrape("target", layout, 3_000, np.array([4.0, 4.0]))
        store.cut(25_000)
        store.append_scrape("target", layout, 30_000, np.array([5.0, 6.0]))
        assert column(reader, A) == {1_000: "1", 2_000: "3", 3_000: "4", 30_000: "5"}
        with pytest.raises(StoreError, match="opened read-only"):
            reader.append_scrape("target", layout, 40_000, np.ones(2))


def test_a_directory_without_a_store_cannot_be_opened_for_reading(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=str(tmp_path)):
        Store.open(tmp_path, read_only=True)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loadline.db").write_bytes(b"certainly not a database, but long enough to look at" * 40)
    with pytest.raises(StoreError, match=f"{tmp_path}: file is not a database"):
        Store.open(tmp_path)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match=f"{tmp_path}/data cannot be used as data directory"):
        Store.open(tmp_path / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_directory_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(StoreError, match="cannot be used as data directory: Permission denied"):
        Store.open(tmp_path)


def test_a_full_disk_loses_what_was_refused_and_nothing_else(store: Store, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    layout = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(200)]
    with store.database.transaction() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 12}")
    accepted = []
    with pytest.raises(StoreError, match=f"{tmp_path}/data: database or disk is full"):
        for step in range(100):
            store.append_scrape("target", layout, 1_000 * step, rng.random(200))
            accepted.append(1_000 * step)
    assert accepted
    assert store.select(ALL, 0, FOREVER)[0].timestamps_ms.tolist() == accepted
    with store.database.transaction() as connection:
        connection.execute("PRAGMA max_page_count=1000000")
    store.append_scrape("target", layout, 200_000, rng.random(200))
    assert store.select(ALL, 0, FOREVER)[0].timestamps_ms.tolist() == [*accepted, 200_000]


def test_a_closed_store_says_so(store: Store, tmp_path: Path) -> None:
    store.close()
    store.close()
    for use in (lambda: store.select(ALL, 0, 1), lambda: store.append_scrape("t", [A], 1, np.ones(1))):
        with pytest.raises(StoreError, match=f"{tmp_path}/data is closed"):
            use()


def test_a_window_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="block_ms is 5; a window lasts at least 1000 ms"):
        Store.open(tmp_path, block_ms=5)


def test_a_batch_that_repeats_itself_is_stored_like_any_other(store: Store, tmp_path: Path) -> None:
    layout = [A, B, C]
    for step in range(40):
        times = 1_000 * step + np.arange(3)
        if step % 2:
            result = store.append_batch(layout, times, np.arange(3.0) + step)
        else:
            given = [Series(one, times[i : i + 1], np.array([i + float(step)])) for i, one in enumerate(layout)]
            result = store.append_series(given)
        assert result == AppendResult(3, 0, 0)
    assert store.append_batch(layout, times, np.array([39.0, 0.0, 41.0])) == AppendResult(0, 2, 0, 1)
    rows = np.array([[40_000, 40_000, 40_000], [41_000, 40_500, 40_001]])
    assert store.append_batch(layout, rows, np.ones((2, 3))) == AppendResult(6, 0, 0)
    store.cut(35_000)
    store.close()
    with Store.open(tmp_path / "data") as again:
        expected = {1_000 * step + 1: f"{step + 1}" for step in range(40)}
        assert column(again, B) == expected | {40_000: "1", 40_500: "1"}
        assert again.append_batch([A], np.array([50_000]), np.ones(1)) == AppendResult(1, 0, 0)


def test_a_batch_whose_shape_is_not_its_layouts_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match=r"batch: values \(1, 2\) and times \(1, 3\) for 3 series"):
        store.append_batch([A, B, C], np.arange(3), np.ones(2))
    assert store.append_batch([], np.empty(0, np.int64), np.empty(0)) == AppendResult(0, 0, 0)
    assert store.select(ALL, 0, FOREVER) == []
