import pytest

from alerts.lint import lint
from alerts.rulefile import load_rule_file, packs, read_rule_file
from collector.signals import series_known


def codes(expr: str) -> list[str]:
    text = f"groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: '{expr}'\n"
    return [finding.code for finding in lint([read_rule_file(text, "a.yml")], series_known())]


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        ("up == 0", []),
        ("rate(vllm:generation_tokens_total[5m]) > 0", []),
        ("vllm:generation_tokens_total > 0", ["counter-without-rate"]),
        ("sum(vllm:generation_tokens_total) > 0", ["counter-without-rate"]),
        ("count(vllm:generation_tokens_total) > 0", []),
        ("absent(vllm:generation_tokens_total)", []),
        ("changes(vllm:generation_tokens_total[1h]) > 0", []),
        ("histogram_quantile(0.9, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[5m]))) > 1", []),
        ("histogram_quantile(0.9, vllm:time_to_first_token_seconds_bucket) > 1",
         ["quantile-without-rate", "counter-without-rate"]),
        ("histogram_quantile(0.9, sum by (model_name) (rate(vllm:time_to_first_token_seconds_bucket[5m]))) > 1",
         ["quantile-without-le"]),
        ("histogram_quantile(0.9, sum without (le) (rate(vllm:time_to_first_token_seconds_bucket[5m]))) > 1",
         ["quantile-without-le"]),
        ("histogram_quantile(0.9, sum without (pod) (rate(vllm:time_to_first_token_seconds_bucket[5m]))) > 1", []),
        ("vllm:num_requests_swapped > 0", ["unknown-metric"]),
    ],
)  # fmt: skip
def test_what_is_commonly_wrong_is_found(expr: str, found: list[str]):
    assert codes(expr) == found


def test_a_stale_name_is_told_with_its_likely_successor_and_place():
    text = "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: vllm:kv_cache_usage > 0.9\n"
    (finding,) = lint([read_rule_file(text, "a.yml")], series_known())
    assert str(finding) == (
        'a.yml:4: "A": no known engine or exporter has a series vllm:kv_cache_usage; '
        "did you mean vllm:kv_cache_usage_perc? [unknown-metric]"
    )


def test_a_histograms_family_name_is_told_apart_from_its_series():
    text = "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: vllm:time_to_first_token_seconds > 1\n"
    (finding,) = lint([read_rule_file(text, "a.yml")], series_known())
    assert "is a histogram; its series are" in finding.message


def test_a_name_that_another_file_records_is_known():
    first = read_rule_file("groups: [{name: g, rules: [{record: 'job:up', expr: sum(up)}]}]", "a.yml")
    second = read_rule_file("groups: [{name: g, rules: [{alert: A, expr: 'job:up == 0'}]}]", "b.yml")
    assert lint([first, second], series_known()) == []
    assert len(lint([second], series_known())) == 1


def test_the_packs_have_no_remarks():
    assert lint([load_rule_file(path) for path in packs()], series_known()) == []
