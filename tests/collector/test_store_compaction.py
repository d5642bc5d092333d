"""Compaction of a day's tiles into one chunk, and thinning out of old ones: what may change, and what may not."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from collector.model.errors import StoreError
from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.series import STALE_NAN, Float64Array, Series, is_stale
from collector.store import Store

LAYOUT = [from_mapping({"__name__": "m", "i": f"{i:02}"}) for i in range(40)]
PUSHED = [from_mapping({"__name__": "pushed", "i": str(i)}) for i in range(3)]
FOREVER = 10**13


def fill(store: Store, steps: int, step_ms: int = 1_000) -> None:
    rng = np.random.default_rng(steps)
    for step in range(steps):
        layout = LAYOUT if step % 50 < 30 else LAYOUT[step % 7 :]
        store.append_scrape("target", layout, step_ms * step, rng.random(len(layout)))
        store.append_batch(PUSHED, np.full(3, step_ms * step + 1), rng.random(3))
        if step % 20 == 9:
            store.append_series([Series(PUSHED[0], np.array([step_ms * step - 50]), np.array([step / 3]))])


def contents(store: Store) -> dict[Labels, tuple[bytes, bytes]]:
    found = {}
    for group in store.select([], 0, FOREVER):
        for column, labels in enumerate(group.labels):
            values = np.ascontiguousarray(group.values[:, column])
            there = ~is_stale(values)
            found[labels] = (group.timestamps_ms[there].tobytes(), values[there].tobytes())
    return found


def test_compaction_changes_the_number_of_chunks_and_no_sample(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, compact_ms=120_000, retention_ms=None) as store:
        fill(store, 400)
        store.cut(402_000)
        before, chunks, samples = contents(store), store.stats().chunks, store.stats().tile_samples
        part = store.select([Matcher("i", "=", "07")], 65_500, 171_000)[0]
        assert store.compact(402_000) > 60
        assert store.stats().chunks < chunks / 5
        assert store.stats().tile_samples == samples
        assert contents(store) == before
        again = store.select([Matcher("i", "=", "07")], 65_500, 171_000)[0]
        assert again.timestamps_ms.tobytes() == part.timestamps_ms.tobytes()
        assert again.values.tobytes() == part.values.tobytes()
        assert store.compact(402_000) == 0
        with store.database.reader() as connection:
            assert connection.execute("SELECT count(*) FROM trash").fetchone() == (0,)
            orphans = "SELECT count(*) FROM tiles WHERE id >> 16 NOT IN (SELECT id FROM chunks)"
            assert connection.execute(orphans).fetchone() == (0,)
    with Store.open(tmp_path, block_ms=10_000, compact_ms=120_000, retention_ms=None) as store:
        assert contents(store) == before
        assert store.stats().recovered.damaged == 0


def test_four_windows_are_joined_once_they_are_over_and_a_day_once_it_is(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, compact_ms=120_000, retention_ms=None) as store:
        fill(store, 110)
        before = contents(store)
        counts = [store.stats().chunks]
        for now_ms in (39_000, 120_500, 140_000):
            store.cut(120_500)
            store.compact(now_ms)
            counts.append(store.stats().chunks)
            assert contents(store) == before
        cut, few, day = counts[1], counts[2], counts[3]
        assert cut > few > day


def test_windows_that_do_not_go_into_a_day_by_fours_are_joined_by_the_day_alone(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, compact_ms=60_000, retention_ms=None) as store:
        fill(store, 50)
        store.cut(52_000)
        assert store.compact(59_000) == 0
        assert store.compact(70_000) > 0


def test_a_reader_of_another_process_meets_a_compaction(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, compact_ms=120_000, retention_ms=None) as store:
        fill(store, 250)
        store.cut(252_000)
        with Store.open(tmp_path, read_only=True, cache_bytes=0) as reader:
            before = contents(reader)
            store.compact(252_000)
            assert contents(reader) == before
            assert reader.stats().chunks == store.stats().chunks


def test_a_damaged_tile_keeps_its_chunk_from_being_joined_and_is_reported(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, compact_ms=120_000, retention_ms=None) as store:
        for step in range(130):
            store.append_scrape("target", LAYOUT, 1_000 * step, np.arange(40.0) * step)
        store.cut(132_000)
    connection = sqlite3.connect(tmp_path / "loadline.db")
    with connection:
        connection.execute("UPDATE tiles SET data = x'0102' WHERE id = (3 << 16) + 1")
    connection.close()
    with Store.open(tmp_path, block_ms=10_000, compact_ms=120_000, retention_ms=None) as store:
        assert store.compact(140_000) == 0
        assert store.stats().chunks == 13
        (problem,) = store.stats().recovered.problems
        assert problem.startswith("chunk 3 of group 1, tile 1: ")
        (group,) = store.select([Matcher("i", "=", "01")], 0, FOREVER)
        assert group.values[:, 0].tolist() == [float(step) for step in range(130)]


def test_tiles_left_by_an_interrupted_cut_are_overwritten(tmp_path: Path) -> None:
    with Store.open(tmp_path, block_ms=10_000, retention_ms=None) as store:
        fill(store, 15)
        with store.database.transaction() as connection:
            junk = [((1 << 16) + n, b"left over") for n in range(50)]
            connection.executemany("INSERT INTO tiles (id, data) VALUES (?, ?)", junk)
        before = contents(store)
        store.cut(17_000)
        assert contents(store) == before
        with store.database.reader() as connection:
            assert connection.execute("SELECT count(*) FROM tiles WHERE data = ?", (b"left over",)).fetchone() == (0,)
        assert store.stats().recovered.damaged == 0


@pytest.mark.parametrize("compact_ms", [5_000, 15_000])
def test_a_day_is_a_multiple_of_a_window(tmp_path: Path, compact_ms: int) -> None:
    with pytest.raises(StoreError, match=rf"compact_ms is {compact_ms}; it is a multiple of block_ms, 10000"):
        Store.open(tmp_path, block_ms=10_000, compact_ms=compact_ms)


# Thinning out ---------------------------------------------------------------------------------------------------

HOUR = 3_600_000
STEP = 15_000
THIN = [from_mapping({"__name__": name}) for name in ("requests_total", "gauge", "gone", "errors")]


def thin_store(directory: Path) -> Store:
    return Store.open(directory, block_ms=HOUR, compact_ms=4 * HOUR, retention_ms=None, downsample_after_ms=6 * HOUR)


def counter(steps: int) -> Float64Array:
    values = np.cumsum(np.random.default_rng(3).integers(0, 5, steps)).astype(np.float64)
    values[301:] -= values[300]
    values[700:] -= values[699]
    return values


def fill_thin(store: Store) -> Float64Array:
    values = counter(2 * 960)
    store.set_metadata("errors", "counter", "", "")
    for step, value in enumerate(values):
        row = np.array([value, step % 97, STALE_NAN if step == 333 else step, 500.0 if step < 555 else 3.0])
        store.append_scrape("target", THIN, STEP * step, row)
    store.maintain(10 * HOUR)
    return values


def column(store: Store, name: str) -> dict[int, float]:
    (group,) = store.select([Matcher("__name__", "=", name)], 0, FOREVER)
    return dict(zip(group.timestamps_ms.tolist(), group.values[:, 0].tolist(), strict=True))


def test_old_samples_are_thinned_out_and_those_that_stay_are_as_scraped(tmp_path: Path) -> None:
    with thin_store(tmp_path) as store:
        values = fill_thin(store)
        kept = column(store, "requests_total")
        old = [time for time in kept if time < 4 * HOUR]
        assert 90 < len(old) < 110
        assert len(kept) - len(old) == 960
        assert all(value == values[time // STEP] for time, value in kept.items())
        assert np.diff([*old, 4 * HOUR]).max() < 300_000
    with thin_store(tmp_path) as store:
        assert column(store, "requests_total") == kept
        store.maintain(11 * HOUR)
        assert column(store, "requests_total").keys() & set(old) == set(old)


def test_the_increase_of_a_counter_is_the_same_after_thinning_out(tmp_path: Path) -> None:
    with thin_store(tmp_path) as store:
        values = fill_thin(store)
        kept = column(store, "requests_total")
        times = [time for time in kept if time < 4 * HOUR]

        def increase(samples: Float64Array) -> float:
            rises = np.diff(samples)
            return float(np.where(rises < 0, samples[1:], rises).sum())

        everything = values[: times[-1] // STEP + 1]
        assert increase(np.array([kept[time] for time in times])) == increase(everything)
        assert {300 * STEP, 301 * STEP, 699 * STEP, 700 * STEP} <= set(times)
        errors = column(store, "errors")  # a counter by its metadata
        assert (errors[554 * STEP], errors[555 * STEP]) == (500.0, 3.0)


def test_a_stale_marker_outlives_thinning_out(tmp_path: Path) -> None:
    with thin_store(tmp_path) as store:
        fill_thin(store)
        assert is_stale(np.array([column(store, "gone")[333 * STEP]])).all()
