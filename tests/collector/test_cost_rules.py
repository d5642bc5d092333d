"""The shipped rules for cost hold their own unit tests, by our evaluation and by promtool's."""

import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.cli import app

TESTS = Path(__file__).resolve().parents[2] / "samples" / "rules" / "cost_test.yml"


def test_costs_per_model_and_tenant_are_what_the_prices_say() -> None:
    result = CliRunner().invoke(app, ["test", str(TESTS)])
    assert result.exit_code == 0, result.output


def test_the_alert_on_the_budget_fires_on_the_recorded_costs() -> None:
    result = CliRunner().invoke(app, ["test", str(TESTS.with_name("budget_test.yml"))])
    assert result.exit_code == 0, result.output


def test_a_wrong_price_fails_the_unit_test(tmp_path: Path) -> None:
    for name in ("cost.yml", "cost_test.yml"):
        (tmp_path / name).write_text((TESTS.parent / name).read_text().replace("vector(0.60)", "vector(0.61)"))
    result = CliRunner().invoke(app, ["test", str(tmp_path / "cost_test.yml")])
    assert result.exit_code == 1, result.output


@pytest.mark.peer
def test_promtool_comes_to_the_same_costs() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    command = [promtool, "test", "rules", TESTS.name, "budget_test.yml"]
    done = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
