from dataclasses import replace
from math import exp, factorial

import numpy as np
import pytest

from planner.errors import CapacityError
from planner.room.capacity import find_capacity, holds_at, search, workload
from planner.room.growth import Demand, needs, safe_months
from planner.room.means import mean_figure
from planner.room.verdict import judge, weighted_quantile
from planner.sim import Twin, play
from planner.slo import Slo
from planner.steps.latency import ConstantModel, LinearModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

SERVICE_S = 0.1
ONE_SEAT = SchedulerConfig(num_blocks=16, max_num_batched_tokens=1, max_num_seqs=1)
LAX = Slo(ttft_p95_s=0.25, itl_p95_s=1, e2e_p95_s=9)
CONFIG = SchedulerConfig(num_blocks=2000, max_num_batched_tokens=512, max_num_seqs=64)
MODEL = LinearModel(2e-3, 2e-5, 1e-9, 2e-4, 1e-7)


def even(rows: int, rate: float = 1.0) -> Trace:
    return from_lengths(np.arange(rows) / rate, np.ones(rows, int), np.ones(rows, int))


def chatty(rows: int, rate: float) -> Trace:
    draw = np.random.default_rng(5)
    return from_lengths(
        np.cumsum(draw.exponential(1 / rate, rows)),
        draw.integers(20, 300, rows),
        draw.integers(1, 60, rows),
    )


def server(replicas: int = 1) -> Twin:
    return Twin(ONE_SEAT, ConstantModel(SERVICE_S), replicas=replicas, router="round_robin")


@pytest.mark.parametrize("replicas", [1, 3])
def test_evenly_spaced_work_is_carried_up_to_the_service_rate(replicas: int) -> None:
    found = find_capacity(even(500), server(replicas), LAX, requests=1500, seeds=2)
    assert found.requests_per_s == pytest.approx(replicas / SERVICE_S, rel=0.015)
    assert found.bound_by == "TTFT p95"
    assert found.looped


def md1_wait_at_most(wait_s: float, rate: float) -> float:
    """Share of M/D/1 waits up to ``wait_s`` (Erlang 1909)."""
    terms = [rate * (k * SERVICE_S - wait_s) for k in range(int(wait_s / SERVICE_S + 1e-9) + 1)]
    return (1 - rate * SERVICE_S) * sum(exp(-x) * x**k / factorial(k) for k, x in enumerate(terms))


def test_an_md1_queue_is_carried_up_to_its_waiting_time_percentile() -> None:
    draw = np.random.default_rng(2)
    trace = from_lengths(np.cumsum(draw.exponential(1, 12_000)), np.ones(12_000, int), np.ones(12_000, int))
    tight = LAX.model_copy(update={"ttft_p95_s": 0.26})
    found = search(trace, server(), tight, guess=4.0, seed=0, tolerance=0.005)
    assert md1_wait_at_most(0.16, found.requests_per_s) == pytest.approx(0.95, abs=0.01)


def test_the_answer_holds_and_a_little_more_does_not() -> None:
    trace, twin, slo = chatty(1200, 20), Twin(CONFIG, MODEL), Slo(ttft_p95_s=0.3, itl_p95_s=0.02)
    found = search(trace, twin, slo, guess=30, seed=0, tolerance=0.01)
    assert holds_at(trace, twin, slo, found.requests_per_s, requests=1200).kept
    assert not holds_at(trace, twin, slo, found.requests_per_s * 1.05, requests=1200).kept


def test_every_seed_is_searched_and_the_interval_spans_them() -> None:
    found = find_capacity(
        chatty(400, 20), Twin(CONFIG, MODEL), Slo(ttft_p95_s=0.3, itl_p95_s=0.02), requests=600, seeds=3
    )
    assert len(found.per_seed) == 3
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.requests_per_s < found.high
    assert {point.seed for point in found.points} == {0, 1, 2}


def test_the_likely_range_holds_what_the_calibration_leaves_open() -> None:
    sure, factors = server(), (0.9, 0.95, 1.05, 1.1)
    unsure = replace(sure, drawn=tuple(ConstantModel(SERVICE_S * factor) for factor in factors))
    known, doubtful = (find_capacity(even(500), twin, LAX, requests=600, seeds=3) for twin in (sure, unsure))
    assert known.calibration_ratio is None
    assert doubtful.requests_per_s == known.requests_per_s
    spread = float(np.sqrt(np.mean(np.log(factors) ** 2)))
    assert doubtful.calibration_ratio == pytest.approx(1.645 * spread, rel=0.1)
    for found, wide in ((known, 0.02), (doubtful, 1.645 * spread)):
        assert found.likely_low is not None and found.likely_high is not None
        assert found.likely_low < found.requests_per_s < found.likely_high
        assert np.log(found.likely_high / found.requests_per_s) == pytest.approx(wide, abs=0.02)


def test_sizing_on_means_stands_beside_the_answer_and_is_higher() -> None:
    trace, slo = chatty(800, 20), Slo(ttft_p95_s=0.3, itl_p95_s=0.02)
    found = find_capacity(trace, Twin(CONFIG, MODEL), slo, requests=800, seeds=1)
    assert found.mean_based is not None
    assert found.mean_based > found.requests_per_s
    assert found.low is None


def test_the_mean_figure_is_littles_law_for_equal_requests() -> None:
    trace = from_lengths(np.arange(10.0), np.full(10, 100), np.full(10, 50))
    found = mean_figure(trace, ConstantModel(0.01), CONFIG, Slo(itl_p95_s=0.02))
    assert found is not None
    assert found.batch == 64
    assert found.requests_per_s == pytest.approx(64 / (50 * 0.01))


def test_a_promise_that_no_rate_keeps_names_what_breaks() -> None:
    with pytest.raises(CapacityError, match=r"breaks at any rate: TTFT p95 is 0\.1, its limit 0\.05"):
        find_capacity(even(100), server(), LAX.model_copy(update={"ttft_p95_s": 0.05}), requests=100, seeds=1)


def test_requests_that_never_fit_break_the_promise_of_success() -> None:
    trace = from_lengths(np.arange(200.0), np.full(200, 10), np.where(np.arange(200) % 10, 5, 9000))
    with pytest.raises(CapacityError, match="breaks at any rate"):
        find_capacity(trace, Twin(CONFIG, MODEL), LAX, requests=200, seeds=1)


def test_a_full_cache_is_named_as_the_limit() -> None:
    small = SchedulerConfig(num_blocks=60, max_num_batched_tokens=512, max_num_seqs=64)
    found = search(chatty(600, 20), Twin(small, MODEL), Slo(itl_p95_s=0.5), guess=10, seed=0, tolerance=0.02)
    assert found.bound_by == "KV cache"


def test_filling_and_draining_are_left_out_of_the_verdict() -> None:
    trace = even(100, rate=1.0)
    played = play(trace, server())
    slow_start = played.first_token_s.copy()
    slow_start[:5] += 50
    verdict = judge(replace(played, first_token_s=slow_start), trace.output_tokens, LAX)
    assert verdict.kept


def test_the_weighted_quantile_is_that_of_the_repeated_values() -> None:
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 90.0, 9.0])
    assert weighted_quantile(values, weights, 0.5) == 1.0
    assert weighted_quantile(values, weights, 0.95) == 2.0
    assert weighted_quantile(np.zeros(0), np.zeros(0), 0.5) is None


def test_later_seeds_play_the_trace_in_another_order_at_the_same_rate() -> None:
    trace = chatty(500, 20)
    zero, one = workload(trace, 500, 0), workload(trace, 500, 1)
    assert zero is trace
    assert one.sha256() != trace.sha256()
    assert sorted(one.input_tokens) == sorted(trace.input_tokens)


def test_needs_grow_with_the_months_and_keep_spares() -> None:
    trace = even(400, rate=4)
    capacity = find_capacity(trace, server(), LAX, requests=400, seeds=1)
    demand = Demand(baseline_per_s=4, peak_factor=3, growth_per_month=0.5, months=2)
    found = needs(trace, server(), LAX, demand, capacity, spare=2, requests=400)
    assert [need.peak_per_s for need in found] == [12, 18, 27]
    assert [need.serving for need in found] == [2, 2, 3]
    assert [need.total for need in found] == [4, 4, 5]
    assert all(need.verified for need in found)
    assert found[0].serving_low is None
    likely = replace(capacity, likely_low=capacity.requests_per_s / 2, likely_high=capacity.requests_per_s * 2)
    (first, *_) = needs(trace, server(), LAX, replace(demand, months=0), likely, spare=0, requests=400)
    assert (first.serving_low, first.serving, first.serving_high) == (1, 2, 3)
    assert (safe_months(found, 3), safe_months(found, 4), safe_months(found, 9)) == (None, 1, 2)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("peak_factor", 0.5, "at least 1"), ("baseline_per_s", 0.0, "above 0"), ("growth_per_month", -1.0, "above -1")],
)
def test_a_demand_that_makes_no_sense_is_refused(field: str, value: float, message: str) -> None:
    given = {"baseline_per_s": 1.0, "peak_factor": 3.0, "growth_per_month": 0.2, "months": 3, field: value}
    with pytest.raises(CapacityError, match=message):
        Demand(**given)  # type: ignore[arg-type]
