"""The tile codec: every float64 comes back bit for bit, damage is told, sizes stay small."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from collector.model.series import STALE_NAN, Float64Array, Int64Array
from collector.store.codec import decode_tile, decode_timestamps, encode_tile, encode_timestamps
from collector.store.errors import CodecError
from collector.store.holes import HOLE

ANY_BITS = hnp.arrays(np.uint64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)).map(
    lambda a: a.view(np.float64)
)
SPECIAL = st.sampled_from(
    [STALE_NAN, HOLE, float("nan"), float("inf"), float("-inf"), -0.0, 0.0, 5e-324, 2.0**53, 1e300]
)
NUMBER = st.one_of(
    st.integers(-(2**54), 2**54).map(float),
    st.integers(-1000, 1000).map(lambda i: i / 1000),
    st.integers(-(10**12), 10**12).map(lambda i: i / 10**9),
    SPECIAL,
    st.floats(),
)
MIXED = st.integers(1, 16).flatmap(
    lambda columns: hnp.arrays(
        np.float64, st.tuples(st.integers(1, 60), st.just(columns)), elements=NUMBER, fill=NUMBER
    )
)
RISING = st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=200, unique=True).map(
    lambda times: np.array(sorted(times), np.int64)
)


def same_bits(left: Float64Array, right: Float64Array) -> bool:
    return left.shape == right.shape and left.tobytes() == np.ascontiguousarray(right).tobytes()


@given(ANY_BITS)
def test_any_bits_come_back(values: Float64Array) -> None:
    assert same_bits(decode_tile(encode_tile(values)), values)


@given(MIXED)
def test_numbers_decimals_and_markers_come_back(values: Float64Array) -> None:
    assert same_bits(decode_tile(encode_tile(values)), values)


@given(RISING)
def test_timestamps_come_back(timestamps_ms: Int64Array) -> None:
    assert decode_timestamps(encode_timestamps(timestamps_ms)).tolist() == timestamps_ms.tolist()


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    for decode in (decode_tile, decode_timestamps):
        with pytest.raises(CodecError):
            decode(data)


@given(MIXED, st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(values: Float64Array, data: st.DataObject) -> None:
    encoded = bytearray(encode_tile(values))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert same_bits(decode_tile(bytes(encoded)), values)
    except CodecError:
        return


@given(MIXED, st.integers(0, 300))
def test_a_shortened_tile_is_refused(values: Float64Array, length: int) -> None:
    encoded = encode_tile(values)
    if length < len(encoded):
        with pytest.raises(CodecError):
            decode_tile(encoded[:length])


@pytest.mark.parametrize(
    ("name", "column", "most_bytes"),
    [
        ("constant", np.full(1440, 0.1), 60),
        ("steady counter", np.arange(1440.0) * 25, 70),
        ("counter that stops and leaves", np.concatenate([np.arange(1200.0), np.full(240, STALE_NAN)]), 400),
        ("decimals", np.round(np.sin(np.arange(1440) / 50), 3), 2200),
    ],
)
def test_a_column_takes_few_bytes(name: str, column: Float64Array, most_bytes: int) -> None:
    assert len(encode_tile(column[:, None])) <= most_bytes


def test_regular_timestamps_take_almost_nothing() -> None:
    assert len(encode_timestamps(np.arange(1440, dtype=np.int64) * 5000)) <= 60


def test_an_empty_tile_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 255 columns"):
        encode_tile(np.empty((0, 3)))
