import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import WorkloadError
from planner.traces.trace import Flag, Trace, from_lengths
from planner.traces.workload import Shaping, loop, parse_window, scale_tokens, speed, stats, take, window

TRACE = from_lengths([0.0, 1.0, 1.5, 4.0], [10, 20, 30, 40], [1, 2, 3, 4])


def test_a_window_counts_from_its_start_and_keeps_row_ids() -> None:
    cut = window(TRACE, 1.0, 4.0)
    assert cut.arrival_ns.tolist() == [0, 500_000_000]
    assert cut.row_id.tolist() == [1, 2]
    assert cut.header.transforms[-1] == {"name": "window", "start_s": 1.0, "end_s": 4.0}


def test_an_empty_window_says_where_the_arrivals_are() -> None:
    with pytest.raises(WorkloadError, match="arrivals from 0 to 4 s"):
        window(TRACE, 10, 20)


@given(st.floats(min_value=0.5, max_value=100))
def test_speed_keeps_order_and_is_exact_to_a_nanosecond(factor: float) -> None:
    fast = speed(TRACE, factor)
    assert np.all(np.diff(fast.arrival_ns) >= 0)
    assert np.all(np.abs(fast.arrival_ns - TRACE.arrival_ns / factor) <= 1)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_no_positive_number_is_refused(factor: float) -> None:
    with pytest.raises(WorkloadError, match="must be a number above 0"):
        speed(TRACE, factor)


def test_lengths_round_up_and_never_reach_zero() -> None:
    small = scale_tokens(TRACE, 0.25)
    assert small.input_tokens.tolist() == [3, 5, 8, 10]
    assert small.output_tokens.tolist() == [1, 1, 1, 1]


def test_a_product_that_floats_overstate_is_not_rounded_up() -> None:
    assert scale_tokens(from_lengths([0.0], [100], [300]), 0.07).input_tokens.tolist() == [7]


def test_a_zero_length_made_one_is_flagged() -> None:
    scaled = scale_tokens(from_lengths([0.0, 1.0], [0, 5], [1, 1]), 0.5)
    assert scaled.flags.tolist() == [int(Flag.CLAMPED), 0]


def burst() -> Trace:
    generator = np.random.default_rng(1)
    return from_lengths(
        np.cumsum(generator.gamma(0.3, 1, 400)), generator.integers(1, 99, 400), np.ones(400, dtype=int)
    )


def test_a_looped_trace_keeps_rate_and_burstiness() -> None:
    once, often = stats(burst()), stats(loop(burst(), 4000, seed=3))
    assert often.rows == 4000
    assert often.mean_per_s == pytest.approx(once.mean_per_s, rel=0.02)
    assert often.gap_cv == pytest.approx(once.gap_cv, rel=0.05)
    assert often.input_tokens.mean == pytest.approx(once.input_tokens.mean, rel=0.02)


def test_the_first_lap_is_the_trace_itself_and_the_seed_decides_the_rest() -> None:
    a, b, c = loop(burst(), 1000, seed=1), loop(burst(), 1000, seed=1), loop(burst(), 1000, seed=2)
    assert a.sha256() == b.sha256() != c.sha256()
    assert a.input_tokens[:400].tolist() == burst().input_tokens.tolist()


def test_shaping_applies_window_then_count_then_speed_then_lengths() -> None:
    shaped = Shaping(window_start_s=1, window_end_s=5, max_requests=2, speed=2, token_scale=0.1).apply(TRACE)
    assert [t["name"] for t in shaped.header.transforms] == ["window", "take", "speed", "scale_tokens"]
    assert shaped.arrival_ns.tolist() == [0, 250_000_000]
    assert take(TRACE, 99).row_id.tolist() == [0, 1, 2, 3]


def test_a_window_text_is_start_and_end() -> None:
    assert parse_window("0:600") == (0.0, 600.0)
    with pytest.raises(WorkloadError, match="START:END"):
        parse_window("600")
