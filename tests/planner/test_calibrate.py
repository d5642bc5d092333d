import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from planner.answers.simulation import validation_report
from planner.compare import compare
from planner.errors import ModelError
from planner.result import Observation, Run
from planner.sim import Twin, simulate
from planner.sim.clock import Clock
from planner.sim.pace import to_s
from planner.sim.replica import Replica
from planner.sim.router import round_robin
from planner.steps.calibrate import from_document, from_engine, from_run, merge, overhead_of, slowness
from planner.steps.fit import fit
from planner.steps.latency import LinearModel, Overhead
from planner.steps.validate import validate
from planner.traces.replayed import trace_of
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import Request, SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=64)
TRUTH = LinearModel(3e-3, 4e-5, 3e-9, 1e-4, 1e-7)


def load(rows: int, rate: float, seed: int = 0) -> Trace:
    draw = np.random.default_rng(seed)
    return from_lengths(
        np.cumsum(draw.exponential(1 / rate, rows)), draw.integers(10, 600, rows), draw.integers(2, 80, rows)
    )


class Watched(Replica):
    """A replica whose steps are noted as an engine's step ring does."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, skip=False, **options)  # type: ignore[arg-type]
        self.steps: list[Observation] = []
        self.started_s = 0.0

    def begin(self, now: int) -> int | None:
        self.started_s = to_s(now)
        return super().begin(now)

    def end(self, now: int) -> list[Request]:
        assert self.output is not None
        s = self.output.stats
        self.steps.append(
            Observation(
                wall_s=to_s(now) - self.started_s,
                start_s=self.started_s,
                end_s=to_s(now),
                prefill_tokens=s.prefill_tokens,
                prefill_attention=s.prefill_attention,
                decode_seqs=s.decode_seqs,
                decode_kv_tokens=s.decode_kv_tokens,
            )
        )
        return super().end(now)


def engine_steps(trace: Trace) -> list[Observation]:
    """Steps of an engine that behaves as ``TRUTH`` under ``trace``."""
    replica = Watched(CONFIG, TRUTH)
    arrivals = (
        (int(t) * 10**6, Request(str(i), int(p), int(o), float(t) / 1e9))
        for i, (t, p, o) in enumerate(zip(trace.arrival_ns, trace.input_tokens, trace.output_tokens, strict=True))
    )
    Clock([replica], round_robin, lambda request: None, lambda request, refusal: None).run(arrivals)
    return replica.steps


def measured(trace: Trace) -> Run:
    """A run as a replay would record it: the twin of the truth, with per-second observations."""
    run = simulate(trace, Twin(CONFIG, TRUTH, overhead=Overhead(fixed_s=0.004)))
    steps = engine_steps(replace(trace, arrival_ns=trace.arrival_ns + 4_000_000))
    by_second: dict[int, list[Observation]] = {}
    for step in steps:
        by_second.setdefault(int(step.end_s or 0), []).append(step)
    sums = tuple(
        Observation(
            steps=len(group),
            start_s=float(second),
            end_s=second + 1.0,
            **{
                name: sum(getattr(o, name) for o in group)
                for name in ("wall_s", "prefill_tokens", "prefill_attention", "decode_seqs", "decode_kv_tokens")
            },
        )
        for second, group in sorted(by_second.items())
    )
    details = {"scheduler": {"num_blocks": 4000, "max_num_batched_tokens": 512, "max_num_seqs": 64}}
    header = run.header.model_copy(update={"kind": "replay", "details": details})
    server = run.latencies()["ttft_sent_s"] - 0.004
    return Run(header, replace(run.requests, server_ttft_s=server), sums)


def test_a_twin_calibrated_on_a_run_reproduces_another_run() -> None:
    evidence = from_run(measured(load(1500, 12)), "run")
    twin = Twin.of(evidence.fit())
    other = load(1500, 16, seed=9)
    found = compare(measured(other), simulate(other, twin)).metrics
    for metric in ("ttft_sent_s", "tpot_s", "e2e_sent_s"):
        for statistic in ("p50", "p99"):
            assert abs(found[metric].error[statistic]) < 0.02, (metric, statistic)


def test_validate_compares_only_what_came_after_the_calibration() -> None:
    run = measured(load(800, 12))
    found = validate(run, "run", split=0.5, model=None, fleet=Twin.of)
    assert 300 < found.comparison.joined < 500
    assert abs(found.comparison.metrics["e2e_sent_s"].error["p50"]) < 0.02


def test_the_speed_of_the_machine_is_told_apart_from_the_error_of_the_model() -> None:
    run = measured(load(800, 12))
    found = validate(run, "run", split=0.0, model=from_run(run, "run").fit().slower(0.8), fleet=Twin.of)
    assert found.slowness == pytest.approx(1.25, rel=0.01)
    assert found.comparison.metrics["e2e_sent_s"].error["p50"] < -0.15
    assert abs(found.at_speed.metrics["e2e_sent_s"].error["p50"]) < 0.02
    report = validation_report("run", found, run, {})
    assert "steps took 25" in report.findings[1] and "longer" in report.findings[1]


def test_single_steps_and_sums_tell_the_same_speed() -> None:
    still = {"prefill_tokens": 0, "prefill_attention": 0, "decode_kv_tokens": 0}
    steps = [Observation(wall_s=2e-3 + 1e-4 * seqs, decode_seqs=seqs, **still) for seqs in range(1, 60)]
    model = fit(steps, source="made", form="hinge").slower(0.5)
    assert slowness(model, steps) == pytest.approx(2.0, rel=0.01)
    assert slowness(model, []) == 1.0


def test_a_run_without_observations_cannot_validate_itself() -> None:
    with pytest.raises(ModelError, match="at least 8 are needed"):
        validate(replace(measured(load(100, 12)), observations=()), "run", split=0.5, model=None, fleet=Twin.of)


def test_overhead_is_told_apart_from_the_engine() -> None:
    found = overhead_of(measured(load(200, 5)))
    assert found.fixed_s == pytest.approx(0.004, rel=1e-6)
    assert found.per_prompt_token_s == pytest.approx(0, abs=1e-9)
    assert found.requests == 200


def test_overhead_per_prompt_token_is_told_from_the_fixed_part() -> None:
    run = measured(load(400, 5))
    served = run.latencies()["ttft_sent_s"] - 0.003 - 2e-6 * run.requests.input_tokens
    found = overhead_of(replace(run, requests=replace(run.requests, server_ttft_s=served)))
    assert found.fixed_s == pytest.approx(0.003, rel=0.01)
    assert found.per_prompt_token_s == pytest.approx(2e-6, rel=0.01)


def test_without_server_times_the_means_of_client_and_engine_give_a_fixed_part() -> None:
    run = measured(load(200, 5))
    ttft = run.latencies()["ttft_sent_s"]
    seen = run.observations[0].model_copy(update={"ttft_sum_s": float(ttft.sum()) - 200 * 0.002, "ttft_count": 200.0})
    bare = replace(run, requests=replace(run.requests, server_ttft_s=None), observations=(seen, *run.observations[1:]))
    assert overhead_of(bare).fixed_s == pytest.approx(0.002)
    unknown = replace(bare, observations=run.observations)
    assert overhead_of(unknown) == Overhead()


def test_the_trace_of_a_run_is_what_was_sent() -> None:
    trace = load(50, 5)
    found = trace_of(measured(trace), "run")
    assert found.row_id.tolist() == trace.row_id.tolist()
    assert found.arrival_ns == pytest.approx(trace.arrival_ns, abs=1)
    assert found.output_tokens.tolist() == trace.output_tokens.tolist()


def test_what_the_server_found_in_its_cache_the_twin_finds_too() -> None:
    run = measured(load(50, 5))
    cached = np.minimum(run.requests.input_tokens // 32 * 16, 160).astype(np.float64)
    trace = trace_of(replace(run, requests=replace(run.requests, cached_tokens=cached)), "run")
    found = simulate(trace, Twin(CONFIG, TRUTH)).requests.cached_tokens
    longest_before = np.maximum.accumulate(np.concatenate([[0.0], cached[:-1]]))
    assert found.tolist() == np.minimum(cached, longest_before).tolist()


def engine_app(request: httpx.Request) -> httpx.Response:
    """An engine's pages, as its server answers them."""
    steps = [
        {"step": i, **o.model_dump(include={"start_s", "wall_s", "prefill_tokens", "prefill_attention"})}
        | {"decode_seqs": o.decode_seqs, "decode_kv_tokens": o.decode_kv_tokens, "preempted": 0, "waiting": 0}
        for i, o in enumerate(engine_steps(load(60, 5)))
    ]
    pages = {
        "/steps": {"steps": steps, "next": len(steps)},
        "/metadata": {
            "model": {"name": "tiny", "layers": 2},
            "device": "cpu",
            "scheduler": {"num_blocks": 77, "block_size": 16, "prefix_cache": True},
        },
    }
    return httpx.Response(200, json=pages[request.url.path])


@pytest.mark.parametrize("url", ["http://engine", "http://engine/", "http://engine/steps"])
def test_an_engine_gives_steps_limits_and_identity(url: str) -> None:
    evidence = from_engine(url, transport=httpx.MockTransport(engine_app))
    model = evidence.fit("linear")
    assert model.costs_s["steps"] == pytest.approx(TRUTH.step_s, rel=1e-3)
    assert model.scheduler == {"num_blocks": 77, "block_size": 16, "prefix_cache": True}
    assert model.engine == {"model": "tiny", "device": "cpu"}
    assert model.basis == "step"


def test_an_engine_that_does_not_answer_is_one_clear_error() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503)

    with pytest.raises(ModelError, match=r"http://engine/steps: .*503"):
        from_engine("http://engine", transport=httpx.MockTransport(broken))


def test_a_step_without_its_time_names_the_entry() -> None:
    good = engine_steps(load(5, 5))[0].model_dump()
    with pytest.raises(ModelError, match="file: entry 1: wall_s: field required"):
        from_document({"steps": [good, {"prefill_tokens": 1}]}, "file")


def test_a_document_of_something_else_is_refused() -> None:
    with pytest.raises(ModelError, match='neither "steps" nor "observations"'):
        from_document({"data": []}, "file")


def test_sources_of_one_engine_are_merged(tmp_path: Path) -> None:
    steps = [o.model_dump() for o in engine_steps(load(20, 5))]
    one = from_document({"observations": steps, "scheduler": {"num_blocks": 5}}, "a")
    two = from_document({"observations": steps, "model": "tiny"}, "b")
    both = merge([one, two])
    assert len(both.observations) == 2 * len(steps)
    assert (both.source, both.scheduler, both.engine) == ("a, b", {"num_blocks": 5}, {"model": "tiny"})
    assert json.dumps(both.scheduler)
