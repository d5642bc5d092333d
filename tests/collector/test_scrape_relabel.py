"""What each relabelling action does, and which rules are refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import ConfigError
from collector.scrape.configuration import parse_configuration
from collector.scrape.relabel import ACTIONS, Rule, expand, relabel

LABELS = {"a": "one", "b": "two", "env": "Prod-EU", "empty": ""}


def changed(**rule: object) -> dict[str, str] | None:
    sources = rule.pop("source_labels", ())
    return relabel(LABELS, [Rule(source_labels=tuple(sources), **rule)])


PLAIN = {"a": "one", "b": "two", "env": "Prod-EU"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"source_labels": ["a"], "target_label": "c"}, PLAIN | {"c": "one"}),
        ({"source_labels": ["a", "b"], "target_label": "c"}, PLAIN | {"c": "one;two"}),
        ({"source_labels": ["a"], "regex": "o", "target_label": "c"}, PLAIN),
        ({"source_labels": ["none"], "target_label": "a"}, {"b": "two", "env": "Prod-EU"}),
        ({"regex": "(.*)", "target_label": "c", "replacement": "fixed"}, PLAIN | {"c": "fixed"}),
        (
            {"source_labels": ["env"], "regex": "(.*)-(.*)", "target_label": "x_$1", "replacement": "${2}y"},
            PLAIN | {"x_Prod": "EUy"},
        ),
        ({"source_labels": ["env"], "regex": "(.*)", "target_label": "${1}"}, PLAIN),
        ({"action": "keep", "source_labels": ["a"], "regex": "on."}, PLAIN),
        ({"action": "keep", "source_labels": ["a"], "regex": "on"}, None),
        ({"action": "drop", "source_labels": ["a"], "regex": "on"}, PLAIN),
        ({"action": "drop", "source_labels": ["none"], "regex": ""}, None),
        ({"action": "keepequal", "source_labels": ["a"], "target_label": "b"}, None),
        ({"action": "dropequal", "source_labels": ["a"], "target_label": "b"}, PLAIN),
        ({"action": "dropequal", "source_labels": ["none"], "target_label": "empty"}, None),
        ({"action": "labelmap", "regex": "(.)", "replacement": "k_$1"}, PLAIN | {"k_a": "one", "k_b": "two"}),
        ({"action": "labeldrop", "regex": "[ab]"}, {"env": "Prod-EU"}),
        ({"action": "labelkeep", "regex": "[ab]"}, {"a": "one", "b": "two"}),
        ({"action": "lowercase", "source_labels": ["env"], "target_label": "env"}, PLAIN | {"env": "prod-eu"}),
        ({"action": "uppercase", "source_labels": ["env"], "target_label": "up"}, PLAIN | {"up": "PROD-EU"}),
    ],
)
def test_an_action_does_what_it_does_in_prometheus(rule: dict[str, object], expected: dict[str, str] | None) -> None:
    assert changed(**rule) == expected


def test_hashmod_is_the_one_of_prometheus() -> None:
    # TestRelabel of Prometheus: md5 of "foo" modulo 1000.
    rule = Rule(action="hashmod", source_labels=("c",), target_label="d", separator=";", modulus=1000)
    assert relabel({"a": "foo", "b": "bar", "c": "baz"}, [rule]) == {"a": "foo", "b": "bar", "c": "baz", "d": "976"}


def test_rules_act_one_after_the_other_until_one_drops() -> None:
    rules = [
        Rule(source_labels=("a",), target_label="__tmp"),
        Rule(source_labels=("__tmp",), regex="one", action="drop"),
        Rule(target_label="never", replacement="x"),
    ]
    assert relabel(LABELS, rules[:1]) == PLAIN | {"__tmp": "one"}
    assert relabel(LABELS, rules) is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$1-$2", "Prod-"),
        ("$$1", "$1"),
        ("${1}x", "Prodx"),
        ("$1x", ""),
        ("$01", ""),
        ("$", "$"),
        ("${n}", "Prod"),
        ("$9", ""),
    ],
)
def test_templates_expand_as_in_go(template: str, expected: str) -> None:
    match = Rule(regex="(?P<n>.*)-.*").match("Prod-EU")
    assert match is not None
    assert expand(template, match) == expected


@given(
    st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), st.text(max_size=6)),
    st.sampled_from(sorted(ACTIONS)),
)
def test_no_rule_leaves_an_empty_label(labels: dict[str, str], action: str) -> None:
    rule = Rule(action=action, source_labels=("a", "b"), regex="(.*)", target_label="a", replacement="x$1", modulus=7)
    after = relabel(labels, [rule])
    assert after is None or all(after.values())
    assert relabel(after or {}, []) == (after or {})


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("action: explode", 'f.yml:4:13: action: "explode"; allowed: replace, keep'),
        ("regex: '('", 'f.yml:4:12: regex: "("; a regular expression is expected'),
        ("action: replace", "f.yml:4:5: target_label: is absent; replace needs one"),
        ("{action: hashmod, target_label: a}", "f.yml:4:5: modulus: is absent; hashmod needs one above 0"),
        ("target_label: a-b", 'f.yml:4:19: target_label: "a-b"; a label name'),
        ("{action: lowercase, target_label: $1}", 'target_label: "$1"; a label name'),
        ("{action: labelmap, replacement: 'a b'}", 'replacement: "a b"; labelmap makes label names'),
        ("{action: labeldrop, regex: a, source_labels: [b]}", "source_labels: is set; labeldrop takes regex"),
        ("{action: keepequal, target_label: a, regex: b}", "regex: is set; keepequal takes source_labels"),
        ("source_label: [a]", '"source_label" is not understood; allowed: source_labels'),
        ("source_labels: a", 'source_labels: "a"; it is a list'),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_its_place(rule: str, fault: str) -> None:
    text = f"scrape_configs:\n- job_name: a\n  relabel_configs:\n  - {rule}\n"
    with pytest.raises(ConfigError) as caught:
        parse_configuration(text, "f.yml", Path())
    assert fault in str(caught.value)
