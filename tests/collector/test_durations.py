"""Durations are read and written as Prometheus does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.durations import format_duration, parse_duration_ms


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("0", 0), ("5m", 300_000), ("1h30m", 5_400_000), ("1d12h", 129_600_000), ("90d", 90 * 86_400_000), ("1ms", 1)],
)
def test_a_duration_is_read(text: str, duration_ms: int) -> None:
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "1m1h", "1h1h", "-1s", "1.5h", "٣s", "1s\n"])
def test_anything_else_is_no_duration(text: str) -> None:
    assert parse_duration_ms(text) is None


@given(st.integers(0, 10**15))
def test_a_written_duration_reads_back(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration(duration_ms)) == duration_ms
