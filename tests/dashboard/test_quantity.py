import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard import quantity


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"), (0.0000421, "42 µs"), (0.0042, "4.20 ms"), (0.0366, "36.6 ms"), (0.82, "820 ms"),
        (1.42, "1.42 s"), (9.6, "9.60 s"), (16.4, "16.4 s"), (130, "2 m 10 s"), (7500, "2 h 05 m"), (90_000, "1 d 1 h"),
        (0.9996, "1.00 s"), (99.96, "1 m 40 s"), (None, "–"), (math.nan, "–"),
    ],
)  # fmt: skip
def test_a_duration_has_three_digits_and_the_unit_that_fits(seconds, text):
    assert quantity.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (510, "8 m 30 s"), (660, "11 m"), (1080, "18 m"), (7200, "2 h"), (90_000, "1 d 1 h")],
)
def test_a_stretch_of_time_is_coarse(seconds, text):
    assert quantity.span(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (43, "43"),
        (0.036, "0.036"),
        (1.01, "1.01"),
        (114.3, "114"),
        (12_400, "12.4k"),
        (2_000_000, "2.00M"),
        (None, "–"),
    ],
)
def test_a_count_takes_a_decimal_prefix(value, text):
    assert quantity.count(value) == text


def test_a_count_carries_its_unit():
    assert quantity.count(12_400, "tok/s") == "12.4k tok/s"


@pytest.mark.parametrize(
    ("ratio", "text"), [(1.0, "100"), (0.99999, "99.99"), (0.9994, "99.94"), (0.9125, "91.2"), (0.0, "0.0")]
)
def test_a_share_is_never_rounded_up_to_whole(ratio, text):
    assert quantity.share_parts(ratio) == (text, "%")


def test_a_target_is_written_as_it_was_given():
    assert quantity.threshold(0.999) == "99.9 %"
    assert quantity.threshold_s(0.8) == "800 ms"
    assert quantity.threshold_s(12.0) == "12 s"


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_no_number_is_written_with_an_exponent(value):
    assert "e" not in quantity.significant(value)
    assert "e" not in quantity.count(value)
    assert "e" not in quantity.duration(value)
