"""Long tiles are packed from parts that are decoded one by one, and those of format 1 are read as well."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.labels import from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Float64Array
from collector.store import CodecError, Store
from collector.store.codec import encode_tile, pack_parts, part_of
from collector.store.tiles import PART_STEPS

STEPS = 2 * PART_STEPS + 500
LAYOUT = [from_mapping({"__name__": "m", "i": f"{i:02}"}) for i in range(20)]


def open_store(directory: Path, cache_bytes: int = 1 << 20) -> Store:
    return Store.open(directory, block_ms=500_000, compact_ms=5_000_000, retention_ms=None, cache_bytes=cache_bytes)


@pytest.fixture(scope="module")
def values() -> Float64Array:
    return np.random.default_rng(5).random((STEPS, 20))


@pytest.fixture
def directory(tmp_path: Path, values: Float64Array) -> Path:
    """Chunks of a day, joined into one of three parts."""
    with open_store(tmp_path) as store:
        for step in range(STEPS):
            store.append_scrape("target", LAYOUT, 1_000 * step, values[step])
        store.maintain(6_000_000)
        assert store.stats().chunks == 1
    return tmp_path


def assert_everywhere(store: Store, values: Float64Array) -> None:
    edges = [0, 1, PART_STEPS - 1, PART_STEPS, PART_STEPS + 1, 2 * PART_STEPS, STEPS - 1]
    for first in edges:
        for last in (edge for edge in edges if edge >= first):
            for columns in ([3], [15, 16], list(range(20))):
                matchers = [Matcher("i", "=~", "|".join(f"{column:02}" for column in columns))]
                (group,) = store.select(matchers, 1_000 * first, 1_000 * last)
                assert group.timestamps_ms.tolist() == [1_000 * step for step in range(first, last + 1)]
                expected = np.ascontiguousarray(values[first : last + 1, columns])
                assert np.ascontiguousarray(group.values).tobytes() == expected.tobytes()


@pytest.mark.parametrize("cache_bytes", [0, 1 << 20])
def test_any_stretch_of_a_joined_day_comes_back(directory: Path, values: Float64Array, cache_bytes: int) -> None:
    with open_store(directory, cache_bytes) as store:
        assert_everywhere(store, values)


def test_an_hour_of_a_day_is_decoded_alone(directory: Path) -> None:
    with open_store(directory) as store:
        store.select([Matcher("i", "=", "03")], 0, 100_000)
        assert store.stats().cached_bytes == 8 * STEPS + 8 * 16 * PART_STEPS


def test_a_long_tile_of_format_1_is_read_whole(directory: Path, values: Float64Array) -> None:
    connection = sqlite3.connect(directory / "loadline.db")
    with connection:
        for number, first in enumerate((0, 16)):
            tile = encode_tile(values[:, first : first + 16])
            where = f"(SELECT id << 16 | {number} FROM chunks)"
            assert connection.execute(f"UPDATE tiles SET data = ? WHERE id = {where}", (tile,)).rowcount == 1
    connection.close()
    with open_store(directory) as store:
        assert_everywhere(store, values)
        assert store.stats().recovered.damaged == 0


def test_a_damaged_part_leaves_the_others_readable(directory: Path, values: Float64Array) -> None:
    connection = sqlite3.connect(directory / "loadline.db")
    with connection:
        ((tile_id, data),) = connection.execute("SELECT id, data FROM tiles ORDER BY id LIMIT 1").fetchall()
        damaged = data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
        connection.execute("UPDATE tiles SET data = ? WHERE id = ?", (damaged, tile_id))
    connection.close()
    with open_store(directory) as store:
        (group,) = store.select([Matcher("i", "=", "03")], 0, 10**9)
        assert group.values[: 2 * PART_STEPS, 0].tobytes() == values[: 2 * PART_STEPS, 3].tobytes()
        assert np.isnan(group.values[2 * PART_STEPS :, 0]).all()
        assert store.stats().recovered.damaged == 1


PARTS = st.lists(st.binary(max_size=20), min_size=1, max_size=5)


@given(parts=PARTS, cut=st.integers(0, 60), junk=st.binary(max_size=8))
def test_packed_parts_come_back_and_damage_is_told(parts: list[bytes], cut: int, junk: bytes) -> None:
    packed = pack_parts(parts)
    assert [part_of(packed, number) for number in range(len(parts))] == parts
    with pytest.raises(CodecError, match=f"packed tile has {len(parts)} parts"):
        part_of(packed, len(parts))
    damaged = packed[:cut] + junk + packed[cut + len(junk) :]
    try:
        part_of(damaged, 0)
    except CodecError as error:
        assert "packed tile" in str(error)
