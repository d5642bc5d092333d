"""Shaping a trace: what each step keeps, and what it says it changes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from planner.errors import WorkloadError
from planner.shaping.arrivals import draw, fit, parse_arrivals, synthesise, weibull_shape
from planner.shaping.cut import only, thin, window
from planner.shaping.hashes import renamed
from planner.shaping.lengths import lengths_from
from planner.shaping.pace import dequantise, scale_rate, speed
from planner.shaping.repeat import merge, resample
from planner.traces.profile import Profiler, stats
from planner.traces.trace import Quality, Ragged, Trace, from_lengths
from planner.traces.workload import Shaping, parse_window


def bursty(rows: int = 4000, shape: float = 0.25, seed: int = 1) -> Trace:
    generator = np.random.default_rng(seed)
    gaps = generator.gamma(shape, 1 / shape, rows)
    return from_lengths(np.cumsum(gaps), generator.integers(1, 500, rows), generator.integers(1, 99, rows))


def named(trace: Trace, **columns: list[str | None]) -> Trace:
    return replace(trace, columns={name: np.array(values, dtype=object) for name, values in columns.items()})


def hashed(trace: Trace, rows: list[list[int]]) -> Trace:
    columns = {"prefix_hashes": Ragged.of(rows), "block_tokens": np.full(len(rows), 16)}
    return replace(trace, columns=columns)


@pytest.mark.parametrize("factor", [0.3, 0.5, 1.7, 3.0])
def test_a_scaled_rate_keeps_duration_bursts_and_lengths(factor: float) -> None:
    once, scaled = stats(bursty()), stats(scale_rate(bursty(), factor, seed=2))
    assert scaled.rows == pytest.approx(once.rows * factor, rel=0.06)
    assert scaled.duration_s == pytest.approx(once.duration_s, rel=0.02)
    assert scaled.gap_cv == pytest.approx(once.gap_cv, rel=0.12)
    assert scaled.input_tokens.mean == pytest.approx(once.input_tokens.mean, rel=0.05)


def test_a_scaled_rate_keeps_the_course_of_the_day() -> None:
    generator = np.random.default_rng(3)
    quiet, loud = np.sort(generator.random(300) * 1800), 1800 + np.sort(generator.random(3000) * 1800)
    day = from_lengths(np.concatenate([quiet, loud]), np.ones(3300, dtype=int), np.ones(3300, dtype=int))
    scaled = scale_rate(day, 2.0, seed=1)
    before = int((scaled.arrival_ns < 1800e9).sum())
    assert before == pytest.approx(600, abs=40)
    assert len(scaled) - before == pytest.approx(6000, abs=60)


def test_copies_of_a_request_do_not_hit_one_anothers_prefix() -> None:
    trace = hashed(
        from_lengths(np.arange(100.0), np.full(100, 32), np.ones(100, dtype=int)), [[0, n] for n in range(1, 101)]
    )
    once, twice = stats(trace).prefix, stats(scale_rate(trace, 2.0, seed=5)).prefix
    assert once is not None and twice is not None
    assert once.block_hit_ratio == pytest.approx(99 / 200)
    assert twice.block_hit_ratio == pytest.approx(198 / 400)


def test_large_hashes_of_copies_stay_apart_and_within_64_bits() -> None:
    trace = hashed(from_lengths([0.0, 1.0], [16, 16], [1, 1]), [[2**64 - 1], [2**64 - 1]])
    copied = renamed(trace, np.array([0, 1])).column("prefix_hashes")
    assert isinstance(copied, Ragged)
    assert copied.values[0] == 2**64 - 1 != copied.values[1]


@given(st.floats(min_value=0.5, max_value=100))
def test_no_speed_touches_a_hash(factor: float) -> None:
    trace = hashed(from_lengths([0.0, 3.0, 3.0], [16, 16, 16], [1, 1, 1]), [[5], [2**63 + 7], []])
    fast = speed(trace, factor).column("prefix_hashes")
    assert isinstance(fast, Ragged)
    assert fast.values.tolist() == [5, 2**63 + 7]


def test_a_bootstrap_keeps_rate_and_bursts_and_its_seed_decides() -> None:
    once, drawn = stats(bursty()), stats(resample(bursty(), 20_000, seed=1))
    assert drawn.rows == 20_000
    assert drawn.mean_per_s == pytest.approx(once.mean_per_s, rel=0.05)
    assert drawn.gap_cv == pytest.approx(once.gap_cv, rel=0.06)
    assert (
        resample(bursty(), 50, 1).sha256() == resample(bursty(), 50, 1).sha256() != resample(bursty(), 50, 2).sha256()
    )


def test_a_share_takes_whole_sessions() -> None:
    sessions: list[str | None] = [f"s{n // 5}" for n in range(1000)]
    trace = named(
        from_lengths(np.arange(1000.0), np.ones(1000, dtype=int), np.ones(1000, dtype=int)), session_id=sessions
    )
    kept = thin(trace, 0.5, seed=3)
    found = Profiler().add(kept).result()
    assert (found.turns_mean, found.turns_max) == (5.0, 5)
    assert 60 < found.sessions < 140


def test_only_a_tenant_is_taken_and_an_unknown_one_is_answered_with_those_there_are() -> None:
    trace = named(from_lengths([0.0, 1.0, 2.0], [1, 2, 3], [1, 1, 1]), tenant=["a", "b", None])
    assert only(trace, "tenant", ["b"]).input_tokens.tolist() == [2]
    with pytest.raises(WorkloadError, match=r"tenant c: no request of made; it has a, b"):
        only(trace, "tenant", ["c"])
    with pytest.raises(WorkloadError, match="model x: no request of made; it names none"):
        only(trace, "model", ["x"])


def test_merged_traces_keep_their_order_their_owners_and_their_prefixes_apart() -> None:
    a = hashed(from_lengths([0.0, 2.0], [16, 16], [1, 1], source="a.csv"), [[0], [0]])
    b = hashed(from_lengths([1.0], [16], [2], source="b.csv"), [[0]])
    both = merge([a, b])
    assert both.output_tokens.tolist() == [1, 2, 1]
    assert list(both.column("tenant")) == ["a.csv", "b.csv", "a.csv"]  # type: ignore[arg-type]
    hashes = both.column("prefix_hashes")
    assert isinstance(hashes, Ragged)
    assert hashes.values.tolist() == [0, 1, 0]
    assert both.row_id.tolist() == [0, 1, 2]
    both.header.counts.reconcile()


def test_traces_merge_by_their_clocks() -> None:
    early, late = from_lengths([0.0], [1], [1]), from_lengths([0.0], [2], [1])
    early = replace(early, header=replace(early.header, origin_ns=10_000_000_000))
    with pytest.raises(WorkloadError, match="made tells no date"):
        merge([early, late], by_clock=True)
    late = replace(late, header=replace(late.header, origin_ns=7_000_000_000))
    both = merge([early, late], by_clock=True)
    assert (both.input_tokens.tolist(), both.arrival_ns.tolist()) == ([2, 1], [0, 3_000_000_000])


def test_ticks_are_spread_over_their_width_and_nothing_changes_places() -> None:
    ticks = np.repeat(np.arange(100) * 3.0, 10)
    trace = from_lengths(ticks, np.arange(1, 1001), np.ones(1000, dtype=int))
    spread = dequantise(trace, seed=4)
    assert spread.input_tokens.tolist() == trace.input_tokens.tolist()
    assert (np.diff(spread.arrival_ns) >= 0).all()
    assert (spread.arrival_ns // 3_000_000_000 == trace.arrival_ns // 3_000_000_000).all()
    found = stats(spread)
    assert found.tie_ratio == 0
    assert found.gap_cv == pytest.approx(1.0, abs=0.12)
    assert set(spread.arrival_quality) == {Quality.SYNTHETIC}


def test_arrivals_without_ticks_are_not_spread() -> None:
    with pytest.raises(WorkloadError, match=r"not on ticks \(ties 0\.\d%\)"):
        dequantise(bursty())


@pytest.mark.parametrize("pattern", ["gamma", "weibull"])
def test_synthetic_gaps_have_the_fitted_rate_and_variation(pattern: str) -> None:
    trace = bursty(20_000, shape=0.25)
    made = stats(synthesise(trace, fit(trace, pattern), seed=7))
    once = stats(trace)
    assert made.mean_per_s == pytest.approx(once.mean_per_s, rel=0.06)
    assert made.gap_cv == pytest.approx(once.gap_cv, rel=0.1)
    assert made.input_tokens == once.input_tokens


def test_poisson_arrivals_keep_the_rate_and_have_no_bursts() -> None:
    made = stats(synthesise(bursty(20_000), fit(bursty(20_000), "poisson"), seed=7))
    assert made.gap_cv == pytest.approx(1.0, abs=0.03)
    assert made.dispersion_1s == pytest.approx(1.0, abs=0.06)


def test_diurnal_arrivals_have_the_course_and_so_the_unevenness_of_counts() -> None:
    generator = np.random.default_rng(5)
    at = generator.random(40_000) * 7200
    day = np.sort(at[generator.random(40_000) < 0.5 + 0.5 * np.sin(at / 7200 * 2 * np.pi)])
    trace = from_lengths(day, np.ones(len(day), dtype=int), np.ones(len(day), dtype=int))
    fitted = fit(trace, "diurnal")
    made, once = stats(synthesise(trace, fitted, seed=1)), stats(trace)
    assert fitted.cv == pytest.approx(1.0, abs=0.05)
    assert made.dispersion["60s"] == pytest.approx(once.dispersion["60s"], rel=0.15)
    assert made.dispersion["60s"] > 20


def test_more_requests_than_the_trace_has_are_drawn_whole() -> None:
    trace = from_lengths(np.arange(10.0), np.arange(1, 11), np.arange(1, 11) * 3)
    made = synthesise(trace, fit(trace, "poisson"), count=500, seed=1)
    assert len(made) == 500
    assert (made.output_tokens == 3 * made.input_tokens).all()
    assert made.row_id.tolist() == list(range(500))


@given(st.floats(min_value=0.05, max_value=20))
def test_the_weibull_shape_is_that_of_the_variation(cv: float) -> None:
    from scipy.special import gamma

    shape = weibull_shape(cv)
    assert gamma(1 + 2 / shape) / gamma(1 + 1 / shape) ** 2 - 1 == pytest.approx(cv**2, rel=1e-6, abs=1e-9)


def test_same_seed_same_arrivals() -> None:
    fitted = fit(bursty(), "gamma")
    assert (draw(fitted, 100, 1) == draw(fitted, 100, 1)).all()
    assert (draw(fitted, 100, 1) != draw(fitted, 100, 2)).any()


def test_arrivals_of_a_trace_of_lengths_must_be_named() -> None:
    trace = from_lengths(np.zeros(5), np.ones(5, dtype=int), np.ones(5, dtype=int))
    untimed = replace(trace, missing={"arrival_ns": np.ones(5, dtype=bool)})
    with pytest.raises(WorkloadError, match="no arrival times to fit; name them, such as poisson:5"):
        Shaping(arrivals="gamma").apply(untimed)
    with pytest.raises(WorkloadError, match="has no arrival times; `loadline replay convert` with --arrivals"):
        Shaping().apply(untimed)
    assert "arrival_ns" not in Shaping(arrivals="poisson:5").apply(untimed).missing


def test_lengths_come_from_another_trace_prompt_and_answer_together() -> None:
    log = from_lengths(np.arange(200.0), np.zeros(200, dtype=int), np.zeros(200, dtype=int))
    nothing = np.ones(200, dtype=bool)
    log = replace(log, missing={"input_tokens": nothing, "output_tokens": nothing})
    with pytest.raises(WorkloadError, match="has no prompt lengths"):
        Shaping().apply(log)
    other = from_lengths(np.arange(9.0), np.arange(1, 10), np.arange(1, 10) * 7)
    drawn = lengths_from(log, other, seed=1)
    assert (drawn.output_tokens == 7 * drawn.input_tokens).all()
    assert len(set(drawn.input_tokens.tolist())) == 9
    assert Shaping().apply(drawn) is drawn


@pytest.mark.parametrize("text", ["uniform", "gamma:x", "gamma:1:2:3", "poisson:-1", "poisson:nan", ""])
def test_arrivals_that_cannot_be_read_are_answered_with_what_can(text: str) -> None:
    with pytest.raises(WorkloadError, match="must be poisson, gamma, weibull, diurnal"):
        parse_arrivals(text)


def test_a_window_may_be_open_at_its_end() -> None:
    assert parse_window("60:") == (60.0, None)
    trace = from_lengths([0.0, 1.0, 2.0], [1, 2, 3], [1, 1, 1])
    assert window(trace, 1.0, None).input_tokens.tolist() == [2, 3]


def test_shaping_options_apply_in_the_order_in_which_they_stand() -> None:
    shaping = Shaping(
        window_start_s=100, rate=2, arrivals="gamma", requests=500, max_requests=300, speed=4, token_scale=0.5
    )
    shaped = shaping.apply(bursty())
    names = [step["name"] for step in shaped.header.transforms]
    assert names == ["window", "scale_rate", "arrivals", "take", "speed", "scale_tokens"]
    assert len(shaped) == 300
