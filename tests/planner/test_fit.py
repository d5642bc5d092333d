from pathlib import Path

import numpy as np
import pytest

from planner.errors import ModelError
from planner.result import Observation
from planner.steps.fit import fit, step_gap_s
from planner.steps.latency import Hinge, HingeModel, LinearModel, StepModel, read_model, scheduler_limits
from probe_engine.sched import StepStats

PLANTED = LinearModel(4e-3, 2e-5, 3e-9, 1e-4, 2e-8)
FIELDS = ("wall_s", "prefill_tokens", "prefill_attention", "decode_seqs", "decode_kv_tokens")


def observed(count: int, model: LinearModel | HingeModel, noise: float = 0.0, seed: int = 0) -> list[Observation]:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        prefill = int(draw.choice([0, 0, draw.integers(1, 2048)]))
        seqs = int(draw.integers(1, 128))
        stats = StepStats(prefill, prefill * (prefill + 1) // 2, seqs, seqs * int(draw.integers(50, 2000)))
        wall_s = model.step_seconds(stats) * float(draw.lognormal(-(noise**2) / 2, noise))
        found.append(
            Observation(
                wall_s=wall_s,
                prefill_tokens=stats.prefill_tokens,
                prefill_attention=stats.prefill_attention,
                decode_seqs=stats.decode_seqs,
                decode_kv_tokens=stats.decode_kv_tokens,
            )
        )
    return found


def summed(steps: list[Observation], size: int) -> list[Observation]:
    groups = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [Observation(steps=len(g), **{name: sum(getattr(o, name) for o in g) for name in FIELDS}) for g in groups]


def assert_planted(model: StepModel, rel: float) -> None:
    wanted = {
        "steps": PLANTED.step_s,
        "prefill_tokens": PLANTED.prefill_token_s,
        "prefill_attention": PLANTED.prefill_attention_s,
        "decode_seqs": PLANTED.decode_seq_s,
        "decode_kv_tokens": PLANTED.decode_kv_token_s,
    }
    assert model.costs_s == pytest.approx(wanted, rel=rel)


def test_planted_costs_come_back_from_single_steps() -> None:
    assert_planted(fit(observed(300, PLANTED), source="t", form="linear"), rel=1e-6)


def test_planted_costs_come_back_from_sums_over_intervals() -> None:
    steps = observed(2000, PLANTED)
    uneven = summed(steps[:1200], 7) + summed(steps[1200:], 20)
    model = fit(uneven, source="t")
    assert (model.form, model.basis) == ("linear", "interval")
    assert_planted(model, rel=1e-6)


def test_noise_does_not_bias_the_total_time() -> None:
    model = fit(observed(3000, PLANTED, noise=0.3), source="t", form="linear")
    assert model.fit.bias == pytest.approx(0, abs=1e-9)
    assert model.held_out is not None
    assert abs(model.held_out.bias) < 0.03
    truth = StepStats(0, 0, 32, 32 * 500)
    assert model.latency_model().step_seconds(truth) == pytest.approx(PLANTED.step_seconds(truth), rel=0.04)


def test_costs_are_never_negative() -> None:
    model = fit(observed(60, LinearModel(1e-3, 0, 0, 0, 0), noise=0.5), source="t")
    assert min(model.costs_s.values()) >= 0


def test_the_hinge_form_is_chosen_where_cost_saturates_and_holds_at_higher_load() -> None:
    saturating = HingeModel(LinearModel(1e-3, 1e-6, 0, 1e-6, 1e-9), (("tokens", 64.0, 5e-4),))
    model = fit(observed(800, saturating), source="t")
    assert model.form == "hinge"
    assert model.forward["hinge"] < model.forward["linear"]
    beyond = StepStats(0, 0, 400, 400 * 500)
    assert model.latency_model().step_seconds(beyond) == pytest.approx(saturating.step_seconds(beyond), rel=0.05)


def test_steps_of_stalls_are_kept_in_the_mean_and_out_of_the_typical_step() -> None:
    steps = observed(2000, PLANTED)
    stalled = [o.model_copy(update={"wall_s": o.wall_s * 20}) if i % 100 == 0 else o for i, o in enumerate(steps)]
    model = fit(stalled, source="t", form="linear")
    assert model.fit.bias == pytest.approx(0, abs=1e-9)
    noise = model.noise()
    assert np.mean(noise) == pytest.approx(1)
    assert max(noise) > 10
    assert np.median(noise) == pytest.approx(1 / 1.19, rel=0.03)


def test_too_few_observations_say_how_many_are_needed() -> None:
    with pytest.raises(ModelError, match="3 usable observations; at least 8 are needed"):
        fit(observed(3, PLANTED), source="t")


def test_observations_without_time_or_steps_are_left_out_and_told() -> None:
    useless = Observation(wall_s=0, prefill_tokens=0, prefill_attention=0, decode_seqs=0, decode_kv_tokens=0)
    model = fit([*observed(50, PLANTED), useless, useless], source="t")
    assert model.notes[0].startswith("2 of 52 observations left out")


def test_hinges_need_single_steps() -> None:
    with pytest.raises(ModelError, match="needs single steps"):
        fit(summed(observed(400, PLANTED), 10), source="t", form="hinge")


def test_the_gap_between_steps_is_measured_on_a_busy_engine() -> None:
    steps, now = [], 0.0
    for one in observed(40, PLANTED):
        steps.append(one.model_copy(update={"start_s": now, "end_s": now + one.wall_s}))
        now += one.wall_s + 2e-4
    assert step_gap_s(steps) == pytest.approx(2e-4)
    assert step_gap_s(observed(40, PLANTED)) == 0.0


def test_a_model_file_reads_back_the_same(tmp_path: Path) -> None:
    model = fit(observed(200, PLANTED), source="t", scheduler={"num_blocks": 100}, engine={"model": "tiny"})
    model.write(tmp_path / "model.json")
    assert read_model(tmp_path / "model.json") == model


def test_a_model_file_with_a_negative_cost_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    fit(observed(200, PLANTED), source="t").write(path)
    path.write_text(path.read_text().replace('"step_gap_s": 0.0', '"step_gap_s": -1.0'))
    with pytest.raises(ModelError, match=r"model\.json: is not a step-time model: step_gap_s"):
        read_model(path)


def test_a_model_without_a_scheduler_asks_for_the_number_of_blocks() -> None:
    with pytest.raises(ModelError, match="--num-blocks"):
        fit(observed(200, PLANTED), source="t").scheduler_config()


def test_given_limits_replace_those_of_the_file() -> None:
    model = fit(observed(200, PLANTED), source="t", scheduler={"num_blocks": 100, "max_num_seqs": 8})
    config = model.scheduler_config(max_num_seqs=4, block_size=None)
    assert (config.num_blocks, config.max_num_seqs, config.block_size) == (100, 4, 16)


def test_limits_are_read_from_texts_and_numbers() -> None:
    found = scheduler_limits({"num_blocks": "100", "max_num_seqs": 8, "prefix_cache": "false", "dtype": "float32"})
    assert found == {"num_blocks": 100, "max_num_seqs": 8, "prefix_cache": False}


def test_a_hinge_costs_nothing_beyond_its_knot() -> None:
    model = HingeModel(LinearModel(0, 0, 0, 0, 0), (("decode_seqs", 8.0, 1.0),))
    assert [model.step_seconds(StepStats(0, 0, n, 0)) for n in (4, 8, 99)] == [4.0, 8.0, 8.0]
    with pytest.raises(ValueError, match="greater than 0"):
        Hinge(variable="tokens", knot=0, seconds=1)
