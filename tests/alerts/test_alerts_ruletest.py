"""``loadline alerts test``: promtool's format, notation and verdicts."""

import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from alerts.cli import app
from alerts.ruletest import SyntheticSource, read_test_file
from alerts.ruletest.notation import read_labels, read_values
from collector.model.labels import from_mapping, render
from collector.signals import DocumentError

RULES = """
groups:
  - name: records
    rules:
      - {record: "job:up:sum", expr: sum by (job) (up)}
      - {record: "job:up:ratio", expr: "job:up:sum / count by (job) (up)", labels: {kind: ratio}}
  - name: later
    rules:
      - {record: "job:missing", expr: "1 - job:up:ratio"}
  - name: alerts
    rules:
      - alert: Down
        expr: up == 0
        for: 2m
        labels: {severity: page, dc: "{{ $externalLabels.dc }}", value: "{{ $value }}"}
        annotations: {summary: "{{ $labels.instance }} of {{ $labels.job }} is down", link: "{{ $externalURL }}/x"}
      - {alert: Half, expr: "job:up:ratio < 0.6", keep_firing_for: 3m}
      - {alert: Errors, expr: 'rate(errors_total[5m]) > 0.1', annotations: {rate: "{{ $value | humanize }}"}}
      - {alert: Gone, expr: 'absent(up{job="b"})'}
"""
SERIES = [
    {"series": 'up{job="a",instance="i"}', "values": "1 1 0x3 1x10"},
    {"series": "up{instance='j',job='a'}", "values": "1+0x20"},
    {"series": 'errors_total{job="a"}', "values": "0x5 10+30x10"},
    {"series": "gappy", "values": "1 _ 3 _x3 stale 8 stale _x8 9"},
    {"series": 'numbers{kind="odd"}', "values": "-1 1e3 NaN Inf -Inf 1.5-0.5x4"},
]
DOWN = {
    "exp_labels": {"severity": "page", "dc": "eu", "value": "0", "job": "a", "instance": "i"},
    "exp_annotations": {"summary": "i of a is down", "link": "http://p/x"},
}

OUTSIDE = {"external_labels": {"dc": "eu"}, "external_url": "http://p"}


def alert(name: str, at: str, *expected: dict[str, Any]) -> dict[str, Any]:
    return {"alert_rule_test": [{"alertname": name, "eval_time": at, "exp_alerts": list(expected)}]}


def expr(text: str, at: str, *expected: tuple[str, float]) -> dict[str, Any]:
    samples = [{"labels": labels, "value": value} for labels, value in expected]
    return {"promql_expr_test": [{"expr": text, "eval_time": at, "exp_samples": samples}]}


def without(mapping: dict[str, Any], key: str, field: str) -> dict[str, Any]:
    return mapping | {key: {name: value for name, value in mapping[key].items() if name != field}}


# name -> (whether it holds, what it tests, fields of the file beside it)
CASES: dict[str, tuple[bool, dict[str, Any], dict[str, Any]]] = {
    "a pending alert does not count": (True, alert("Down", "3m"), {}),
    "an alert fires after its for": (True, alert("Down", "4m", DOWN), {}),
    "between evaluations the last stands": (True, alert("Down", "4m59s", DOWN), {}),
    "it is over when it no longer holds": (True, alert("Down", "6m"), {}),
    "an expected alert does not fire": (False, alert("Down", "3m", DOWN), {}),
    "an alert fires unexpectedly": (False, alert("Down", "4m"), {}),
    "a label is missing": (False, alert("Down", "4m", without(DOWN, "exp_labels", "dc")), {}),
    "an annotation is missing": (False, alert("Down", "4m", without(DOWN, "exp_annotations", "link")), {}),
    "an annotation differs": (False, alert("Down", "4m", DOWN | {"exp_annotations": {"summary": "x"}}), {}),
    "the same alert twice": (False, alert("Down", "4m", DOWN, DOWN), {}),
    "no rule has this name": (True, alert("Nobody", "4m"), {}),
    "no rule has this name, but it should fire": (False, alert("Nobody", "4m", {}), {}),
    "keep firing": (True, alert("Half", "7m", {"exp_labels": {"job": "a", "kind": "ratio"}}), {}),
    "kept long enough": (True, alert("Half", "9m"), {}),
    "a rate with its annotation": (
        True,
        alert("Errors", "12m", {"exp_labels": {"job": "a"}, "exp_annotations": {"rate": "500m"}}),
        {},
    ),
    "absent": (True, alert("Gone", "0m", {"exp_labels": {"job": "b"}}), {}),
    "a recorded series": (True, expr("job:up:sum", "2m", ('job:up:sum{job="a"}', 1)), {}),
    "a recorded value differs": (False, expr("job:up:sum", "2m", ('job:up:sum{job="a"}', 2)), {}),
    "a record of a record": (True, expr("job:missing", "2m", ('job:missing{job="a",kind="ratio"}', 0.5)), {}),
    "ALERTS": (
        True,
        expr(
            'ALERTS{alertname="Half"}', "3m", ('ALERTS{alertname="Half",alertstate="firing",job="a",kind="ratio"}', 1)
        ),
        {},
    ),
    "ALERTS_FOR_STATE": (True, expr('max(ALERTS_FOR_STATE{alertname="Down"})', "3m", ("{}", 120)), {}),
    "a scalar": (True, expr("time()", "5m", ("", 300)), {}),
    "a gap": (True, expr("count_over_time(gappy[1h])", "17m", ("{}", 4)), {}),
    "a stale series": (True, expr("gappy", "8m"), {}),
    "a series within lookback": (True, expr("gappy", "5m30s", ("gappy", 3)), {}),
    "infinity": (True, expr("numbers", "3m", ('numbers{kind="odd"}', math.inf)), {}),
    "falling": (True, expr("numbers", "9m", ("numbers{kind='odd'}", -0.5)), {}),
    "one sample too many": (False, expr("up", "0m", ('up{job="a",instance="i"}', 1)), {}),
    "one sample too few": (False, expr("gappy", "0m", ("gappy", 1), ("gapless", 1)), {}),
    "an expression that does not parse": (False, expr("up ==", "0m"), {}),
    "an expression that fails": (False, expr("up * on (job) up", "0m"), {}),
    "groups in the order asked for": (
        True,
        expr("job:missing", "0m"),
        {"group_eval_order": ["later", "records", "alerts"]},
    ),
    "a group twice in the order": (False, alert("Down", "3m"), {"group_eval_order": ["later", "later"]}),
    "evaluated every five minutes": (True, alert("Down", "4m"), {"evaluation_interval": "5m"}),
    "an unknown field": (False, alert("Down", "3m"), {"rules": []}),
    "a bad interval": (False, alert("Down", "3m"), {"evaluation_interval": "often"}),
    "a rule file that is not there": (True, expr("vector(1)", "0m", ("{}", 1)), {"rule_files": ["none.yml"]}),
    "a rule file that is not valid": (False, expr("vector(1)", "0m", ("{}", 1)), {"rule_files": ["test.yml"]}),
    "a rule that fails": (False, expr("vector(1)", "0m", ("{}", 1)), {"rule_files": ["bad.yml"]}),
    "no alertname": (False, {"alert_rule_test": [{"eval_time": "1m"}]}, {}),
    "no tests": (True, {}, {}),
}


def write(folder: Path, case: str) -> Path:
    _, test, fields = CASES[case]
    (folder / "rules.yml").write_text(RULES)
    (folder / "bad.yml").write_text("groups: [{name: g, rules: [{record: r, expr: up * on (job) up}]}]")
    whole = {
        "rule_files": ["rules*.yml"],
        "evaluation_interval": "1m",
        "group_eval_order": ["records", "later", "alerts"],  # promtool's order is random where none is given
        "tests": [
            {"interval": "1m", "external_labels": {"dc": "eu"}, "external_url": "http://p", "input_series": SERIES}
            | test
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(whole | fields))
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, ["test", *map(str, arguments)])


@pytest.mark.parametrize("case", CASES)
def test_a_test_file_gets_its_verdict(case: str, tmp_path: Path):
    done = run(write(tmp_path, case), "--prometheus", 2)
    assert done.exit_code == (0 if CASES[case][0] else 1), done.output


@pytest.mark.peer
@pytest.mark.parametrize("case", CASES)
def test_promtool_gives_the_same_verdict(case: str, tmp_path: Path, promtool: Path):
    path = write(tmp_path, case)
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if CASES[case][0] else 1), done.stdout + done.stderr


def test_a_failure_says_what_was_expected_and_what_came(tmp_path: Path):
    done = run(write(tmp_path, "a recorded value differs"))
    assert "  FAILED:" in done.stdout
    assert re.search(r"test\.yml:\d+: 'job:up:sum' at 2m0s is not as expected:", done.stdout)
    assert '- job:up:sum{job="a"} 2\n' in done.stdout
    assert '+ job:up:sum{job="a"} 1\n' in done.stdout


def test_verdicts_come_as_json(tmp_path: Path):
    done = run(write(tmp_path, "an alert fires unexpectedly"), "--json")
    (verdict,) = json.loads(done.stdout)["files"]
    assert (verdict["passed"], len(verdict["failures"])) == (False, 1)


def test_a_file_that_cannot_be_read_is_no_verdict(tmp_path: Path):
    assert run(tmp_path / "absent.yml").exit_code == 2


def test_a_range_that_begins_on_a_sample_counts_it_in_prometheus_2_only(tmp_path: Path):
    (tmp_path / "test.yml").write_text(
        "tests: [{interval: 1m, input_series: [{series: x, values: 0+1x9}], promql_expr_test: "
        "[{expr: 'count_over_time(x[5m])', eval_time: 9m, exp_samples: [{labels: '{}', value: 6}]}]}]"
    )
    assert run(tmp_path / "test.yml", "--prometheus", 2).exit_code == 0
    assert run(tmp_path / "test.yml").exit_code == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("tests: [{input_series: [{series: 'up{', values: 1}]}]", 't.yml:1:34: tests[0].input_series[0].series: "up{"'),
        ("tests: [{input_series: [{series: up, values: 1+1}]}]", '"1+1" is no point; points look like'),
        ("tests: [{input_series: [{series: up, values: 1x99999999}]}]", "stands for more than 1000000 points"),
        ("tests: [{input_series: [{series: up, values: '{{schema:1}}'}]}]", "native histograms ({{...}}) are not read"),
        ("tests: [{input_series: [{series: '{}', values: 1}]}]", "a series has a name or a label"),
        ("tests: [{alert_rule_test: [{alertname: A, eval_time: soon}]}]", 'is "soon"; a duration looks like'),
        ("tests: [{promql_expr_test: [{expr: x, exp_samples: [{value: many}]}]}]", "it must be a number"),
    ],
)
def test_an_error_says_where_and_what_is_allowed(text: str, reason: str):
    with pytest.raises(DocumentError, match=re.escape(reason)):
        read_test_file(text, "t.yml")


LABELS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), st.text(min_size=1, max_size=8))


@given(LABELS)
def test_labels_that_are_rendered_are_read_back(labels: dict[str, str]):
    assert read_labels(render(from_mapping(labels))) == from_mapping(labels)


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 20))
def test_a_growing_series_has_one_point_more_than_its_steps(start: int, growth: int, times: int):
    points = read_values(f"{start}{growth:+d}x{times}")
    assert points == [start + growth * step for step in range(times + 1)]


def test_a_source_in_memory_shows_nothing_beyond_its_horizon_and_keeps_what_is_written():
    source = SyntheticSource({read_labels("x"): read_values("0+1x9 stale")}, 60)
    source.until_ms = 120_000
    assert source.query("x", 600) == []
    assert [sample.value for sample in source.query("sum_over_time(x[10m:1m])", 180)] == [0 + 1 + 2 + 2]
    source.until_ms = None
    source.write([replace(one, labels=read_labels("y")) for one in source.query_range("x * 2", 0, 600, 60)])
    assert [sample.value for sample in source.query("y", 540)] == [18]
    assert [group.timestamps_ms.tolist() for group in source.select([], 540_000, 600_000)] == [
        [540_000],
        [540_000, 600_000],
    ]
