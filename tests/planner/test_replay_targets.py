"""What a trace is played against by the command: the twin, and the engine started for it."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from planner.cli import app as plan_app
from planner.replay.runs import RunStore
from planner.replay_cli import app as replay_app
from planner.result import read_run
from planner.steps.latency import LinearModel
from probe_engine.sched import StepStats

SAMPLE = Path(__file__).parents[2] / "samples" / "traces" / "azure_conv_10min.csv"
TRUTH = LinearModel(4e-3, 2e-5, 2e-10, 3e-5, 1.5e-8)
TIMES = ("due_s", "sent_s", "first_token_s", "last_token_s", "end_s")
COLUMNS = ("row_id", *TIMES, "input_tokens", "output_tokens", "status")


def done(app, *arguments: object) -> str:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twin")
    draw = np.random.default_rng(0)
    steps = []
    for _ in range(200):
        prefill, seqs = int(draw.choice([0, draw.integers(1, 2048)])), int(draw.integers(1, 200))
        stats = StepStats(prefill, prefill * prefill // 2, seqs, seqs * int(draw.integers(50, 2000)))
        entry = {name: getattr(stats, name) for name in StepStats._fields}
        steps.append({**entry, "wall_s": TRUTH.step_seconds(stats) * float(draw.lognormal(0, 0.05))})
    scheduler = {"num_blocks": 8000, "max_num_seqs": 128, "max_model_len": 16384}
    (folder / "profile.json").write_text(json.dumps({"observations": steps, "model": "made", "scheduler": scheduler}))
    done(plan_app, "calibrate", folder / "profile.json", "-o", folder / "model.json")
    return folder / "model.json"


def test_the_twin_as_a_target_answers_as_the_planners_own_simulation(model: Path, tmp_path: Path):
    shaped = ["--window", "60:240", "--speed", "2", "--token-scale", "0.2", "--max-requests", "300"]
    seen = done(replay_app, "run", SAMPLE, "--target", f"twin:{model}", *shaped, "--out", tmp_path / "a.json", "--json")
    done(plan_app, "simulate", SAMPLE, "--model", model, *shaped, "--no-ranges", "-o", tmp_path / "b.json", "--json")
    replayed, simulated = read_run(tmp_path / "a.json"), read_run(tmp_path / "b.json")
    assert len(replayed.requests) == 300
    for name in COLUMNS:
        one, other = getattr(replayed.requests, name), getattr(simulated.requests, name)
        assert np.array_equal(one, other, equal_nan=one.dtype.kind == "f"), name
    assert replayed.header.kind == simulated.header.kind == "twin"
    assert replayed.header.trace_sha256 == simulated.header.trace_sha256
    assert replayed.header.target == f"twin:{model}"
    assert json.loads(seen)["summary"]["requests"] == 300


def test_a_run_of_the_twin_is_kept_and_listed_like_any_other(model: Path, tmp_path: Path):
    done(
        replay_app, "run", SAMPLE, "--target", f"twin:{model}", "--max-requests", "50", "--runs", tmp_path, "--id", "a"
    )
    (meta,) = RunStore(tmp_path).list()
    assert (meta.id, meta.state, meta.kind, meta.sent) == ("a", "finished", "twin", 50)
    assert len(RunStore(tmp_path).load("a").requests) == 50


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("twin:absent.json", (), "absent.json"),
        ("twin:{model}", ("--sessions", "closed"), "it plays sessions open only"),
        ("engine:absent-model", (), "engine:absent-model: did not come up: "),
    ],
)
def test_a_target_that_cannot_be_played_is_one_line_and_exit_code_2(
    model: Path, tmp_path: Path, target: str, options: tuple[str, ...], message: str
):
    command = ["run", str(SAMPLE), "--target", target.format(model=model), *options, "--out", str(tmp_path / "r.json")]
    result = CliRunner().invoke(replay_app, command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_engine_is_started_for_the_run_and_gone_after_it(tmp_path: Path):
    shaped = ["--max-requests", "20", "--token-scale", "0.05", "--speed", "10"]
    done(replay_app, "run", SAMPLE, "--target", "engine:tiny", *shaped, "--runs", tmp_path, "--id", "a")
    run = RunStore(tmp_path).load("a")
    assert run.summary().by_status == {"ok": 20}
    assert run.header.details["prompt_token_error"] == 0
    assert run.header.details["scheduler"]
    assert len(run.observations) > 0


def test_a_run_reads_and_shapes_traces_as_convert_does(model: Path, tmp_path: Path):
    mooncake = SAMPLE.with_name("mooncake_conversation_10min.jsonl")
    shaped = ["--window", "0:300", "--dequantise", "--rate", "1.5", "--share", "0.8", "--seed", "3"]
    done(replay_app, "convert", mooncake, *shaped, "-o", tmp_path / "shaped.jsonl")
    for name, command in (("a", [mooncake, *shaped]), ("b", [tmp_path / "shaped.jsonl", "--seed", "3"])):
        done(replay_app, "run", *command, "--target", f"twin:{model}", "--out", tmp_path / f"{name}.json")
    direct, converted = (read_run(tmp_path / f"{name}.json") for name in "ab")
    assert direct.header.trace_sha256 == converted.header.trace_sha256
    assert np.array_equal(direct.requests.end_s, converted.requests.end_s, equal_nan=True)
    assert direct.header.shaping["rate"] == 1.5


def test_several_traces_are_played_as_one(model: Path, tmp_path: Path):
    lines = SAMPLE.read_text().splitlines(keepends=True)
    for name, part in (("a", lines[1:41]), ("b", lines[41:101])):
        (tmp_path / f"{name}.csv").write_text("".join([lines[0], *part]))
    parts = [tmp_path / "a.csv", tmp_path / "b.csv"]
    done(replay_app, "run", *parts, "--align", "clock", "--target", f"twin:{model}", "--out", tmp_path / "r.json")
    assert len(read_run(tmp_path / "r.json").requests) == 100
