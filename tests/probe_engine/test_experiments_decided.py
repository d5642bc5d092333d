"""What the experiments that drive the scheduler find: on given step times, so that only decisions count."""

from dataclasses import replace

import pytest

from probe_engine.experiments import batching, kv, prefix_routing, priority, slo_batch
from probe_engine.experiments.drive import drive, quantile
from probe_engine.experiments.options import Options
from probe_engine.experiments.registry import EXPERIMENTS, sample
from probe_engine.experiments.steps import StepCost, fit
from probe_engine.experiments.trace import TraceRequest, read_trace
from probe_engine.sched import SchedulerConfig, StepStats

COST = StepCost(1e-3, 1e-5, 1e-9, 1e-4, 1e-8, "given")


@pytest.fixture(scope="module")
def azure():
    path = sample(EXPERIMENTS["kv"])
    return Options(read_trace(path), path.name, quick=True, steps=lambda config: COST)


@pytest.fixture(scope="module")
def mooncake():
    path = sample(EXPERIMENTS["prefix-routing"])
    return Options(read_trace(path), path.name, quick=True, steps=COST)


def test_every_request_is_served_whole_and_the_clock_is_the_steps_and_the_waiting():
    trace = [TraceRequest(0.0, 20, 5), TraceRequest(100.0, 40, 3)]
    outcome = drive(SchedulerConfig(num_blocks=16, prefix_cache=False), trace, StepCost(1.0))
    assert [request.output_tokens for request in outcome.requests] == [5, 3]
    assert (outcome.steps, outcome.busy_s, outcome.makespan_s) == (8, 8.0, 103.0)
    assert (outcome.ttft_s, outcome.decodes, outcome.decode_steps) == ([1.0, 1.0], 6, 6)


def test_memory_is_weighed_into_what_is_held_reserved_wasted_and_free():
    config = SchedulerConfig(num_blocks=2, block_size=32, max_model_len=32, max_num_seqs=2, prefix_cache=False)
    trace = [TraceRequest(0.0, 8, 1), *(TraceRequest(0.0, 8, 9) for _ in range(3))]
    shares = drive(config, trace, StepCost(1.0), watch_memory=True).memory.shares()
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["free"] == 0
    assert shares["wasted"] == pytest.approx(0.5)  # each of two slots of 32 is filled to 16 at most
    assert shares["held"] > shares["reserved"] > 0


def test_paging_holds_more_tokens_and_lets_more_requests_decode(azure):
    report = kv.run(azure)
    static, paged = report.rows[0], report.rows[-1]
    assert report.holds
    assert static["holds tokens %"] < 30 < 85 < paged["holds tokens %"]
    assert paged["mean batch"] > 2 * static["mean batch"]
    assert paged["steps"] < static["steps"] / 2
    wasted = [row["never used %"] for row in report.rows]
    assert wasted == sorted(wasted, reverse=True)


def test_continuous_batching_leaves_fewer_places_idle_and_takes_fewer_steps(azure):
    report = batching.run(azure)
    rows = {row["batching"]: row for row in report.rows}
    assert report.holds
    assert rows["continuous"]["mean batch"] > rows["static"]["mean batch"]
    assert rows["continuous"]["decode steps"] < rows["static"]["decode steps"]
    assert rows["continuous"]["TTFT p95 ms here"] < rows["static"]["TTFT p95 ms here"]


def test_urgent_requests_wait_less_with_classes_and_the_others_no_longer_than_without_ageing(azure):
    report = priority.run(replace(azure, steps=COST))
    first, strict, aged = report.rows
    assert report.holds
    assert strict["urgent TTFT p95 s"] < first["urgent TTFT p95 s"] / 2
    assert aged["patient TTFT mean s"] < strict["patient TTFT mean s"]
    assert strict["tokens/s"] == pytest.approx(first["tokens/s"], rel=0.05)


def test_a_batch_that_follows_a_promise_lies_between_one_and_all(azure):
    report = slo_batch.run(azure)
    single, follows, largest = report.rows
    assert report.holds
    assert single["mean batch"] < follows["mean batch"] < largest["mean batch"]
    assert follows["within promise %"] > largest["within promise %"]


def test_hashing_prefixes_finds_more_in_the_caches_than_round_robin(mooncake):
    report = prefix_routing.run(mooncake)
    large = {row["routing"]: row for row in report.rows if row["memory"] == "GPU and host memory"}
    assert report.holds
    assert large[prefix_routing.CHOSEN]["hit %"] > 1.3 * large["round robin"]["hit %"]
    assert large[prefix_routing.CHOSEN]["prompt tokens computed"] < large["round robin"]["prompt tokens computed"]


def test_the_same_seed_gives_the_same_report(mooncake):
    few = replace(mooncake, requests=60)
    once, again = prefix_routing.run(few), prefix_routing.run(few)
    assert once.rows == again.rows


def test_a_linear_cost_is_found_again_from_its_own_steps():
    sizes = [StepStats(t, t * (t + 1) // 2, d, d * 100) for t in (0, 16, 256, 1024) for d in (0, 4, 64) if t or d]
    found = fit([(size, COST.seconds(size)) for size in sizes], "here")
    assert found.base_s == pytest.approx(COST.base_s, rel=1e-6)
    assert found.prefill_token_s == pytest.approx(COST.prefill_token_s, rel=1e-6)
    assert found.error_ratio < 1e-9


def test_a_quantile_is_a_value_that_was_seen():
    assert [quantile([3.0, 1.0, 2.0], share) for share in (0, 0.5, 0.95, 1)] == [1.0, 2.0, 3.0, 3.0]
