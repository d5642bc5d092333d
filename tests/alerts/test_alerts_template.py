import contextlib
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alerts.errors import TemplateError
from alerts.template import AlertData, parse_template
from alerts.template.goformat import show_exponent, show_float
from collector.model.labels import from_mapping
from collector.model.series import Sample

DATA = AlertData({"instance": "node-1.example.org:9100", "pool": "llama-8b"}, 0.9532)

# (template, value, text); promtool gives the same texts, see below
CASES: list[tuple[str, float, str]] = [
    ("plain", 1, "plain"),
    ("{{ $labels.pool }} {{ .Labels.instance }}", 1, "llama-8b node-1.example.org:9100"),
    ("{{ $labels.absent }}|", 1, "|"),
    ("{{ $value }}", 0.9532, "0.9532"),
    ("{{ $value }}", 12345678, "1.2345678e+07"),
    ("{{ .Value }}", 1e21, "1e+21"),
    ("{{ .Value }}", 999999, "999999"),
    ("{{ .Value }}", 1000000, "1e+06"),
    ("{{ $value }}", 0.00001, "1e-05"),
    ("{{ $value }}", 3, "3"),
    ("{{ $value | humanize }}", 12345.678, "12.35k"),
    ("{{ $value | humanize }}", 0.00095, "950u"),
    ("{{ humanize $value }}", 0, "0"),
    ("{{ $value | humanize1024 }}", 1610612736, "1.5Gi"),
    ("{{ $value | humanizeDuration }}", 93784, "1d 2h 3m 4s"),
    ("{{ $value | humanizeDuration }}", 61, "1m 1s"),
    ("{{ $value | humanizeDuration }}", 0.8532, "853.2ms"),
    ("{{ $value | humanizeDuration }}", 12.3456, "12.35s"),
    ("{{ $value | humanizeDuration }}", -7200, "-2h 0m 0s"),
    ("{{ $value | humanizePercentage }}", 0.123456, "12.35%"),
    ("{{ $value | humanizeTimestamp }}", 1435065584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
    ('{{ printf "%.2f" $value }}', 1.239, "1.24"),
    ('{{ $value | printf "%6.1f|%s" }}', 1.25, "   1.2|%!s(MISSING)"),
    ('{{ printf "%d %s" $value "a" }}', 1, "%!d(float64=1) a"),
    (
        '{{ printf "%-6s|%06.2f|%+g|%5d|%q|%v|%%" "ab" $value 1.5 7 "c" true }}',
        3.14159,
        'ab    |003.14|+1.5|    7|"c"|true|%',
    ),
    ('{{ printf "%x %X %e %t" 255 "hi" $value false }}', 1500, "ff 6869 1.500000e+03 false"),
    ("{{ if gt $value 0.5 }}high{{ else }}low{{ end }}", 0.6, "high"),
    ("{{ if gt $value 0.9 }}a{{ else if gt $value 0.5 }}b{{ else }}c{{ end }}", 0.6, "b"),
    ("{{ if and (gt $value 0.1) (lt $value 0.9) }}in{{ end }}", 0.5, "in"),
    ('{{ if or (eq $labels.pool "x" "llama-8b") false }}yes{{ end }}', 0.5, "yes"),
    ("{{ if not $labels.absent }}none{{ end }}", 0.5, "none"),
    ("a {{- $labels.pool -}} b", 1, "allama-8bb"),
    ("a{{/* a remark */}}b {{- /* another */ -}} c", 1, "abc"),
    ("{{ range $k, $v := $labels }}{{ $k }}={{ $v }},{{ end }}", 1, "instance=node-1.example.org:9100,pool=llama-8b,"),
    ("{{ range $labels }}{{ . }};{{ end }}", 1, "node-1.example.org:9100;llama-8b;"),
    ("{{ with $labels.absent }}a{{ else }}b{{ end }}", 1, "b"),
    ("{{ with $x := $labels.pool }}{{ $x }}{{ . }}{{ end }}", 1, "llama-8bllama-8b"),
    ('{{ $x := "a" }}{{ if true }}{{ $x = "b" }}{{ end }}{{ $x }}', 1, "b"),
    ("{{ index $labels `pool` | toUpper }}", 1, "LLAMA-8B"),
    ('{{ title "hello world" }} {{ toLower "ABC" }}', 1, "Hello World abc"),
    ('{{ reReplaceAll "(.*)-(.*)" "$2 of $1" $labels.pool }}', 1, "8b of llama"),
    ('{{ if match "^llama" $labels.pool }}y{{ end }}', 1, "y"),
    ("{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}", 1, "node-1.example.org node-1:9100"),
    ("{{ len $labels.pool }} {{ len $labels }}", 1, "8 2"),
    ('{{ print "a" 1 2 "b" }}', 1, "a1 2b"),
    ('{{ html "<a>&\\"" }} {{ urlquery "a b&c" }}', 1, "&lt;a&gt;&amp;&#34; a+b%26c"),
    ("{{ $labels }}", 1, "map[instance:node-1.example.org:9100 pool:llama-8b]"),
    ('{{ "a\\tb" }}{{ `\\n` }}', 1, "a\tb\\n"),
    ("{{ 1.5 }} {{ 0x10 }} {{ true }}", 1, "1.5 16 true"),
]


def expanded(text: str, value: float = 1.0) -> str:
    return parse_template(text).expand(AlertData(DATA.labels, value))


@pytest.mark.parametrize(("text", "value", "wanted"), CASES)
def test_a_template_expands_as_in_go(text: str, value: float, wanted: str):
    assert expanded(text, float(value)) == wanted


@pytest.mark.peer
def test_promtool_expands_every_case_to_the_same_text(promtool: Path, tmp_path: Path):
    rules, tests = [], []
    for number, (text, value, wanted) in enumerate(CASES):
        expr = f'label_replace(vector({value!r}), "pool", "llama-8b", "", "")'
        expr = f'label_replace({expr}, "instance", "node-1.example.org:9100", "", "")'
        rules.append({"alert": f"Case{number}", "expr": expr, "annotations": {"text": text}})
        alert = {"exp_labels": dict(DATA.labels), "exp_annotations": {"text": wanted}}
        tests.append({"alertname": f"Case{number}", "eval_time": "1m", "exp_alerts": [alert]})
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    suite = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": [], "alert_rule_test": tests}],
    }
    (tmp_path / "test.yml").write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ $labls.x }}", 'variable "$labls" is not defined'),
        ("{{ foo }}", 'function "foo" is not defined'),
        ("{{ if }}x{{ end }}", "missing value"),
        ("{{ if true }}x", "not closed by {{end}}"),
        ("{{ $value", "is not closed"),
        ("{{ $value | }}", "missing value"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ (1 }}", 'a "(" is not closed'),
        ("{{ 1 ) }}", "unexpected ')'"),
        ("{{ define `a` }}{{ end }}", "is not supported"),
        ("{{ $value | 3 }}", "must be a function"),
        ("{{ # }}", "unexpected '#'"),
        ("{{ with $x := 1 }}{{ end }}{{ $x }}", 'variable "$x" is not defined'),
    ],
)
def test_a_template_that_cannot_be_parsed_says_why(text: str, reason: str):
    with pytest.raises(TemplateError, match=None) as caught:
        parse_template(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ if gt $value 10 }}{{ end }}", "incompatible types for comparison"),
        ("{{ humanize `x` }}", "is not a number"),
        ("{{ .Nothing }}", "there is no field .Nothing"),
        ("{{ $value.x }}", "has no field .x"),
        ("{{ humanize 1 2 }}", "humanize cannot take (1, 2)"),
        ('{{ query "up" }}', "there is no source to ask"),
        ("{{ $value 1 }}", "was given arguments"),
        ('{{ reReplaceAll "(" "" "a" }}', "does not compile"),
    ],
)
def test_a_template_that_cannot_be_expanded_says_why(text: str, reason: str):
    with pytest.raises(TemplateError) as caught:
        expanded(text)
    assert reason in str(caught.value)


def test_a_template_may_ask_the_source():
    def query(expr: str) -> list[Sample]:
        assert expr == "up"
        return [Sample(from_mapping({"instance": name}), 0, value) for name, value in (("b", 2.0), ("a", 1.5))]

    text = (
        '{{ with query "up" }}{{ . | first | value }}'
        '{{ range sortByLabel "instance" . }} {{ .Labels.instance }}={{ .Value }}{{ end }}{{ end }}'
    )
    assert parse_template(text).expand(DATA, query) == "2 a=1.5 b=2"


def test_a_text_that_grows_without_end_is_cut_off():
    labels = {f"l{number}": "x" * 1000 for number in range(100)}
    with pytest.raises(TemplateError, match="grows beyond"):
        parse_template("{{ range $labels }}{{ . }}{{ end }}").expand(AlertData(labels, 0))


@given(st.text(alphabet='{}$|().- "`:=labelsvueifnd0123456789,/*%', max_size=80))
def test_any_text_expands_or_is_refused(text: str):
    with contextlib.suppress(TemplateError):
        parse_template(text).expand(DATA)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_so_that_it_reads_back_unchanged(value: float):
    assert float(show_float(value)) == value
    assert float(show_exponent(value)) == value


@pytest.mark.parametrize(("value", "text"), [(1, "1e+00"), (0, "0e+00"), (0.05, "5e-02"), (123.4, "1.234e+02")])
def test_the_api_writes_values_as_go_does(value: float, text: str):
    assert show_exponent(float(value)) == text
