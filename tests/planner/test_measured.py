import json
from pathlib import Path

import numpy as np
import pytest

from planner.errors import RunError
from planner.sim import Twin, play
from planner.steps.latency import LinearModel
from planner.steps.measured import Timed, common_prefix, observations, read_any, read_measured
from planner.steps.validate import validate
from planner.traces.trace import from_lengths
from probe_engine.sched import SchedulerConfig

RUNS = {
    "llmservingsim/bench/examples/RTX4090/Llama-3.1-8B/vllm/requests.jsonl": 0.13,
    "llmservingsim/bench/examples/RTXPRO6000/Llama-3.1-8B/vllm/requests.jsonl": 0.03,
    "vllm_otel/jan20-codellama-prefill-1/traces.json": 0.22,
    "vllm_otel/jan21-llama7b-train-1/traces.json": 0.07,
}


@pytest.mark.parametrize("name", RUNS)
def test_the_second_half_of_a_real_gpu_run_is_foretold_from_its_first(shared_data: Path, name: str) -> None:
    path = shared_data / "traces" / name
    run = read_measured(path)
    assert len(run.requests) >= 180
    found = validate(run, name, split=0.5, model=None, fleet=lambda model: Twin.of(model, noise=False))
    for metric in ("ttft_sent_s", "tpot_s", "e2e_sent_s"):
        errors = found.comparison.metrics[metric].error
        assert max(abs(errors[at]) for at in ("p50", "p90", "p99")) < RUNS[name], (metric, errors)
    end_to_end = found.comparison.metrics["e2e_sent_s"].error
    assert abs(end_to_end["p50"]) < 0.04


def test_sums_of_a_requests_decode_are_sums_of_its_steps() -> None:
    draw = np.random.default_rng(3)
    trace = from_lengths(np.cumsum(draw.exponential(0.2, 120)), draw.integers(20, 400, 120), draw.integers(20, 90, 120))
    config = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=64)
    played = play(trace, Twin(config, LinearModel(20e-3, 1e-4, 0.0, 1e-3, 1e-6)))
    timed = Timed(
        played.due_s, played.due_s, played.first_token_s, played.last_token_s, trace.input_tokens, trace.output_tokens
    )
    for seen in observations(timed):
        told = 20e-3 * seen.steps + 1e-4 * seen.prefill_tokens + 1e-3 * seen.decode_seqs + 1e-6 * seen.decode_kv_tokens
        assert told == pytest.approx(seen.wall_s, rel=0.1)


def test_a_prompt_that_was_computed_alone_is_the_sum_of_its_chunks() -> None:
    at = np.array([0.0, 10.0, 10.001, 20.0])  # the two in the middle meet
    prompt = np.array([1000, 300, 300, 700])
    config = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=64)
    played = play(from_lengths(at, prompt, [4, 4, 4, 4]), Twin(config, LinearModel(20e-3, 1e-4, 1e-7, 1e-3, 1e-6)))
    timed = Timed(at, at, played.first_token_s, played.last_token_s, prompt, np.full(4, 4), budget_tokens=512)
    alone = list(observations(timed))
    assert [one.prefill_tokens for one in alone] == [1000, 700]
    assert [one.steps for one in alone] == [2, 2]
    for seen in alone:
        told = 20e-3 * seen.steps + 1e-4 * seen.prefill_tokens + 1e-7 * seen.prefill_attention
        assert told == pytest.approx(seen.wall_s, rel=1e-5)


def test_prompts_share_a_beginning_of_whole_blocks_that_the_first_has_to_compute() -> None:
    prompt = np.array([400, 200, 40, 400])
    assert common_prefix(prompt, 0.0, 16).tolist() == [0, 0, 0, 0]
    assert common_prefix(prompt, (96 + 32 + 96) / 1040, 16).tolist() == [0, 96, 32, 96]


def test_limits_that_nobody_tells_are_noted(tmp_path: Path) -> None:
    line = {"input_toks": 10, "output_toks": 20, "queued_ts": 5.0, "scheduled_ts": 5.0}
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps({**line, "first_token_ts": 5.1, "last_token_ts": 6.0}) + "\n")
    run = read_any(path)
    assert run.requests.first_token_s.tolist() == pytest.approx([0.1])
    assert run.header.details["notes"] == [
        "max_model_len is not told: taken as 131072",
        "num_blocks is not told: taken as 1000000",
    ]


def test_a_request_that_never_ended_is_left_out_and_counted(tmp_path: Path) -> None:
    ended = {"queued_ts": 5.0, "scheduled_ts": 5.0, "first_token_ts": 5.1, "last_token_ts": 6.0}
    lines = [ended, {**ended, "first_token_ts": None, "last_token_ts": None}]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(json.dumps({**line, "input_toks": 10, "output_toks": 20}) for line in lines))
    meta = {
        "model": "m",
        "kv_cache": {"num_gpu_blocks": 100, "block_size": 32},
        "engine_kwargs": {"max_num_seqs": None, "tensor_parallel_size": 4},
        "resolved_config": {"scheduler_config": {"max_num_seqs": 128, "max_num_batched_tokens": 8192}},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    run = read_any(path)
    assert len(run.requests) == 1
    assert run.header.details["notes"][-1] == "1 requests left out: they did not end"
    told = run.header.details["scheduler"]
    assert (told["max_num_seqs"], told["max_num_batched_tokens"]) == (128, 8192)
    assert (told["num_blocks"], told["block_size"]) == (100, 32)


def test_a_line_that_is_no_request_is_named(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"queued_ts": 1, "first_token_ts": 2}\n')
    with pytest.raises(RunError, match=r"requests\.jsonl:1: is not a measured request: KeyError 'scheduled_ts'"):
        read_any(path)
