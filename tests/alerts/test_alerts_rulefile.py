import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.errors import RuleFileError
from alerts.rule import AlertRule, RecordRule
from alerts.rulefile import read_rule_file
from collector.model.durations import format_duration, parse_duration_ms

WHOLE = """
groups:
  - name: service
    interval: 1m30s
    limit: 5
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
        labels: {team: serving}
      - alert: Down
        expr: up == 0
        for: 5m
        keep_firing_for: 10m
        labels: {severity: page}
        annotations:
          summary: "{{ $labels.instance }} is down"
"""


def problems(text: str) -> list[str]:
    with pytest.raises(RuleFileError) as caught:
        read_rule_file(text, "rules/slo.yml")
    return [str(problem) for problem in caught.value.problems]


def rule(fields: str) -> str:
    return f"groups:\n  - name: slo\n    rules:\n      - {fields}\n"


def test_a_whole_file_is_read_as_values():
    (group,) = read_rule_file(WHOLE, "a.yml").groups
    assert (group.name, group.file, group.interval_s, group.limit) == ("service", "a.yml", 90.0, 5)
    record, alert = group.rules
    assert record == RecordRule("job:up:sum", "sum by (job) (up)", (("team", "serving"),), line=7)
    assert alert == AlertRule(
        "Down", "up == 0", 300.0, 600.0, (("severity", "page"),), (("summary", "{{ $labels.instance }} is down"),), 10
    )


@pytest.mark.parametrize("text", ["", "groups:\n", "groups: []\n", "# only a comment\n"])
def test_a_file_without_groups_has_no_rules(text: str):
    assert read_rule_file(text, "a.yml").rules == ()


def test_a_bad_duration_is_told_with_its_place_and_what_one_looks_like():
    text = rule("alert: HighTTFT\n        expr: up\n        for: 5mins")
    assert problems(text) == ['rules/slo.yml:6:14: alert "HighTTFT": for is "5mins"; a duration looks like 5m or 1h30m']


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (rule("alert: A\n        expr: up\n        labls: {}"), 'field "labls" is unknown; allowed are record, alert'),
        (rule("alert: A\n        expr: up ==\n"), 'alert "A": expr does not parse'),
        (rule("alert: A"), "field 'expr' is missing"),
        (rule("alert: A\n        record: b\n        expr: up"), "has both of record and alert"),
        (rule("expr: up"), "has neither of record and alert"),
        (rule("record: a b\n        expr: up"), "no metric can be called so"),
        (rule("record: a\n        expr: up\n        for: 1m"), "for is for alerts only"),
        (rule("alert: A\n        expr: up\n        labels: {a-b: c}"), '"a-b" cannot be a label'),
        (rule("alert: A\n        expr: up\n        labels: {__name__: c}"), '"__name__" cannot be a label'),
        (rule("alert: A\n        expr: up\n        annotations: {s: '{{ $labls }}'}"), 'variable "$labls" is not'),
        (rule("alert: A\n        expr: up\n        annotations: {s: '{{ nope 1 }}'}"), 'function "nope" is not'),
        (rule("alert: A\n        expr: up\n        for: [1]"), "for is a list; it must be a text"),
        ("groups:\n  - rules: []\n", "field 'name' is missing"),
        ("groups:\n  - name: a\n  - name: a\n", 'group "a" appears twice'),
        ("groups:\n  - name: a\n    limit: x\n", "must be a whole number"),
        ("groups: 3\n", 'groups is "3"; it must be a list'),
        ("groups:\n  - name: a\n    name: b\n", "field 'name' appears twice"),
        ("groups:\n  - {name: a, rules: [*x]}\n", "not YAML: found undefined alias"),
        ("groups: [\n", "not YAML"),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str):
    (problem,) = problems(text)
    assert reason in problem
    assert problem.startswith("rules/slo.yml:")


@pytest.mark.parametrize("text", ["groups: [null]", "groups: [{name: g, rules: [null]}]"])
def test_an_empty_entry_is_refused_though_promtool_lets_it_pass(text: str):
    (problem,) = problems(text)
    assert "is empty; it must be a mapping" in problem


def test_every_problem_of_a_file_is_found_at_once_in_the_order_of_lines():
    text = rule("alert: A\n        expr: up ==\n        for: soon\n      - record: 9\n        expr: (")
    assert [problem.split(":")[1] for problem in problems(text)] == ["5", "6", "7", "8"]


def test_rules_with_the_same_name_and_labels_are_remarked_upon():
    text = rule("alert: A\n        expr: up\n      - alert: A\n        expr: up == 0")
    (warning,) = read_rule_file(text, "a.yml").warnings
    assert warning.startswith('a.yml:6:1: "A" has the same name and labels as the rule in line 4')


def test_labels_of_a_group_stand_under_those_of_its_rules():
    text = "groups:\n  - name: g\n    labels: {a: g, b: g}\n    rules:\n      - {record: m, expr: up, labels: {b: r}}\n"
    (group,) = read_rule_file(text, "a.yml").groups
    assert group.rules[0].labels == (("a", "g"), ("b", "r"))


@pytest.mark.parametrize(
    ("text", "duration_ms"),
    [("5m", 300_000), ("1h30m", 5_400_000), ("0", 0), ("500ms", 500), ("1d", 86_400_000), ("1y", 31_536_000_000)],
)
def test_durations_are_read(text: str, duration_ms: int):
    assert parse_duration_ms(text) == duration_ms


@pytest.mark.parametrize("text", ["", "5", "5 m", "5mins", "30m1h", "-5m", "1.5h", "m"])
def test_what_is_no_duration_is_none(text: str):
    assert parse_duration_ms(text) is None


@given(st.integers(min_value=0, max_value=10**13))
def test_a_duration_written_is_read_back(duration_ms: int):
    assert parse_duration_ms(format_duration(duration_ms)) == duration_ms


@given(st.text(max_size=200) | st.from_regex(r"(groups|rules|alert|expr|- |: |\n|  |\[|\{|&a|\*a|\"|x){0,40}"))
def test_any_text_is_read_or_refused_with_a_place(text: str):
    try:
        read_rule_file(text, "f.yml")
    except RuleFileError as error:
        assert all(problem.path == "f.yml" and problem.line >= 1 for problem in error.problems)
