"""Numbers as Go writes them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.model.float_text import float_text, float_texts

WRITTEN_BY_GO = [
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (100.0, "100"),
    (0.1, "0.1"),
    (1e16, "10000000000000000"),
    (1.5e20, "150000000000000000000"),
    (1e21, "1e+21"),
    (1e-5, "0.00001"),
    (1.25e-6, "0.00000125"),
    (1e-7, "1e-07"),
    (1.7976931348623157e308, "1.7976931348623157e+308"),
    (5e-324, "5e-324"),
    (math.nan, "NaN"),
    (math.inf, "+Inf"),
    (-math.inf, "-Inf"),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN_BY_GO)
def test_a_number_is_written_as_go_writes_it(value: float, text: str) -> None:
    assert float_text(value) == text


@settings(deadline=None)
@given(st.lists(st.floats() | st.integers(-(10**6), 10**6).map(float), max_size=8))
def test_many_numbers_are_written_as_one_is_and_read_back_the_same(values: list[float]) -> None:
    texts = [text.decode() for text in float_texts(np.array(values, dtype=np.float64))]
    assert texts == [float_text(value) for value in values]
    np.testing.assert_array_equal([float(text) for text in texts], values)
