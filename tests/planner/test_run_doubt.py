"""A run that says of itself that it is not valid is told so wherever it is learnt from."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.cli import app
from planner.commands.calibrate import run_doubt
from planner.result import Observation, Run
from planner.sim import Twin, simulate
from planner.steps.latency import ConstantModel, read_model
from planner.traces.trace import from_lengths
from probe_engine.sched import SchedulerConfig


@pytest.fixture
def run() -> Run:
    """A run with observations of equal steps."""
    trace = from_lengths(np.arange(20.0), np.full(20, 30), np.full(20, 5))
    played = simulate(trace, Twin(SchedulerConfig(num_blocks=1000), ConstantModel(0.01)))
    steps = tuple(
        Observation(steps=1, wall_s=0.01, prefill_tokens=0, prefill_attention=0, decode_seqs=at % 7 + 1,
                    decode_kv_tokens=100) for at in range(40)
    )  # fmt: skip
    return replace(played, observations=steps)


def told(run: Run, path: Path, **details: object) -> Path:
    header = run.header.model_copy(update={"details": {**run.header.details, **details}})
    replace(run, header=header).write(path)
    return path


def test_an_invalid_run_is_told_with_its_reasons(run: Run, tmp_path: Path) -> None:
    path = told(run, tmp_path / "run.json", valid=False, reasons=["sent 0.4 s late"])
    assert run_doubt(path) == (
        "run.json is not a valid run (sent 0.4 s late): what was measured is not what was asked for"
    )
    done = CliRunner().invoke(app, ["calibrate", str(path), "-o", str(tmp_path / "model.json")])
    assert done.exit_code == 0, done.output
    assert "warning: run.json is not a valid run" in done.stderr
    assert "run.json is not a valid run" in read_model(tmp_path / "model.json").notes[-1]


@pytest.mark.parametrize("command", ["simulate", "validate", "drift"])
def test_what_is_held_against_an_invalid_run_says_so(run: Run, tmp_path: Path, command: str) -> None:
    path, model, trace = told(run, tmp_path / "run.json", valid=False), tmp_path / "model.json", tmp_path / "t.csv"
    steps = [one.model_dump() for one in run.observations] * 10
    (tmp_path / "p.json").write_text(json.dumps({"observations": steps, "scheduler": {"num_blocks": 1000}}))
    assert CliRunner().invoke(app, ["calibrate", str(tmp_path / "p.json"), "-o", str(model)]).exit_code == 0
    rows = "".join(f"2023-11-16 18:00:{at:02d}.0000000,30,5\n" for at in range(20))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    arguments = [command, *([str(trace), "--compare"] if command == "simulate" else []), str(path)]
    done = CliRunner().invoke(app, [*arguments, "--model", str(model), "--json"])
    assert done.exit_code == 0, done.output
    doubt = "is not a valid run (no reason is given)"
    assert f"warning: run.json {doubt}" in done.stderr
    assert any(doubt in note for note in json.loads(done.stdout)["notes"])


@pytest.mark.parametrize("details", [{}, {"valid": True}])
def test_a_run_that_says_nothing_against_itself_is_trusted(
    run: Run, tmp_path: Path, details: dict[str, object]
) -> None:
    assert run_doubt(told(run, tmp_path / "run.json", **details)) is None


def test_a_profile_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"observations": []}')
    assert run_doubt(tmp_path / "p.json") is None
