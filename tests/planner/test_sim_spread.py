"""Intervals of what one real run would show."""

from dataclasses import replace

import numpy as np
import pytest

from planner.sim import Twin, play
from planner.sim.spread import LEVEL, doubted, end_to_end, intervals, steady, ttft
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace, from_lengths
from probe_engine.sched import SchedulerConfig

CONFIG = SchedulerConfig(num_blocks=4096, max_num_batched_tokens=512, max_num_seqs=64)
NOISE = tuple(np.random.default_rng(2).lognormal(-0.02, 0.2, 640).tolist())


def load(rows: int) -> Trace:
    draw = np.random.default_rng(1)
    return from_lengths(
        np.cumsum(draw.exponential(0.05, rows)), draw.integers(1, 300, rows), draw.integers(1, 40, rows)
    )


def twin(noise: tuple[float, ...] = NOISE, stretch: int = 64) -> Twin:
    return Twin(CONFIG, LinearModel(4e-3, 2e-5, 1e-9, 1e-4, 1e-7), noise=noise, noise_stretch=stretch)


def test_an_interval_of_19_plays_is_one_of_90_percent() -> None:
    assert pytest.approx(0.9) == LEVEL


def test_without_noise_an_interval_is_a_point() -> None:
    (found,) = intervals(load(40), twin(noise=()), [ttft(0.95)])
    assert found.low == found.middle == found.high


def test_an_interval_holds_its_middle_and_the_same_seed_gives_the_same() -> None:
    first, second = (intervals(load(60), twin(), [ttft(0.5), end_to_end(0.5)], seed=4) for _ in range(2))
    assert first == second
    assert all(one.low < one.middle < one.high for one in first)


def test_costs_that_might_have_been_fitted_widen_the_interval() -> None:
    slower = tuple(LinearModel(cost * 1e-3, 2e-5, 1e-9, 1e-4, 1e-7) for cost in range(2, 7))
    (certain,) = intervals(load(60), twin(), [end_to_end(0.5)])
    (doubtful,) = intervals(load(60), replace(twin(), drawn=slower), [end_to_end(0.5)])
    assert doubtful.high - doubtful.low > 2 * (certain.high - certain.low)


def test_noise_of_other_evidence_has_mean_1_and_spells_that_come_more_or_less_often() -> None:
    spells = (0.8,) * 320 + (1.6,) * 320
    drawn = [doubted(twin(spells), number) for number in range(8)]
    assert all(np.mean(one.noise) == pytest.approx(1.0) for one in drawn)
    assert len({max(one.noise) for one in drawn}) > 2
    assert doubted(twin(spells, stretch=1), 0) == twin(spells, stretch=1)


def test_a_steady_machine_has_the_noise_of_its_steps_and_no_slow_spells() -> None:
    spells = ((0.8, 1.0) * 32 + (1.2, 1.5) * 32) * 5
    found = np.array(steady(twin(spells)).noise).reshape(-1, 64)
    assert found.mean(axis=1) == pytest.approx(np.ones(10))
    assert found[0, 1] / found[0, 0] == pytest.approx(1.25)
    assert steady(twin(spells, stretch=1)) == twin(spells, stretch=1)


def test_a_play_of_the_twin_itself_lies_within_in_nine_of_ten_cases() -> None:
    trace = load(15)
    held = []
    for seed in range(25):
        (found,) = intervals(trace, twin(), [end_to_end(0.5)], seed=1000 * seed)
        truth = end_to_end(0.5)(play(trace, twin(), seed=1000 * seed + 999))
        held.append(found.low <= truth <= found.high)
    assert 0.8 <= np.mean(held) <= 1.0
