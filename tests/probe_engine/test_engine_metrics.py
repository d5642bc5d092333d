"""What /metrics says, held against the catalogue, a referee's parser and arithmetic."""

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.generation import Generation
from probe_engine.sched import FinishReason, Request, SchedulerConfig
from probe_engine.telemetry.catalog import METRICS
from probe_engine.telemetry.metrics import EngineMetrics, Histogram
from probe_engine.telemetry.steps import StepRecord, StepRing

CONFIG = SchedulerConfig(num_blocks=200, block_size=4, max_num_batched_tokens=64, max_num_seqs=16, max_model_len=400)


def parsed(metrics: EngineMetrics):
    return {
        family.name: family for family in text_string_to_metric_families(generate_latest(metrics.registry()).decode())
    }


def values(metrics: EngineMetrics) -> dict[str, float]:
    """Every sample without buckets, by name and labels other than the model's."""
    return {
        sample.name
        + "".join(f",{name}={value}" for name, value in sample.labels.items() if name != "model_name"): sample.value
        for family in parsed(metrics).values()
        for sample in family.samples
        if not sample.name.endswith("_bucket")
    }


def served(engine_of, clock, prompts: dict[str, str], max_tokens: int = 3):
    """An engine that has served ``prompts``, each step taking half a second, and its metrics."""
    engine, runner = engine_of(CONFIG, clock=clock)

    def half_a_second():
        clock.now_s += 0.5

    runner.before_step = half_a_second
    for name, prompt in prompts.items():
        engine.add(Generation(name, list(prompt.encode()), max_tokens, clock.now_s, SamplingParams(temperature=0.0)))
    while engine.has_work:
        engine.step()
    return engine


def test_every_metric_of_the_catalogue_is_exposed_and_no_other(engine_of, clock):
    engine = served(engine_of, clock, {"a": "x"})
    engine.metrics.constants = {
        "loadline_kv_cache_block_size_tokens": {(): 4},
        "loadline_kv_cache_blocks": {(): 200},
        "loadline_engine_info": {("1", "float32", "cpu", "64", "16", "400", "true"): 1.0},
        "loadline_model_load_seconds": {("weights",): 0.5},
    }
    found = parsed(engine.metrics)
    assert list(found) == [metric.name.removesuffix("_total") for metric in METRICS]
    for metric in METRICS:
        family = found[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == {"model_name", *metric.labels}
        if metric.kind == "histogram":
            bounds = [sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")]
            assert [float(bound) for bound in bounds] == [*metric.buckets, float("inf")]


def test_the_catalogue_keeps_prometheus_conventions():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert metric.name.startswith("loadline_")
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        assert bool(metric.buckets) == (metric.kind == "histogram")
        assert metric.help.endswith(".")
        assert not metric.values or len(metric.labels) == 1


def test_a_requests_latencies_and_counts_come_out_as_they_were(engine_of, clock):
    engine = served(engine_of, clock, {"a": "hello", "b": "hello, you"})
    found = values(engine.metrics)
    expected = {
        "loadline_time_to_first_token_seconds_sum": 1.0,
        "loadline_time_to_first_token_seconds_count": 2,
        "loadline_inter_token_latency_seconds_sum": 2.0,
        "loadline_inter_token_latency_seconds_count": 4,
        "loadline_time_per_output_token_seconds_sum": 1.0,
        "loadline_e2e_request_latency_seconds_sum": 3.0,
        "loadline_request_queue_time_seconds_sum": 0.0,
        "loadline_request_prefill_time_seconds_sum": 1.0,
        "loadline_request_decode_time_seconds_sum": 2.0,
        "loadline_request_prompt_tokens_sum": 15,
        "loadline_request_generation_tokens_sum": 6,
        "loadline_iteration_tokens_sum": 15 + 4,
        "loadline_step_time_seconds_sum": 1.5,
        "loadline_step_time_seconds_count": 3,
        "loadline_prompt_tokens_total": 15,
        "loadline_generation_tokens_total": 6,
        "loadline_request_success_total,finished_reason=length": 2,
        "loadline_request_success_total,finished_reason=stop": 0,
        "loadline_prefix_cache_queries_total": 15,
        "loadline_step_prefill_tokens_total": 15,
        "loadline_step_prefill_attention_total": 15 + 55,
        "loadline_step_decode_sequences_total": 4,
        "loadline_step_decode_kv_tokens_total": (6 + 11) + (7 + 12),
    }
    assert {name: found[name] for name in expected} == expected


def test_cached_tokens_and_preemptions_are_counted(engine_of, clock):
    engine, _ = engine_of(SchedulerConfig(num_blocks=8, block_size=4, max_model_len=40), clock=clock)
    for name, prompt in (("a", "one two three"), ("b", "six seven eig")):
        engine.add(Generation(name, list(prompt.encode()), 8, clock.now_s, SamplingParams(temperature=0.0)))
    while engine.has_work:
        clock.now_s += 1
        engine.step()
    engine.add(Generation("c", list(b"one two three"), 1, clock.now_s, SamplingParams(temperature=0.0)))
    engine.step()
    found = values(engine.metrics)
    assert found["loadline_preemptions_total"] == engine.scheduler.preemptions > 0
    assert found["loadline_prompt_tokens_cached_total"] == found["loadline_prefix_cache_hits_total"] == 12
    assert found["loadline_generation_tokens_total"] == 17
    assert found["loadline_inter_token_latency_seconds_count"] == 14  # also the gaps over a preemption


def test_a_request_that_was_given_up_counts_as_abort_and_has_no_latency():
    metrics = EngineMetrics("tiny")
    request = Request("a", 5, 5, 0.0)
    request.finish_reason = FinishReason.ABORT
    request.timeline.finished_s = 9.0
    metrics.finished(request)
    found = values(metrics)
    assert found["loadline_request_success_total,finished_reason=abort"] == 1
    assert found["loadline_e2e_request_latency_seconds_count"] == 0


def test_a_bucket_holds_its_own_bound():
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    histogram.observe(1.5, 10)
    assert (histogram.counts, histogram.total) == ([2, 12, 1], 22.5)


def test_the_ring_of_steps_keeps_the_newest():
    ring = StepRing(capacity=3)
    for step in range(5):
        ring.append(StepRecord(step, 0.0, 0.0, 0, 0, 0, 0, 0, 0))
    assert [record.step for record in ring.since(0)] == [2, 3, 4]
    assert [record.step for record in ring.since(4)] == [4]
    assert ring.since(5) == []


@pytest.mark.parametrize("reason", ["queue_full", "too_long", "invalid", "unknown_model", "not_ready", "unauthorized"])
def test_every_reason_to_reject_is_a_series_from_the_start(reason: str):
    metrics = EngineMetrics("tiny")
    assert values(metrics)[f"loadline_requests_rejected_total,reason={reason}"] == 0
    metrics.rejected(reason)
    assert values(metrics)[f"loadline_requests_rejected_total,reason={reason}"] == 1
