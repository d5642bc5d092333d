"""Fitted at no more than 60% of the load that an engine takes and tested at 100% to 150% of it, against two oracles."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from planner.result import Observation
from planner.sim import Twin, play
from planner.steps.fit import fit
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig, StepStats

CONFIG = SchedulerConfig(num_blocks=40_000, max_num_batched_tokens=2048, max_num_seqs=256, max_model_len=8192)
SATURATED_PER_S = {"dense": 17.0, "moe": 24.0}


def dense(stats: StepStats) -> float:
    """An 8B model on a GPU: reading weights or computing, whichever is longer; keys are read beside; a fixed part."""
    tokens = stats.prefill_tokens + stats.decode_seqs
    compute_s = tokens * 2.9e-5 + stats.prefill_attention * 1.2e-10
    memory_s = 3.6e-3
    softer = 4.0  # the two overlap where they are about as long
    body_s = (compute_s**softer + memory_s**softer) ** (1 / softer)
    return 1.1e-3 + body_s + stats.decode_kv_tokens * 3.4e-8 + stats.decode_seqs * 6e-6


def moe(stats: StepStats) -> float:
    """128 experts of which each token takes 8: more are read with more tokens, until all are."""
    tokens = stats.prefill_tokens + stats.decode_seqs
    touched = 1 - (1 - 8 / 128) ** tokens
    return 1.6e-3 + 9e-3 * touched + tokens * 6e-6 + stats.prefill_attention * 1e-10 + stats.decode_kv_tokens * 2e-8


ORACLES: dict[str, Callable[[StepStats], float]] = {"dense": dense, "moe": moe}


@dataclass
class Recorder:
    """An oracle that keeps what it was asked, each time with 3% of noise."""

    oracle: Callable[[StepStats], float]
    draw: np.random.Generator
    seen: list[Observation] = field(default_factory=list)

    def step_seconds(self, stats: StepStats) -> float:
        seconds = self.oracle(stats) * float(self.draw.lognormal(0, 0.03))
        self.seen.append(
            Observation(
                wall_s=seconds,
                prefill_tokens=stats.prefill_tokens,
                prefill_attention=stats.prefill_attention,
                decode_seqs=stats.decode_seqs,
                decode_kv_tokens=stats.decode_kv_tokens,
            )
        )
        return seconds


def load(per_s: float, rows: int, seed: int) -> Trace:
    draw = np.random.default_rng(seed)
    prompts = np.clip(draw.lognormal(6.2, 0.9, rows), 8, 4000).astype(int)
    outputs = np.clip(draw.lognormal(5.0, 0.7, rows), 4, 1000).astype(int)
    return from_lengths(np.cumsum(draw.exponential(1 / per_s, rows)), prompts, outputs)


def recorded(name: str, share: float, rows: int, seed: int) -> list[Observation]:
    recorder = Recorder(ORACLES[name], np.random.default_rng(seed))
    play(load(SATURATED_PER_S[name] * share, rows, seed), Twin(CONFIG, recorder))
    return recorder.seen


@pytest.mark.parametrize(("name", "most"), [("dense", 0.03), ("moe", 0.05)])
def test_a_model_of_60_percent_load_is_right_at_100_to_150_percent(name: str, most: float) -> None:
    learnt = recorded(name, 0.3, 150, 1) + recorded(name, 0.6, 250, 2)
    model = fit(learnt, source=name)
    latency = model.latency_model()
    tested = recorded(name, 1.0, 300, 3) + recorded(name, 1.5, 300, 4)
    largest = max(one.decode_seqs for one in learnt), max(one.decode_seqs for one in tested)
    assert largest[1] > 1.5 * largest[0], "the test does not go beyond what was learnt"
    errors, outside = [], 0
    for one in tested:
        stats = StepStats(
            int(one.prefill_tokens), int(one.prefill_attention), int(one.decode_seqs), int(one.decode_kv_tokens)
        )
        errors.append(abs(latency.step_seconds(stats) / ORACLES[name](stats) - 1))
        outside += any(getattr(stats, key) > bound for key, bound in model.hull.items())
    assert np.mean(errors) <= most, (model.form, model.forward)
    assert 0 < outside < len(tested), "some steps lie beyond the hull, and the model knows which"


def test_a_linear_form_alone_is_far_off_where_cost_saturates() -> None:
    learnt = recorded("moe", 0.3, 100, 1) + recorded("moe", 0.6, 150, 2)
    assert fit(learnt, source="moe").form != "linear"
