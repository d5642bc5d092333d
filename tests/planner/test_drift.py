"""Drift is seen soon where it is and hardly ever where it is not, over many seeds."""

import numpy as np
import pytest

from planner.errors import ModelError
from planner.result import Observation
from planner.steps.drift import BATCH, Monitor, band_of, limit_for, watch
from planner.steps.fit import fit
from planner.steps.latency import LinearModel, StepModel
from probe_engine.sched import StepStats

ENGINE = LinearModel(4e-3, 2e-5, 3e-9, 1e-4, 2e-8)


def correlated(draw: np.random.Generator, count: int, spread: float = 0.05, memory: float = 0.8) -> np.ndarray:
    """Logarithms of step noise of which each resembles the one before, with a stall now and then."""
    fresh = draw.normal(0, spread * np.sqrt(1 - memory**2), count)
    out = np.empty(count)
    last = 0.0
    for at, one in enumerate(fresh.tolist()):
        last = memory * last + one
        out[at] = last
    return out + np.where(draw.random(count) < 0.005, 1.5, 0.0)


def steps(seed: int, count: int, slower: float = 1.0, since: int = 0) -> list[Observation]:
    draw = np.random.default_rng(seed)
    noise = np.exp(correlated(draw, count))
    noise[since:] *= slower
    found = []
    for factor in noise.tolist():
        seqs, prefill = int(draw.integers(1, 64)), int(draw.choice([0, 0, 0, 200]))
        stats = StepStats(prefill, prefill * 100, seqs, seqs * 300)
        found.append(
            Observation(
                wall_s=ENGINE.step_seconds(stats) * factor,
                prefill_tokens=stats.prefill_tokens,
                prefill_attention=stats.prefill_attention,
                decode_seqs=stats.decode_seqs,
                decode_kv_tokens=stats.decode_kv_tokens,
            )
        )
    return found


@pytest.fixture(scope="module")
def model() -> StepModel:
    return fit(steps(1, 2500), source="calibration")


def test_a_slowdown_of_a_tenth_is_seen_within_500_steps_on_nearly_every_seed(model: StepModel) -> None:
    delays = []
    for seed in range(100, 120):
        found = watch(model, steps(seed, 1100, slower=1.1, since=600))
        assert all(alarm.at > 600 for alarm in found.alarms), "an alarm before there was a reason"
        delays.append(found.alarms[0].at - 600 if found.alarms else np.inf)
        assert found.alarms[0].side == "slower"
    assert np.mean([delay <= 500 for delay in delays]) >= 0.95


def test_an_engine_that_got_faster_is_told_apart_from_a_slower_one(model: StepModel) -> None:
    (alarm, *_) = watch(model, steps(7, 1500, slower=0.8)).alarms
    assert alarm.side == "faster"


def test_false_alarms_are_as_rare_as_was_asked_for(model: StepModel) -> None:
    # One in a hundred days cannot be counted in a test; one in five stretches of 4,000 batches can.
    band = band_of(model, step_s=0.01)
    limit = limit_for(band.slack, batches=4000, false_alarms=0.2)
    assert limit < band.limit
    scores = np.random.default_rng(3).normal(0, 1, (4000, 600))
    over, under, alarmed = np.zeros(600), np.zeros(600), np.zeros(600, dtype=bool)
    for row in scores:
        over, under = np.maximum(over + row - band.slack, 0), np.maximum(under - row - band.slack, 0)
        alarmed |= (over > limit) | (under > limit)
    assert 0.02 < alarmed.mean() < 0.2


def test_ten_minutes_of_correlated_noise_and_stalls_raises_no_alarm(model: StepModel) -> None:
    band = band_of(model, step_s=0.01)
    draw = np.random.default_rng(11)
    monitor = Monitor(band)
    noise = np.exp(correlated(draw, 60_000) + band.center)
    assert [alarm for factor in noise.tolist() if (alarm := monitor.push(factor, 1.0))] == []
    assert monitor.steps == 60_000


def test_a_band_says_how_soon_it_would_see_a_tenth(model: StepModel) -> None:
    assert BATCH < band_of(model, step_s=0.01).delay_steps < 500


def test_a_model_of_intervals_has_no_band(model: StepModel) -> None:
    with pytest.raises(ModelError, match="enough single steps"):
        band_of(model.model_copy(update={"basis": "interval"}), step_s=0.01)


def test_after_recalibration_on_what_came_since_the_error_is_gone(model: StepModel) -> None:
    seen = steps(21, 1800, slower=1.3, since=600)
    found = watch(model, seen)
    assert found.recent_error_ratio == pytest.approx(1 / 1.3 - 1, abs=0.05)
    again = fit(seen[found.alarms[0].since :], source="since the alarm")
    assert abs(watch(again, steps(22, 1000, slower=1.3)).error_ratio) < 0.03
