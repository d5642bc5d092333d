"""Two plans beside each other."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from planner.answers.comparison import comparison_report, read_report
from planner.cli import app
from planner.errors import ReportError
from planner.report import Report


def capacity(per_s: float, replicas: int, seed: int = 0) -> Report:
    return Report(
        kind="capacity",
        title="Capacity",
        findings=(f"{replicas} replicas carry {per_s} requests/s",),
        inputs={"replicas_today": replicas, "slo": {"ttft_p95_s": 0.8}},
        seed=seed,
        result={"capacity": {"requests_per_s": per_s, "points": [{"x": 1.0}]}, "needs": [{"total": replicas + 2}]},
    )


def test_what_was_asked_and_found_differently_is_told_with_its_change() -> None:
    report = comparison_report(capacity(10.0, 2), capacity(15.0, 3), ("a.json", "b.json"))
    assert report.findings[:2] == (
        "from 10 to 15 requests/s (+50.0%)",
        "from 4 to 5 replicas this month (+25.0%)",
    )
    asked, found = report.tables
    assert asked.rows == (("replicas today", 2, 3),)
    assert found.rows[0] == ("capacity: requests (per second)", 10.0, 15.0, "+50.0%")
    assert all("points" not in str(row[0]) for row in found.rows)


def test_a_plan_is_the_same_as_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(capacity(10.0, 2).to_json())
    done = CliRunner().invoke(app, ["compare", str(path), str(path), "--json"])
    assert done.exit_code == 0
    assert read_report(path) == capacity(10.0, 2)
    (tmp_path / "b.json").write_text(capacity(10.0, 2, seed=1).to_json())
    assert CliRunner().invoke(app, ["compare", str(path), str(tmp_path / "b.json")]).exit_code == 1


def test_reports_of_different_kinds_have_nothing_to_compare() -> None:
    other = capacity(1.0, 1).model_copy(update={"kind": "cost"})
    with pytest.raises(ReportError, match=r"a\.json is a capacity report and b\.json a cost report"):
        comparison_report(capacity(1.0, 1), other, ("a.json", "b.json"))


@pytest.mark.parametrize(("text", "message"), [(None, "cannot be read"), ("{}", "is no report"), ("x", "is no report")])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    done = CliRunner().invoke(app, ["compare", str(path), str(path)])
    assert done.exit_code == 2
    assert f"{path}: {message}" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
