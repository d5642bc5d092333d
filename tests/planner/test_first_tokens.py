"""Waits for first tokens that leave the twin's band are told; those that do not are not."""

from dataclasses import replace

import numpy as np
import pytest

from planner.errors import RunError
from planner.result import Run
from planner.sim import Twin, simulate
from planner.steps.first_tokens import slowed, watch_first_tokens
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=64)
NOISE = tuple(np.random.default_rng(9).lognormal(0, 0.1, 1024).tolist())
TWIN = Twin(CONFIG, LinearModel(4e-3, 2e-5, 2e-9, 1.5e-4, 1e-7), noise=NOISE, noise_stretch=128)


def load(seed: int, rows: int = 800) -> Trace:
    draw = np.random.default_rng(seed)
    at_s = np.cumsum(draw.exponential(0.05, rows))
    return from_lengths(at_s, draw.integers(20, 300, rows), draw.integers(1, 60, rows))


def seen(seed: int, engine: Twin = TWIN) -> Run:
    """A run of an engine like ``engine``, with noise that the watching twin does not draw."""
    return simulate(load(seed), engine, seed=seed + 1000)


@pytest.mark.parametrize("seed", range(8))
def test_an_engine_that_is_as_its_twin_says_raises_no_alarm(seed: int) -> None:
    found = watch_first_tokens(seen(seed), TWIN, "run")
    assert (found.requests, found.drifting) == (800, False)
    assert abs(found.error_ratio) < 0.05


@pytest.mark.parametrize(("ratio", "side"), [(0.1, "slower"), (-0.1, "faster")])
def test_a_tenth_of_step_time_shows_in_the_waits_of_some_hundred_requests(ratio: float, side: str) -> None:
    found = watch_first_tokens(seen(3, slowed(TWIN, ratio)), TWIN, "run")
    assert found.alarms[0].side == side
    assert found.alarms[0].at <= 600
    assert np.sign(found.recent_error_ratio) == -np.sign(ratio)


def test_waits_that_grow_outside_the_steps_are_seen_and_dated() -> None:
    run = seen(5)
    late = np.where(np.arange(800) >= 400, 0.02, 0.0)
    held = replace(run, requests=replace(run.requests, first_token_s=run.requests.first_token_s + late))
    first = watch_first_tokens(held, TWIN, "run").alarms[0]
    assert first.side == "slower"
    assert 375 <= first.since < first.at <= 600


def test_too_few_requests_and_a_twin_that_cannot_serve_them_are_named() -> None:
    with pytest.raises(RunError, match="30 requests ended well; to judge their waits takes 50"):
        watch_first_tokens(simulate(load(1, rows=30), TWIN), TWIN, "run")
    small = replace(TWIN, scheduler=SchedulerConfig(num_blocks=12, max_num_batched_tokens=512, max_num_seqs=64))
    with pytest.raises(RunError, match="the twin cannot serve every request"):
        watch_first_tokens(seen(1), small, "run")
