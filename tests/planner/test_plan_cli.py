import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from planner.cli import app
from planner.report import Report
from planner.result import read_run
from planner.steps.latency import LinearModel
from probe_engine.sched import StepStats

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "traces" / "azure_conv_10min.csv"
CLAIMS = ROOT / "samples" / "cost" / "claims.toml"
TRUTH = LinearModel(4e-3, 2e-5, 2e-10, 3e-5, 1.5e-8)
SMALL = ["--max-requests", "200", "--token-scale", "0.2"]


def plan(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model calibrated on a made profile of a known truth."""
    folder = tmp_path_factory.mktemp("model")
    draw = np.random.default_rng(0)
    observations = []
    for _ in range(400):
        prefill, seqs = int(draw.choice([0, draw.integers(1, 2048)])), int(draw.integers(1, 200))
        stats = StepStats(prefill, prefill * prefill // 2, seqs, seqs * int(draw.integers(50, 2000)))
        entry = {name: getattr(stats, name) for name in StepStats._fields}
        observations.append({**entry, "wall_s": TRUTH.step_seconds(stats) * float(draw.lognormal(0, 0.05))})
    scheduler = {"num_blocks": 8000, "max_num_seqs": 128, "max_model_len": 16384}
    document = {"observations": observations, "model": "made", "scheduler": scheduler}
    (folder / "profile.json").write_text(json.dumps(document))
    done = plan("calibrate", folder / "profile.json", "-o", folder / "model.json")
    assert done.exit_code == 0, done.output
    return folder / "model.json"


def report_of(done: Result) -> Report:
    assert done.exit_code in (0, 1), done.output
    return Report.model_validate_json(done.stdout)


def test_calibrate_tells_the_error_on_held_out_observations(model: Path) -> None:
    done = plan("calibrate", model.parent / "profile.json", "-o", model.parent / "again.json", "--json")
    found = report_of(done)
    assert found.model_error is not None
    assert found.model_error.held_out
    assert found.model_error.mean < 0.06


def test_simulate_prints_latencies_and_writes_a_run_and_a_page(model: Path, tmp_path: Path) -> None:
    files = ["-o", tmp_path / "run.json", "--html", tmp_path / "page.html"]
    done = plan("simulate", SAMPLE, "--model", model, *SMALL, *files)
    assert done.exit_code == 0, done.output
    assert "TTFT from due" in done.stdout
    run = read_run(tmp_path / "run.json")
    assert run.header.kind == "twin"
    assert len(run.requests) == 200
    assert "<html" in (tmp_path / "page.html").read_text()


def test_simulate_tells_within_what_one_run_of_the_real_engine_would_lie(model: Path) -> None:
    told = report_of(plan("simulate", SAMPLE, "--model", model, *SMALL, "--json"))
    ranges = told.result["ranges"]
    assert ranges["TTFT p95"]["low"] < ranges["TTFT p95"]["high"]
    assert any("90% interval" in finding for finding in told.findings)
    without = report_of(plan("simulate", SAMPLE, "--model", model, *SMALL, "--json", "--no-ranges"))
    assert "ranges" not in without.result


def test_simulate_plays_the_gateway_before_the_replicas(model: Path, tmp_path: Path) -> None:
    settings = tmp_path / "gateway.toml"
    settings.write_text('upstream = ["http://a.example,weight=2", "http://b.example"]\nmax_in_flight = 1\n')
    arguments = ("simulate", SAMPLE, "--model", model, *SMALL, "--no-ranges", "--gateway", settings)
    told = report_of(plan(*arguments, "--json"))
    assert told.inputs["replicas"] == 2
    assert told.result["twin"]["gateway"]["refused"] > 0
    assert any("turned" in finding for finding in told.findings)
    assert plan(*arguments, "--replicas", 3).exit_code == 2


def test_the_same_seed_prints_the_same_bytes(model: Path) -> None:
    first, again = (plan("simulate", SAMPLE, "--model", model, *SMALL, "--json") for _ in range(2))
    other = plan("simulate", SAMPLE, "--model", model, *SMALL, "--json", "--seed", 5)
    assert first.stdout == again.stdout
    assert first.stdout != other.stdout


def test_a_run_compared_with_its_own_twin_has_no_error(model: Path, tmp_path: Path) -> None:
    plan("simulate", SAMPLE, "--model", model, *SMALL, "-o", tmp_path / "run.json")
    done = plan("simulate", SAMPLE, "--model", model, "--compare", tmp_path / "run.json", "--json")
    comparison = report_of(done).result["comparison"]
    assert comparison["joined"] == 200
    assert comparison["same_trace"]
    assert all(e == 0 for metric in comparison["metrics"].values() for e in metric["error"].values())


def test_capacity_answers_with_interval_needs_and_model_error(model: Path) -> None:
    few = ["--requests", 400, "--seeds", 2, "--months", 1, "--ttft-p95", 0.3, "--itl-p95", 0.03]
    found = report_of(plan("capacity", SAMPLE, "--model", model, *SMALL, *few, "--json"))
    capacity = found.result["capacity"]
    assert capacity["likely_low"] < capacity["requests_per_s"] < capacity["likely_high"]
    assert capacity["calibration_ratio"] > 0
    assert "90% interval" in found.findings[0]
    assert [need["total"] - need["serving"] for need in found.result["needs"]] == [2, 2]
    assert found.model_error is not None
    assert "Little's law" in " ".join(found.notes)


def test_capacity_says_no_with_exit_code_1_when_today_does_not_do(model: Path) -> None:
    few = ["--requests", 300, "--seeds", 1, "--months", 0, "--baseline", 40]
    done = plan("capacity", SAMPLE, "--model", model, *SMALL, *few, "--replicas", 1)
    assert done.exit_code == 1, done.output
    assert "today's N+2 has no meaning: it takes more than 2 replicas, and there is 1" in done.stdout


def test_cost_prints_the_true_break_evens() -> None:
    done = plan("cost", CLAIMS, "--tokens-per-day", 2_000_000)
    assert done.exit_code == 0
    for figure in ("16.67 M", "47.62 M", "1,428.57", "3,750", "125", "$900.00 a month"):
        assert figure in done.stdout


def test_validate_holds_a_model_against_a_run(model: Path, tmp_path: Path) -> None:
    plan("simulate", SAMPLE, "--model", model, *SMALL, "-o", tmp_path / "run.json")
    found = report_of(plan("validate", tmp_path / "run.json", "--model", model, "--json"))
    assert found.result["comparison"]["joined"] == 200
    done = plan("validate", tmp_path / "run.json", "--model", model, "--replicas", 3, "--max-error", 0.0001)
    assert done.exit_code in (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "absent.csv", "--model", "MODEL"], "absent.csv: cannot be opened"),
        (["simulate", SAMPLE, "--model", "absent.json"], "absent.json: cannot be read"),
        (["simulate", SAMPLE, "--model", CLAIMS], "claims.toml: is not JSON"),
        (["simulate", SAMPLE, "--model", "MODEL", "--window", "5"], "START:END"),
        (["simulate", SAMPLE, "--model", "MODEL", "--speed", "-1"], "speed"),
        (["simulate", SAMPLE, "--model", "MODEL", "--replicas", "0"], "replicas 0: must be at least 1"),
        (["simulate", SAMPLE, "--model", "MODEL", "--router", "magic"], "least_load, round_robin"),
        (["simulate", SAMPLE, "--model", "MODEL", "--ttft-p95", "-1"], "ttft_p95_s"),
        (["capacity", SAMPLE, "--model", "MODEL", "--growth", "-2"], "growth -2"),
        (["calibrate"], "nothing to calibrate from"),
        (["calibrate", CLAIMS], "claims.toml: is not JSON"),
        (["cost", SAMPLE], "is not TOML"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(model: Path, arguments: list[object], message: str) -> None:
    done = plan(*(model if argument == "MODEL" else argument for argument in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not done.stdout


def test_rows_set_aside_are_told_and_nothing_is_written_beside_the_trace(model: Path, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    rows = SAMPLE.read_bytes().split(b"\r\n")[:50]
    trace.write_bytes(b"\r\n".join([*rows[:3], b"nonsense", *rows[3:]]))
    done = plan("simulate", trace, "--model", model)
    assert done.exit_code == 0
    assert f"{trace}:4: set aside: missing_column" in done.stderr
    assert "replay inspect --quarantine FILE" in done.stderr
    assert list(tmp_path.glob("t.csv*")) == [trace]


def test_the_command_line_loads_without_heavy_imports() -> None:
    code = (
        "import sys, planner.cli; heavy = {'scipy', 'plotly', 'torch', 'dash', 'uvicorn', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
