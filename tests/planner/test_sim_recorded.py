"""The twin beside the real engine: fed the engine's step times, it decides what the engine decided, chunk by chunk."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch

from planner.errors import ModelError
from planner.sim import Twin, play
from planner.sim.recorded import RecordedSteps
from planner.traces.trace import Ragged, Trace, from_lengths
from probe_engine.model.loading import load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation
from probe_engine.runtime.runner import Runner
from probe_engine.sched import SchedulerConfig, SchedulerOutput, hash_blocks
from probe_engine.telemetry.metrics import EngineMetrics

ROOMY = SchedulerConfig(num_blocks=2048, max_num_batched_tokens=128, max_num_seqs=16, max_model_len=512)
CASES = {
    "chunks and shared prefixes": ROOMY,
    "no prefix cache": replace(ROOMY, prefix_cache=False),
    "preemption": replace(ROOMY, num_blocks=40, prefix_cache=False),
    "preemption and eviction": replace(ROOMY, num_blocks=40),
    "preemption, nothing shared": replace(ROOMY, num_blocks=40),
    "shortest slack first": replace(ROOMY, policy="slo", ttft_slo_s=0.05, prefill_s_per_token=2e-5),
    "a batch that waits for company": replace(ROOMY, policy="dynamic", max_queue_delay_s=0.01),
    "a batch size that keeps a promise": replace(ROOMY, itl_slo_s=0.004),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Decision = tuple[tuple[str, int, int, bool], ...]


def decision(output: SchedulerOutput) -> tuple[Decision, tuple[str, ...]]:
    chunks = tuple((chunk.request.request_id, chunk.start, chunk.tokens, chunk.samples) for chunk in output.chunks)
    return chunks, tuple(request.request_id for request in output.preempted)


@dataclass
class Timed:
    """A runner that carries steps out with the real model; its clock moves by what they took, in whole nanoseconds."""

    runner: Runner
    now_ns: int = 0
    decisions: list[Any] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    logprobs: dict[str, Any] = field(default_factory=dict)

    def clock(self) -> float:
        return self.now_ns / 1e9

    def add(self, request_id: str, prompt_ids: list[int], sampling: SamplingParams) -> None:
        self.runner.add(request_id, prompt_ids, sampling)

    def remove(self, request_id: str) -> None:
        self.runner.remove(request_id)

    def execute(self, output: SchedulerOutput) -> Any:
        self.decisions.append(decision(output))
        began_ns = time.perf_counter_ns()
        sampled = self.runner.execute(output)
        took_ns = time.perf_counter_ns() - began_ns
        self.now_ns += took_ns
        self.seconds.append(took_ns / 1e9)
        return sampled


def prompts(draw: np.random.Generator, rows: int, *, shared: bool) -> list[list[int]]:
    """With ``shared`` every other one begins with one of three common beginnings of 64 tokens."""
    common = draw.integers(0, 250, (3, 64)).tolist()
    made = []
    for row in range(rows):
        own = draw.integers(0, 250, int(draw.integers(1, 160))).tolist()
        made.append(common[int(draw.integers(3))] + own if shared and row % 2 else own)
    return made


def served(config: SchedulerConfig, trace: Trace, texts: list[list[int]]) -> Timed:
    """The trace against the real engine and model."""
    loaded = load_model("tiny", "float32", "cpu")
    timed = Timed(Runner(loaded, config, seed=0))
    engine = Engine(timed, loaded.tokenizer, config, EngineMetrics("tiny"), clock=timed.clock)
    due_ns = trace.arrival_ns.tolist()
    coming = 0
    while coming < len(texts) or engine.has_work:
        if not engine.has_work:
            timed.now_ns = max(timed.now_ns, due_ns[coming])
        while coming < len(texts) and due_ns[coming] <= timed.now_ns:
            tokens = int(trace.output_tokens[coming])
            arrival_s = due_ns[coming] / 1e9
            sampling = SamplingParams(temperature=0.0)
            engine.add(Generation(str(coming), texts[coming], tokens, arrival_s, sampling=sampling, ignore_eos=True))
            coming += 1
        engine.step()
        if engine.stalled:
            pause_ns = np.inf if engine.pause_s is None else int(np.ceil(engine.pause_s * 1e9))
            later = due_ns[coming] if coming < len(texts) else np.inf
            timed.now_ns = int(min(timed.now_ns + max(pause_ns, 1), max(later, timed.now_ns + 1)))
    return timed


@pytest.mark.parametrize(
    ("name", "seed"), [*((name, 5) for name in CASES), *(("preemption and eviction", seed) for seed in range(4))]
)
def test_fed_the_recorded_step_times_the_twin_decides_what_the_engine_decided(name: str, seed: int) -> None:
    config, draw, rows = CASES[name], np.random.default_rng(seed), 48
    shared = name != "preemption, nothing shared"
    texts = prompts(draw, rows, shared=shared)
    due_us = np.sort(draw.integers(0, 30_000, rows))
    trace = from_lengths(due_us / 1e6, [len(text) for text in texts], draw.integers(1, 32, rows))
    if shared:
        hashes = [hash_blocks(0, text, config.block_size) for text in texts]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in hashes])])
        contents = Ragged(np.array([one for row in hashes for one in row], dtype=np.uint64), offsets)
        sizes = np.full(rows, config.block_size, dtype=np.int64)
        trace = replace(trace, columns={"prefix_hashes": contents, "block_tokens": sizes})
    engine = served(config, trace, texts)
    seen: list[Any] = []

    def watch(clock: Any, stage: Any) -> None:
        clock.replicas[0].watch = lambda output: seen.append(decision(output))

    play(trace, Twin(config, RecordedSteps(engine.seconds)), script=watch)
    assert seen == engine.decisions
    assert any(preempted for _, preempted in seen) == ("preemption" in name)


def test_more_steps_than_were_recorded_are_told() -> None:
    with pytest.raises(ModelError, match="more steps than the 1 that were recorded"):
        play(from_lengths([0.0], [10], [5]), Twin(ROOMY, RecordedSteps([0.001])))
