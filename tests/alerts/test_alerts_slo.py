"""``loadline alerts slo``: objectives to burn-rate rules that fire when they should and not before."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alerts.cli import app
from alerts.rulefile import read_rule_file
from alerts.ruletest import read_test_file, run_test_file
from alerts.slo import read_slo_file, rule_file
from collector.signals import DocumentError, Vocabulary, load_dialects

FOLDER = Path(__file__).parent / "slo"
VLLM = Vocabulary.of([dialect for dialect in load_dialects() if dialect.engine == "vllm"])
INPUTS = ("chat.sloth.yml", "chat.openslo.yml")

SLOTH = """\
version: prometheus/v1
service: s
slos:
  - name: n
    objective: 99.9
    sli: {events: {error_query: 'sum(rate(e[{{.window}}]))', total_query: 'sum(rate(t[{{ .window }}]))'}}
"""


def compiled(text: str, path: str = "slo.yml") -> tuple[str, list[str]]:
    reading = read_slo_file(text, path, VLLM)
    return rule_file(reading), reading.warnings


@pytest.mark.parametrize("name", INPUTS)
def test_rules_are_as_they_were_agreed(name: str):
    rules, _ = compiled((FOLDER / name).read_text(), name)
    golden = FOLDER / name.replace(".yml", ".rules.yml")
    assert rules == golden.read_text(), f"if this is meant: loadline alerts slo {name} --dialect vllm > {golden}"


@pytest.mark.parametrize("name", INPUTS)
def test_the_rules_are_valid_and_no_two_are_the_same(name: str):
    read = read_rule_file(compiled((FOLDER / name).read_text(), name)[0], name)
    assert read.warnings == ()


@pytest.mark.peer
@pytest.mark.parametrize("name", INPUTS)
def test_promtool_accepts_the_rules(name: str, promtool: Path):
    done = subprocess.run(
        [promtool, "check", "rules", "--lint-fatal", FOLDER / name.replace(".yml", ".rules.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_odd_is_said():
    _, warnings = compiled((FOLDER / "chat.openslo.yml").read_text(), "chat.openslo.yml")
    assert warnings == [
        "chat-success: the page over 1h can never fire: 14.4 times a budget of 0.5 is everything",
        "chat-success: the page over 6h can never fire: 6 times a budget of 0.5 is everything",
        "chat-success: the ticket over 1d can never fire: 3 times a budget of 0.5 is everything",
    ]
    _, warnings = compiled((FOLDER / "chat.sloth.yml").read_text(), "chat.sloth.yml")
    assert warnings == [
        "chat.sloth.yml:17:26: vllm:time_to_first_token_seconds (vLLM) has no bucket at 0.7 s; "
        "the share is interpolated, and exact at 0.5 and 0.75"
    ]


def test_a_shorter_period_burns_at_lower_factors():
    text = (FOLDER / "chat.openslo.yml").read_text()
    assert "> 13.44 * 0.001" in compiled(text)[0]
    assert "> 14.4 * 0.01" in compiled(text)[0]


# 100 requests a second, of which none fail in the first 6 h; then ``share`` of them do
def scenario(folder: Path, share: float, checks: dict[str, list[str]]) -> Path:
    """A test file in which the severities of ``checks`` fire at their moments."""
    (folder / "rules.yml").write_text(compiled(SLOTH)[0])
    steps = 60
    whole = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "5m",
        "group_eval_order": ["slo-sli-s-n", "slo-budget-s-n", "slo-alerts-s-n"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": "t", "values": f"0+6000x{40 * steps}"},
                    {"series": "e", "values": f"0x{6 * steps} {6000 * share:g}+{6000 * share:g}x{34 * steps}"},
                ],
                "promql_expr_test": [
                    {
                        "expr": 'count by (severity) (ALERTS{alertname="SLOBurn",alertstate="firing"})',
                        "eval_time": moment,
                        "exp_samples": [{"labels": f'{{severity="{each}"}}', "value": 1} for each in severities],
                    }
                    for moment, severities in checks.items()
                ],
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(whole))
    return path


# Budget 0.1%. 2% bad burns it 20 times too fast: the page wants 1.44% over 1 h, which is so 43.2 min later; the ticket
# wants 0.3% over all that there is of a day. 0.2% bad is never enough for a page, but half of all time at 0.2% is 0.1%.
SCENARIOS = {
    "a fast burn pages within the hour": (0.02, {"6h": [], "6h40m": ["ticket"], "6h45m": ["page", "ticket"]}),
    "a slow burn opens a ticket and pages nobody": (0.002, {"6h30m": [], "9h": [], "14h": ["ticket"]}),
    "within the budget nobody hears": (0.0009, {"6h30m": [], "10h": []}),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_alerts_fire_when_they_should_and_not_before(name: str, tmp_path: Path):
    path = scenario(tmp_path, *SCENARIOS[name])
    assert run_test_file(read_test_file(path.read_text(), str(path))) == []


@pytest.mark.peer
@pytest.mark.parametrize("name", SCENARIOS)
def test_promtool_sees_the_alerts_fire_at_the_same_moments(name: str, tmp_path: Path, promtool: Path):
    path = scenario(tmp_path, *SCENARIOS[name])
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("prometheus/v1", "prometheus/v2", 'slo.yml:1:10: version is "prometheus/v2"; prometheus/v1 is read'),
        ("99.9", "100", 'slo.yml:5:16: slos[0].objective is "100"; it must lie between 0 and 100 (percent)'),
        ("sum(rate(e[{{.window}}]))", "sum(e", "events.error_query does not parse"),
        ("sum(rate(e[{{.window}}]))", "sum(e)", "it must hold {{.window}}, as in rate(x[{{.window}}])"),
        ("name: n", "title: n", "field 'title' is unknown"),
        ("events: {", "signal: {name: ttft, threshold: 1}, events: {", "has 2 of events, raw, signal"),
    ],
)
def test_an_error_says_where_and_what_is_allowed(old: str, new: str, reason: str):
    assert old in SLOTH
    with pytest.raises(DocumentError, match=re.escape(reason)):
        compiled(SLOTH.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("budgetingMethod: Occurrences", "budgetingMethod: Timeslices", 'is "Timeslices"; Occurrences is read'),
        ("indicatorRef: answered", "indicatorRef: other", 'spec.indicatorRef is "other"; SLIs of this file: answered'),
        ("op: lte, value: 10", "op: eq, value: 10", 'op is "eq"; allowed are lte, lt, gte, gt'),
        ("op: lte, value: 10", "op: lte", "field 'value' is missing"),
        ("signal: ttft", "signal: speed", "no signal is called 'speed'"),
        ("isRolling: true", "isRolling: false", "rolling windows are read"),
        ("duration: 28d", "duration: 1h", "7d is the shortest"),
        ("target: 0.999", "target: 99.9", "it must lie between 0 and 1"),
        ("type: Prometheus", "type: Datadog", "allowed are Prometheus, Loadline"),
        ("apiVersion: openslo/v1\n", "apiVersion: openslo/v1alpha\n", "openslo/v1 is read"),
    ],
)
def test_an_error_in_openslo_says_where_and_what_is_allowed(old: str, new: str, reason: str):
    text = (FOLDER / "chat.openslo.yml").read_text()
    assert old in text
    with pytest.raises(DocumentError, match=re.escape(reason)):
        compiled(text.replace(old, new))


def test_the_command_writes_rules_to_stdout_and_remarks_to_stderr(tmp_path: Path):
    done = CliRunner().invoke(
        app, ["slo", str(FOLDER / "chat.sloth.yml"), "--dialect", "vllm", "--runbook", "http://r"]
    )
    assert done.exit_code == 0
    assert "has no bucket at 0.7 s" in done.stderr
    assert done.stdout.startswith("groups:\n  - name: slo-sli-chat-availability\n")
    assert "runbook: http://r" in done.stdout
    (tmp_path / "bad.yml").write_text("version: 1")
    assert CliRunner().invoke(app, ["slo", str(tmp_path / "bad.yml")]).exit_code == 1
    assert CliRunner().invoke(app, ["slo", str(tmp_path / "absent.yml")]).exit_code == 2
    done = CliRunner().invoke(app, ["slo", str(FOLDER / "chat.sloth.yml"), "--dialect", "xllm"])
    assert (done.exit_code, "allowed are" in done.stderr) == (2, True)
