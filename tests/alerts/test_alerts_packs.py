"""The packs: every alert has its test, its runbook and its words; all of it in any engine's names."""

import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.cli import app
from alerts.emit import emit
from alerts.errors import RuleFileError
from alerts.lint import lint
from alerts.render import render
from alerts.responses.catalogue import STANDING
from alerts.rule import AlertRule, is_recorded
from alerts.rulefile import PACKS_DIR, load_rule_file, neutral_packs, packs, read_rule_file
from alerts.ruletest import read_test_file, run_test_file
from collector.promql import Engine, parse, selectors
from collector.signals import DocumentError, Vocabulary, load_dialects, series_known

ROOT = Path(__file__).resolve().parents[2]
RULES = [rule for path in packs() for rule in load_rule_file(path).rules]
TESTS = sorted((PACKS_DIR / "tests").glob("*.yml"))
DIALECTS = {dialect.engine: dialect for dialect in load_dialects()}


def vocabulary(*engines: str) -> Vocabulary:
    return Vocabulary.of([DIALECTS[engine] for engine in engines])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_expression_parses_and_every_name_in_it_is_known(rule: AlertRule):
    names = {selector.name for selector in selectors(parse(rule.expr))}
    assert names
    assert {name for name in names if not is_recorded(name)} <= series_known()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_alert_says_how_bad_it_is_what_was_seen_why_and_what_to_do(rule: AlertRule):
    labels, annotations = dict(rule.labels), dict(rule.annotations)
    assert labels["severity"] in ("page", "warning")
    wanted = {"summary", "description", "causes", "query", "remedy", "runbook"}
    assert wanted <= set(annotations) <= wanted | {"response", "response_mode", "response_target"}
    assert annotations.get("response", "drain_replica") in STANDING
    assert "$value" in annotations["description"]
    parse(annotations["query"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_alert_has_a_runbook_page(rule: AlertRule):
    page = (ROOT / dict(rule.annotations)["runbook"]).read_text(encoding="utf-8")
    assert page.startswith(f"# {rule.name}\n")
    for heading in ("## Likely causes", "## First query", "## Steps", "## Remedy"):
        assert f"\n{heading}\n" in page
    assert "\n1. " in page


def test_no_runbook_page_is_left_without_its_alert():
    pages = {path.stem for path in (ROOT / "alerts" / "runbooks").glob("*.md")}
    assert pages == {rule.name for rule in RULES}


def test_every_alert_is_seen_to_fire_in_a_test():
    shown = {
        case.name
        for path in TESTS
        for test in read_test_file(path.read_text(), str(path)).tests
        for case in test.alerts
        if case.expected
    }
    assert shown == {rule.name for rule in RULES}


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_tests_of_the_packs_hold(path: Path):
    assert run_test_file(read_test_file(path.read_text(), str(path))) == []


def test_a_broken_pack_fails_its_test(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    for pack in packs():
        (tmp_path / pack.name).write_text(pack.read_text().replace("> 0.95", "> 0.99"))
    path = tmp_path / "tests" / "kv.yml"
    path.write_text((PACKS_DIR / "tests" / "kv.yml").read_text())
    failures = run_test_file(read_test_file(path.read_text(), str(path)), Engine())
    assert {failure.test.split()[0] for failure in failures} == {"KVCacheNearlyFull"}


@pytest.mark.peer
def test_promtool_says_that_the_tests_of_the_packs_hold(promtool: Path):
    done = subprocess.run([promtool, "test", "rules", *TESTS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(TESTS)


@pytest.mark.peer
def test_promtool_accepts_every_pack(promtool: Path):
    done = subprocess.run([promtool, "check", "rules", *packs()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", done.stdout)) == len(packs())


@pytest.mark.parametrize("path", neutral_packs(), ids=lambda path: path.stem)
def test_the_packs_are_what_the_neutral_packs_render_to(path: Path):
    committed = (PACKS_DIR / path.name).read_text()
    head, _, body = committed.partition("\n")
    rendered = render(path.read_text(), str(path), vocabulary(*re.findall(r"--dialect (\w+)", head)))
    assert rendered.left_out == []
    assert emit(rendered.groups) == body, "loadline alerts render --output alerts/packs"


@pytest.mark.parametrize("engine", ["vllm", "loadline"])
def test_rules_for_one_engine_hold_no_other_ones_names(engine: str):
    text = "".join(
        emit(render(path.read_text(), str(path), vocabulary(engine, "scrape")).groups) for path in neutral_packs()
    )
    assert not re.search("DCGM_|" + ("(?<!:)loadline_" if engine == "vllm" else "vllm:"), text)
    for alert in ("HighTTFT", "KVCacheNearlyFull", "AnswersCutShort", "KVHeadroomLow", "ReplicaIdle", "TargetDown"):
        assert f"alert: {alert}\n" in text


@pytest.mark.peer
def test_rules_for_one_dialect_are_valid_for_promtool(promtool: Path, tmp_path: Path):
    files = []
    for engine in DIALECTS:
        done = CliRunner().invoke(app, ["render", "--dialect", engine, "--output", str(tmp_path / engine)])
        assert done.exit_code == 0, (engine, done.output)
        files += sorted((tmp_path / engine).glob("*.yml"))
        read = [load_rule_file(path) for path in sorted((tmp_path / engine).glob("*.yml"))]
        assert {finding.code for finding in lint(read)} <= {"not-exposed-by-default"}, engine
    checked = subprocess.run([promtool, "check", "rules", *files], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_what_is_left_out_is_said_with_the_reason():
    done = CliRunner().invoke(app, ["render", "--dialect", "vllm"])
    (hot,) = [line for line in done.stderr.splitlines() if line.startswith("left out: GPUHot: ")]
    assert hot.startswith("left out: GPUHot: signal gpu_temperature: not exposed")
    assert "; add --dialect amd or dcgm or" in hot
    assert "left out: GPURowRemapFailed: no dialect asked for has DCGM_FI_DEV_ROW_REMAP_FAILURE" in done.stderr
    assert read_rule_file(done.stdout, "stdout").rules


RULE = "groups: [{name: g, rules: [{alert: A, expr: '%s'}]}]"


@pytest.mark.parametrize(
    ("expr", "reason"),
    [
        ("${quantil ttft}", "no builder is called quantil; allowed are quantile, rate"),
        ("${quantile ttft}", "n.yml:1:45: ${quantile ttft}: 'q'"),
        ("${quantile speed q=0.9}", "no signal is called 'speed'"),
        ("${quantile ttft q=0.9 windw=5m}", "windw"),
        ("${quantile ttft", "a placeholder looks like ${quantile ttft q=0.95 window=5m by=pool}"),
    ],
)
def test_a_bad_placeholder_is_told_with_its_place(expr: str, reason: str):
    with pytest.raises(DocumentError, match=re.escape(reason)):
        render(RULE % expr, "n.yml", vocabulary("vllm"))


def test_a_rendered_rule_must_be_valid():
    with pytest.raises((RuleFileError, DocumentError)):
        render(RULE % "${rate requests window=often}", "n.yml", vocabulary("vllm"))
