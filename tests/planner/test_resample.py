"""Refits on resampled stretches: as wide as the evidence is thin, and never a cost below nothing."""

import numpy as np
import pytest

from planner.result import Observation
from planner.steps.fit import fit
from planner.steps.latency import COSTS, LinearModel, StepModel
from planner.steps.resample import DRAWS, refits, widening
from probe_engine.sched import StepStats

ENGINE = LinearModel(4e-3, 2e-5, 3e-9, 1e-4, 2e-8)


def seen(seed: int, count: int, memory: float) -> list[Observation]:
    """Steps whose noise, 20% in all, resembles that of the step before by ``memory``."""
    draw = np.random.default_rng(seed)
    found, last = [], 0.0
    for _ in range(count):
        last = memory * last + float(draw.normal(0, 0.2 * np.sqrt(1 - memory**2)))
        seqs, prompts = int(draw.integers(1, 64)), int(draw.choice([0, 0, 0, 200]))
        stats = StepStats(prompts, prompts * 100, seqs, seqs * 300)
        found.append(Observation(wall_s=ENGINE.step_seconds(stats) * float(np.exp(last)), **stats._asdict()))
    return found


def spread(model: StepModel) -> float:
    """Relative standard deviation of a usual step over the draws."""
    usual = StepStats(0, 0, 32, 9600)
    return float(np.std([one.step_seconds(usual) for one in model.drawn_models()]) / ENGINE.step_seconds(usual))


def test_more_evidence_leaves_less_doubt_and_noise_that_lasts_leaves_more() -> None:
    little, much = (spread(fit(seen(1, count, 0.5), source="made", form="linear")) for count in (512, 8192))
    lasting = spread(fit(seen(1, 8192, 0.98), source="made", form="linear"))
    assert much < little / 2
    assert lasting > 2 * much


def test_draws_go_round_the_fit_and_none_is_below_nothing() -> None:
    model = fit(seen(2, 3000, 0.8), source="made")
    drawn = np.array(model.costs_drawn)
    assert drawn.shape == (DRAWS, len(COSTS) + len(model.hinges))
    assert (drawn >= 0).all()
    total = [one.step_seconds(StepStats(0, 0, 32, 9600)) for one in (model.latency_model(), *model.drawn_models())]
    assert min(total[1:]) < total[0] < max(total[1:])


def test_a_fit_on_less_than_two_stretches_has_no_draws() -> None:
    assert refits(np.ones(3), 1, lambda stretches: np.ones(3)).shape == (0, 3)


def test_few_stretches_are_widened_as_students_t_is() -> None:
    assert widening(2, 5) == pytest.approx(np.sqrt(2) * 6.3138 / 1.6449, rel=1e-3)
    assert widening(14, 5) == pytest.approx(np.sqrt(14 / 9) * 1.8331 / 1.6449, rel=1e-3)
    assert widening(5000, 5) == pytest.approx(1.0, abs=0.002)
