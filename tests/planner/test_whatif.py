"""A change to a pool: what it does to the mix of lengths, and what is no change."""

import numpy as np
import pytest
from pydantic import ValidationError

from planner.room.mix import LengthHistogram, Mix
from planner.room.whatif import Change, changed_mix
from probe_engine.sched import SchedulerConfig

MIX = Mix(
    LengthHistogram.from_cumulative([64, 256, 1024, float("inf")], [10, 60, 95, 100], 300.0),
    LengthHistogram.from_cumulative([16, 64, 256], [20, 70, 100], 80.0),
    0.25,
)
CONFIG = SchedulerConfig(num_blocks=100_000, max_model_len=100_000)


def test_longer_prompts_and_outputs_are_longer_by_their_factor():
    before = MIX.trace(2000, 5.0, CONFIG, seed=0)
    after = changed_mix(MIX, Change(prompt_factor=2.0, output_factor=0.5)).trace(2000, 5.0, CONFIG, seed=0)
    assert after.input_tokens.mean() == pytest.approx(2 * before.input_tokens.mean(), rel=0.01)
    assert after.output_tokens.mean() == pytest.approx(0.5 * before.output_tokens.mean(), rel=0.02)
    assert np.array_equal(after.arrival_ns, before.arrival_ns)


def test_without_a_change_the_mix_is_as_it_was():
    same = changed_mix(MIX, Change())
    assert np.array_equal(same.prompts.bounds, MIX.prompts.bounds)
    assert (same.prompts.mean, same.outputs.mean, same.cached_ratio) == (300.0, 80.0, 0.25)


def test_another_share_of_cached_tokens_takes_the_place_of_the_one_that_was_seen():
    assert changed_mix(MIX, Change(cached_ratio=0.0)).cached_ratio == 0.0
    assert changed_mix(MIX, Change(cached_ratio=0.9)).cached_ratio == 0.9


@pytest.mark.parametrize(
    "fields",
    [{"load_factor": 0}, {"load_factor": float("nan")}, {"replicas": 0}, {"cached_ratio": 1.0}, {"num_blocks": 1},
     {"output_factor": -1}, {"colour": 1}],
)  # fmt: skip
def test_what_is_no_change_is_refused(fields):
    with pytest.raises(ValidationError):
        Change.model_validate(fields)
