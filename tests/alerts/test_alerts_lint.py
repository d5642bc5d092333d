from pathlib import Path

import pytest

from alerts.lint import Finding, lint
from alerts.rulefile import load_rule_file, packs, read_rule_file
from collector.promql import parse

TTFT = "vllm:time_to_first_token_seconds_bucket"


def findings(expr: str, more: str = "") -> list[Finding]:
    text = f"groups:\n  - name: g\n    interval: 1m\n    rules:\n      - alert: A\n        expr: '{expr}'\n{more}"
    return lint([read_rule_file(text, "a.yml")])


@pytest.mark.parametrize(
    ("expr", "code", "mended"),
    [
        ("vllm:prompt_tokens_total > 0", "counter-without-rate", "rate(vllm:prompt_tokens_total[5m]) > 0"),
        ("sum(vllm:prompt_tokens_total) > 0", "counter-without-rate", "sum(rate(vllm:prompt_tokens_total[5m])) > 0"),
        (f"histogram_quantile(0.9, sum by (pod) (rate({TTFT}[5m]))) > 1", "quantile-without-le",
         f"histogram_quantile(0.9, sum by (pod, le) (rate({TTFT}[5m]))) > 1"),
        (f"histogram_quantile(0.9, sum without (le, pod) (rate({TTFT}[5m]))) > 1", "quantile-without-le",
         f"histogram_quantile(0.9, sum without (pod) (rate({TTFT}[5m]))) > 1"),
        ("vllm:num_requests_swapped > 0", "unknown-metric", "vllm:num_requests_waiting > 0"),
        ("vllm:kv_cache_usage > 0.9", "unknown-metric", "vllm:kv_cache_usage_perc > 0.9"),
        ("vllm:time_to_first_token_seconds > 1", "unknown-metric", None),
        ("vllm:kv_cache_usage_perc > 90", "percent-of-ratio", "vllm:kv_cache_usage_perc > 0.9"),
        ("95 < max by (instance) (loadline_kv_cache_usage_ratio)", "percent-of-ratio",
         "0.95 < max by (instance) (loadline_kv_cache_usage_ratio)"),
        ("avg_over_time(loadline_gpu_utilization_ratio[1h]) < 10", "percent-of-ratio",
         "avg_over_time(loadline_gpu_utilization_ratio[1h]) < 0.1"),
        ("DCGM_FI_DEV_GPU_UTIL < 0.05", "ratio-of-percent", "DCGM_FI_DEV_GPU_UTIL < 5"),
        ("rate(vllm:num_requests_waiting[5m]) > 1", "rate-of-gauge", "deriv(vllm:num_requests_waiting[5m]) > 1"),
        ("increase(up[5m]) > 1", "rate-of-gauge", "delta(up[5m]) > 1"),
        ("delta(vllm:prompt_tokens_total[5m]) < 1", "delta-of-counter",
         "increase(vllm:prompt_tokens_total[5m]) < 1"),
        ("deriv(vllm:prompt_tokens_total[5m]) < 1", "delta-of-counter", "rate(vllm:prompt_tokens_total[5m]) < 1"),
        ("predict_linear(vllm:prompt_tokens_total[5m], 60) < 1", "delta-of-counter", None),
        (f"avg by (model_name) (histogram_quantile(0.9, rate({TTFT}[5m]))) > 1", "averaged-quantile",
         f"histogram_quantile(0.9, sum by (model_name, le) (rate({TTFT}[5m]))) > 1"),
        (f"avg(histogram_quantile(0.9, sum by (le, pod) (rate({TTFT}[5m])))) > 1", "averaged-quantile",
         f"histogram_quantile(0.9, sum by (le) (rate({TTFT}[5m]))) > 1"),
        (f"avg_over_time(histogram_quantile(0.9, rate({TTFT}[5m]))[1h:]) > 1", "averaged-quantile", None),
        ('avg(up{quantile="0.9"}) > 1', "averaged-quantile", None),
        ("rate(vllm:estimated_flops_per_gpu_total[5m]) > 1", "not-exposed-by-default", None),
    ],
)  # fmt: skip
def test_what_is_commonly_wrong_is_found_and_mended(expr: str, code: str, mended: str | None):
    (finding,) = findings(expr)
    assert (finding.code, finding.mended) == (code, mended)
    if mended is not None:
        parse(mended)
        assert findings(mended) == []


def test_raw_buckets_in_a_quantile_are_found_as_such_and_as_counters():
    found = findings(f"histogram_quantile(0.9, {TTFT}) > 1")
    assert [one.code for one in found] == ["quantile-without-rate", "counter-without-rate"]
    assert {one.mended for one in found} == {f"histogram_quantile(0.9, rate({TTFT}[5m])) > 1"}


@pytest.mark.parametrize(
    "expr",
    [
        "up == 0",
        "rate(vllm:prompt_tokens_total[5m]) > 0",
        "count(vllm:prompt_tokens_total) > 0",
        "absent(vllm:prompt_tokens_total)",
        "changes(vllm:prompt_tokens_total[1h]) > 0",
        "max_over_time(rate(vllm:prompt_tokens_total[5m])[1h:]) > 0",
        f"histogram_quantile(0.9, sum by (le) (rate({TTFT}[5m]))) > 1",
        f"histogram_quantile(0.9, sum without (pod) (rate({TTFT}[5m]))) > 1",
        f"max(histogram_quantile(0.9, rate({TTFT}[5m]))) > 1",
        "vllm:kv_cache_usage_perc > 0.9",
        "sum(vllm:kv_cache_usage_perc) > 90",
        "DCGM_FI_DEV_GPU_UTIL < 5",
        'ALERTS{alertstate="firing"} == 1',
    ],
)
def test_what_is_right_is_left_alone(expr: str):
    assert findings(expr) == []


def annotated(template: str, for_: str = "5m") -> str:
    return f"        for: {for_}\n        annotations: {{summary: '{template}'}}\n"


@pytest.mark.parametrize(
    ("expr", "template", "code"),
    [
        ("sum by (job) (up) == 0", "{{ $labels.instance }} is down", ["label-not-given"]),
        ("sum by (job) (up) == 0", "{{ .Labels.job }} is down", []),
        ("up == 0", "{{ $labels.anything }} is down", []),
        ("absent(up)", "{{ $labels.job }} is gone", ["absent-without-label"]),
        ('absent(up{job="a"})', "{{ $labels.job }} is gone", []),
        ("sum by (job) (up) == 0 or sum by (instance) (up) == 0", "{{ $labels.job }} {{ $labels.instance }}", []),
        (f"histogram_quantile(0.9, sum by (job, le) (rate({TTFT}[5m]))) > 1", "{{ $labels.le }}", ["label-not-given"]),
    ],
)
def test_a_template_may_only_name_labels_that_the_expression_gives(expr: str, template: str, code: list[str]):
    assert [finding.code for finding in findings(expr, annotated(template))] == code


def test_a_for_below_the_interval_is_told():
    (finding,) = findings("up == 0", annotated("x", "30s"))
    assert finding.code == "for-below-interval"


@pytest.mark.parametrize(
    ("expr", "line", "column"),
    [
        ("vllm:kv_cache_usage > 0.9", 4, 15),
        ("'up == 0 and vllm:kv_cache_usage > 0.9'", 4, 28),
        ("|\n          up == 0\n            and vllm:kv_cache_usage > 0.9", 6, 17),
        (">-\n\n          up == 0\n          and vllm:kv_cache_usage > 0.9", 7, 15),
    ],
)
def test_a_finding_has_the_place_of_the_word_it_is_about(expr: str, line: int, column: int):
    text = f"groups:\n  - name: g\n    rules:\n      - expr: {expr}\n        alert: A\n"
    (finding,) = lint([read_rule_file(text, "a.yml")])
    assert (finding.line, finding.column) == (line, column)
    assert text.splitlines()[line - 1][column - 1 :].startswith("vllm:kv_cache_usage")


def test_a_finding_reads_in_one_breath():
    (finding,) = findings("vllm:kv_cache_usage > 0.9")
    assert str(finding) == (
        'a.yml:6:16: "A": no known engine or exporter has a series vllm:kv_cache_usage; did you mean '
        "vllm:kv_cache_usage_perc? [unknown-metric]\n    better: vllm:kv_cache_usage_perc > 0.9"
    )


def test_a_name_that_another_file_records_is_known():
    first = read_rule_file("groups: [{name: g, rules: [{record: 'job:up', expr: sum(up)}]}]", "a.yml")
    second = read_rule_file("groups: [{name: g, rules: [{alert: A, expr: 'job:up == 0'}]}]", "b.yml")
    assert lint([first, second]) == []
    assert len(lint([second])) == 1


@pytest.mark.parametrize("path", packs(), ids=lambda path: Path(path).stem)
def test_the_packs_have_no_remarks(path: Path):
    assert {finding.code for finding in lint([load_rule_file(path)])} <= {"not-exposed-by-default"}
