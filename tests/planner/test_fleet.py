"""A fleet in one answer: spares that are lost in simulation, a bill that adds up, prices that give it back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from planner.cli import app
from planner.steps.attribution import Request, effective_prices, seconds_of
from planner.steps.latency import LinearModel

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "traces" / "azure_conv_10min.csv"
MODEL = LinearModel(10e-3, 1e-4, 1e-8, 5e-5, 1e-7)
SLO = ["--ttft-p95", "2", "--itl-p95", "0.1", "--e2e-p95", "60"]
counts = st.floats(0, 1e5, allow_subnormal=False)


@given(counts, counts, st.floats(1, 1e5), st.floats(1, 256), st.floats(1, 1e6), st.floats(1, 1e7))
def test_prices_times_tokens_are_the_bill(
    fresh: float, cached: float, output: float, batch: float, usd: float, requests: float
) -> None:
    request = Request(fresh, cached, output)
    prices = effective_prices(usd, requests, request, seconds_of(MODEL, request, batch))
    paid = sum(
        (price or 0.0) * tokens * requests / 1e6
        for price, tokens in ((prices.input, fresh), (prices.cached, cached), (prices.output, output))
    )
    assert paid == pytest.approx(usd, rel=1e-6)


def test_a_cached_token_is_cheaper_than_a_computed_one_and_an_output_token_dearest() -> None:
    request = Request(900, 300, 250)
    prices = effective_prices(1000.0, 1e6, request, seconds_of(MODEL, request, 16))
    assert prices.input and prices.cached and prices.output
    assert prices.cached < prices.input < prices.output


def test_larger_batches_make_output_cheaper_against_input() -> None:
    request = Request(900, 0, 250)

    def ratio(batch: float) -> float:
        fresh, _, output = seconds_of(MODEL, request, batch)
        return output / fresh

    assert ratio(32) < ratio(4) / 3
    assert effective_prices(1.0, 1.0, request, seconds_of(MODEL, request, 4)).cached is None


def test_fleet_answers_memory_mix_spares_and_cost_at_once() -> None:
    asked = ["fleet", str(SAMPLE), "--model-name", "Llama-3.1-8B", "--gpu", "L40S", "--gpu", "A100-80", "--gpu", "T4",
             "--baseline", "3", "--max-requests", "400", "--people", "1000", "--discount", "0.5", "--cached-ratio",
             "0.2", "--api", "gpt-4o-mini", *SLO]  # fmt: skip
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    found = report["result"]
    assert sum(found["items"].values()) == pytest.approx(found["usd_per_month"])
    assert found["items"]["people"] == 1000
    assert all(count["total"] >= count["serving"] + 2 for count in found["counts"].values())
    assert all(after["recovery_s"] is not None and after["lost_replicas"] == 2 for after in found["aftermath"].values())
    assert found["usd_per_million"]["cached"] < found["usd_per_million"]["input"]
    price = {row[0]: row[1] for row in report["tables"][0]["rows"]}
    gpus = sum(price[name] * count["total"] for name, count in found["counts"].items()) * 720 * 0.5
    assert gpus + 1000 == pytest.approx(found["usd_per_month"])
    assert "gpt-4o-mini asks $" in " ".join(report["findings"])


def test_a_model_that_no_gpu_holds_has_no_fleet() -> None:
    done = CliRunner().invoke(app, ["fleet", str(SAMPLE), "--model-name", "Llama-3.1-70B", "--gpu", "T4"])
    assert done.exit_code == 2
    assert "no GPU with a price holds it" in done.stderr


def test_data_parallel_ranks_add_kv_and_not_room() -> None:
    asked = ["fit", "--model-name", "Llama-3.1-8B", "--gpu", "L40S", "--json"]
    one, four = (json.loads(CliRunner().invoke(app, [*asked, "--data", n]).stdout) for n in ("1", "4"))
    assert four["tables"][0]["rows"][0][4] == 4 * one["tables"][0]["rows"][0][4]
    assert four["tables"][0]["rows"][0][2] == one["tables"][0]["rows"][0][2]
    assert "4 x 1 x 1 GPUs" in four["findings"][0]


def test_what_a_solver_prints_past_python_never_reaches_the_report() -> None:
    code = (
        "import ctypes, sys\n"
        "from planner.commands.options import solver_on_stderr\n"
        "with solver_on_stderr():\n"
        "    ctypes.CDLL(None).puts(b'from the solver')\n"
        "print('the report')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "the report\n"
    assert "from the solver" in done.stderr
