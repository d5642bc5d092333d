"""What is made of runs: intervals, errors by kind, tables, pages, changes beyond chance, and gates."""

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from planner.errors import RunError
from planner.replay.gate import parse_gate, violations
from planner.replay.intervals import bootstrapped, errors, goodput, latency_intervals, success, wilson
from planner.replay.significance import shifts
from planner.replay.tables import COLUMNS, write_csv, write_parquet
from planner.replay_cli import app
from planner.result import Requests, Run, RunHeader
from planner.slo import Slo


def run_of(
    ttft_s: np.ndarray, failed: int = 0, warm_up_s: float = 0.0, trace: str = "t", slo: Slo | None = None
) -> Run:
    """One request each 0.1 s with these TTFTs, 11 tokens 10 ms apart; the first ``failed`` of them ended in errors."""
    rows = len(ttft_s)
    due = np.arange(rows) * 0.1
    first = due + ttft_s
    status = np.array(["error"] * failed + ["ok"] * (rows - failed))
    requests = Requests(
        row_id=np.arange(rows),
        due_s=due,
        sent_s=due + 0.001,
        first_token_s=first,
        last_token_s=first + 0.1,
        end_s=first + 0.1,
        input_tokens=np.full(rows, 5),
        output_tokens=np.full(rows, 11),
        cached_tokens=np.full(rows, np.nan),
        status=status,
        error=tuple(f"HTTP 500: number {row}" if row < failed else None for row in range(rows)),
        token_times_s=tuple(start + 0.01 * np.arange(11) for start in first),
    )
    header = RunHeader(
        kind="replay", target="http://x", model="m", trace="t.csv", trace_sha256=trace, slo=slo, warm_up_s=warm_up_s
    )
    return Run(header, requests)


def noisy(seed: int, rows: int = 600, factor: float = 1.0) -> Run:
    return run_of(np.random.default_rng(seed).lognormal(-3, 0.5, rows) * factor)


@given(st.integers(0, 500), st.integers(1, 500))
def test_wilsons_interval_holds_its_share(hits: int, count: int):
    found = wilson(min(hits, count), count)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_wilsons_interval_is_the_published_one():
    found = wilson(15, 148)  # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29
    assert (round(found.low, 4), round(found.high, 4)) == (0.0624, 0.1605)


def test_intervals_hold_the_true_median_about_as_often_as_they_say():
    """Independent draws: 95% nominal, 100 samples; and correlated ones, where neighbours share their level."""
    hits = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        level = np.repeat(generator.normal(0, 0.3, 100), 6)
        values = np.exp(level + generator.normal(0, 0.3, 600))
        low, high = np.percentile(bootstrapped(values, seed)[:, 1], (2.5, 97.5))
        hits += low <= 1.0 <= high
    assert 86 <= hits <= 100


def test_every_latency_has_its_interval_around_the_summarys_figure():
    run = noisy(1)
    found, summary = latency_intervals(run), run.summary()
    for name in ("ttft_due_s", "itl_s", "tpot_s", "e2e_due_s"):
        for stat, interval in found[name].items():
            assert interval.value == pytest.approx(getattr(summary.latency[name], stat))
            assert interval.low <= interval.value <= interval.high


def test_errors_are_told_by_kind_and_the_warm_up_is_left_out():
    (kind,) = errors(run_of(np.full(50, 0.1), failed=5))
    assert (kind.status, kind.kind, kind.count, kind.share.value) == ("error", "HTTP 500", 5, 0.1)
    assert kind.example == "HTTP 500: number 0"
    assert errors(run_of(np.full(50, 0.1), failed=5, warm_up_s=0.5)) == ()
    assert success(run_of(np.full(50, 0.1), failed=5)).value == 0.9


def test_goodput_of_a_perfect_run_is_not_certain():
    found = goodput(run_of(np.full(50, 0.1), slo=Slo()))
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.9 < found.low < 1.0
    assert goodput(run_of(np.full(50, 0.1))) is None


def test_a_slower_run_is_found_slower_and_a_like_one_is_not():
    changed = shifts(noisy(1), noisy(2, factor=1.5))["ttft_due_s"]
    assert changed.changes["p50"].significant
    assert changed.changes["p50"].ratio.value == pytest.approx(0.5, abs=0.15)
    assert changed.changes["p50"].p_value < 0.01
    assert changed.mann_whitney_p < 0.01
    alike = shifts(noisy(1), noisy(2))["ttft_due_s"]
    assert not alike.changes["p50"].significant
    assert alike.mann_whitney_p > 0.01


def test_chance_alone_is_seldom_called_a_change():
    wrong = 0
    for seed in range(20):
        found = shifts(noisy(seed, rows=200), noisy(seed + 500, rows=200))["ttft_due_s"]
        wrong += found.changes["p50"].significant
    assert wrong <= 4


def test_a_percent_on_the_same_noise_is_seen_when_runs_are_paired():
    run = noisy(1)
    slower = run_of((run.requests.first_token_s - run.requests.due_s) * 1.01)
    paired, apart = shifts(run, slower)["ttft_due_s"], shifts(run, run_of(
        (run.requests.first_token_s - run.requests.due_s) * 1.01, trace="u"))["ttft_due_s"]  # fmt: skip
    assert paired.paired
    assert not apart.paired
    assert paired.changes["p50"].significant
    assert not apart.changes["p50"].significant


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("ttft_p99>10%", True),
        ("ttft_p50>80%", False),
        ("e2e_p95<0%", False),
        ("ttft_p50>1ms", True),
        ("ttft_p50>1s", False),
        ("itl_p99>9ms", True),
        ("success<0.99", False),
        ("success>0.5", True),
    ],
)
def test_a_gate_holds_or_not(text: str, broken: bool):
    run = noisy(2, factor=1.5)
    assert bool(violations([parse_gate(text)], run, shifts(noisy(1), run))) is broken


def test_a_change_within_chance_breaks_no_gate():
    run = noisy(2)
    changed = shifts(noisy(1), run)
    assert violations([parse_gate("ttft_p99>-90%")], run, changed) == ()


@pytest.mark.parametrize("text", ["ttft>10%", "ttft_p99", "no_p99>1s", "ttft_p42>1s", "goodput<95%", "ttft_p99>1.2.3s"])
def test_a_gate_that_cannot_be_read_says_what_can(text: str):
    with pytest.raises(RunError, match="such as ttft_p99>10%"):
        parse_gate(text)


def test_a_change_needs_another_run():
    with pytest.raises(RunError, match="needs a run to compare with"):
        violations([parse_gate("ttft_p99>10%")], noisy(1))


def test_the_table_has_one_row_per_request(tmp_path: Path):
    write_csv(run_of(np.full(20, 0.25), failed=2, warm_up_s=0.55), tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert len(found) == 20
    assert (found[0]["status"], found[0]["ttft_due_s"], found[0]["error"]) == ("error", "", "HTTP 500: number 0")
    assert float(found[7]["ttft_due_s"]) == pytest.approx(0.25)
    assert [row["warm_up"] for row in found].count("True") == 6


def test_parquet_is_written_where_pyarrow_is_and_refused_in_one_line_where_not(tmp_path: Path):
    if find_spec("pyarrow") is None:
        with pytest.raises(RunError, match="Parquet needs pyarrow"):
            write_parquet(noisy(1), tmp_path / "run.parquet")
    else:
        write_parquet(noisy(1), tmp_path / "run.parquet")
        assert (tmp_path / "run.parquet").read_bytes()[:4] == b"PAR1"


def invoke(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(words))
    return done.exit_code, done.stdout


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    noisy(1).write(tmp_path / "a.json")
    noisy(2, factor=1.5).write(tmp_path / "b.json")
    return str(tmp_path / "a.json"), str(tmp_path / "b.json")


def test_a_report_is_a_page_by_itself(two: tuple[str, str], tmp_path: Path):
    code, text = invoke("report", two[0], "--html", str(tmp_path / "run.html"), "--json")
    assert code == 0
    told = json.loads(text)
    assert told["kind"] == "run"
    assert told["result"]["intervals"]["ttft_due_s"]["p99"]["low"] > 0
    page = (tmp_path / "run.html").read_text()
    assert "Latency by when it was due" in page
    assert "src=" not in page.partition("<script>")[0]


def test_a_comparison_says_what_changed_and_ends_with_one_when_it_may_not(two: tuple[str, str], tmp_path: Path):
    code, text = invoke("compare", *two, "--html", str(tmp_path / "c.html"), "--fail-if", "ttft_p99>10%")
    assert code == 1
    assert "TTFT from due p50 changed by" in text
    assert "What changed" in (tmp_path / "c.html").read_text()
    assert invoke("compare", *two, "--fail-if", "ttft_p99>90%")[0] == 0
    assert invoke("compare", *two, "--fail-if", "rubbish")[0] == 2


def test_a_run_that_is_not_valid_says_so_first(tmp_path: Path):
    run = noisy(1)
    header = run.header.model_copy(update={"details": {"valid": False, "reasons": ["p99 schedule lag 50.00 ms"]}})
    Run(header, run.requests).write(tmp_path / "late.json")
    code, text = invoke("report", str(tmp_path / "late.json"))
    assert code == 0
    assert text.splitlines()[2] == "- NOT VALID: p99 schedule lag 50.00 ms"
