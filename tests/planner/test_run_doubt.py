"""A run that says of itself that it is not valid is told so wherever it is learnt from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.calibrate_cli import run_doubt
from planner.cli import app
from planner.latency import ConstantModel, read_model
from planner.result import Observation, Run
from planner.sim import Twin, simulate
from planner.trace import from_lengths
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


@pytest.mark.parametrize("details", [{}, {"valid": True}])
def test_a_run_that_says_nothing_against_itself_is_trusted(
    run: Run, tmp_path: Path, details: dict[str, object]
) -> None:
    assert run_doubt(told(run, tmp_path / "run.json", **details)) is None


def test_a_profile_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"observations": []}')
    assert run_doubt(tmp_path / "p.json") is None
