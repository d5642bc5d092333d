"""``loadline plan drift`` from files: what it says, what it writes, how it exits."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from planner.answers.drift import drift_series
from planner.cli import app
from planner.result import Observation
from planner.steps.drift import watch
from planner.steps.fit import fit
from planner.steps.latency import LinearModel, read_model
from probe_engine.sched import StepStats

TRUTH = LinearModel(4e-3, 2e-5, 2e-10, 3e-5, 1.5e-8)


def document(seed: int, slower: float, count: int = 1500) -> dict[str, object]:
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        prefill, seqs = int(draw.choice([0, 0, 0, 300])), int(draw.integers(1, 64))
        stats = StepStats(prefill, prefill * prefill // 2, seqs, seqs * 200)
        entry = {name: getattr(stats, name) for name in StepStats._fields}
        found.append({**entry, "wall_s": TRUTH.step_seconds(stats) * slower * float(draw.lognormal(0, 0.05))})
    return {"steps": found, "scheduler": {"num_blocks": 1000}}


def plan(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("drift")
    for name, seed, slower in (("learnt", 1, 1.0), ("same", 2, 1.0), ("slower", 3, 1.25)):
        (made / f"{name}.json").write_text(json.dumps(document(seed, slower)))
    assert plan("calibrate", made / "learnt.json", "-o", made / "model.json").exit_code == 0
    return made


def test_an_engine_that_does_what_it_did_has_not_drifted(folder: Path) -> None:
    done = plan("drift", folder / "same.json", "--model", folder / "model.json", "--json")
    assert done.exit_code == 0
    report = json.loads(done.stdout)
    assert report["kind"] == "drift"
    assert report["result"]["drifting"] is False
    assert abs(report["result"]["error_ratio"]) < 0.02


def test_a_slower_engine_is_told_with_exit_code_1_and_a_new_model_is_written(folder: Path) -> None:
    model, again = folder / "model.json", folder / "again.json"
    done = plan("drift", folder / "slower.json", "--model", model, "--recalibrate", again, "--json")
    assert done.exit_code == 1
    report = json.loads(done.stdout)
    assert report["findings"][0].startswith("drift: steps are slower than the model")
    assert report["result"]["recent_error_ratio"] == pytest.approx(1 / 1.25 - 1, abs=0.02)
    assert plan("drift", folder / "slower.json", "--model", again).exit_code == 0


def test_nothing_to_hold_the_model_against_is_one_line(folder: Path) -> None:
    done = plan("drift", "--model", folder / "model.json")
    assert done.exit_code == 2
    assert done.stderr == "nothing to hold the model against: give a run, a saved /steps answer or --steps\n"


def test_error_and_state_become_series_of_their_pool(folder: Path) -> None:
    steps = [Observation.model_validate(one) for one in json.loads((folder / "slower.json").read_text())["steps"]]
    found = watch(read_model(folder / "model.json"), steps)
    state, error = drift_series(found, {}, "tiny", time_s=100.0)
    assert error.labels == (("__name__", "loadline_twin_error_ratio"), ("pool", "tiny"))
    assert error.values.tolist() == pytest.approx([-0.2], abs=0.02)
    assert state.labels == (("__name__", "loadline_twin_drift"), ("pool", "tiny"))
    assert (state.timestamps_ms.tolist(), state.values.tolist()) == ([100_000], [1.0])


def test_after_recalibration_the_error_before_and_after_become_series(folder: Path) -> None:
    steps = [Observation.model_validate(one) for one in json.loads((folder / "slower.json").read_text())["steps"]]
    found = watch(read_model(folder / "model.json"), steps)
    again = fit(found.recent(steps), source="since the alarm")
    _, before, after = drift_series(found, {}, "tiny", time_s=100.0, again=again)
    assert after.labels == (("__name__", "loadline_twin_recalibrated_error_ratio"), ("pool", "tiny"))
    assert before.values[0] == pytest.approx(-0.2, abs=0.02)
    assert after.values[0] == pytest.approx(0.0, abs=0.02)
