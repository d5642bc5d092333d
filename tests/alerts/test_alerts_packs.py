"""Every pack alert fires on data that shows its trouble, in each engine's own names, and on nothing else."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from alerts.group import Group
from alerts.rule import AlertRule
from alerts.rulefile import load_rule_file, packs
from alerts.writeback import Writeback
from collector.promql import parse, selectors
from collector.signals import series_known

STEP_S = 30
STEPS = 60
AT_MINUTE = 25

BUCKETS = "{series}_bucket{{model_name='m',instance='i',le='{le}'}}"


def slow(family: str, promised: str, beyond: str) -> dict[str, str]:
    """A histogram all of whose observations lie between ``promised`` and ``beyond`` seconds."""
    growth = {promised: "0+0", beyond: "0+10", "+Inf": "0+10"}
    return {BUCKETS.format(series=family, le=bound): rise for bound, rise in growth.items()}


M = "{model_name='m',instance='i',job='j'}"
GPU = "{gpu='0',instance='i'}"

# (alert, what shows the trouble) -> series in promtool's notation, each for 60 steps of 30 s
TROUBLES: dict[tuple[str, str], dict[str, str]] = {
    ("HighTTFT", "loadline"): slow("loadline_time_to_first_token_seconds", "0.8", "1.0"),
    ("HighTTFT", "vllm"): slow("vllm:time_to_first_token_seconds", "0.75", "2.5"),
    ("HighITL", "loadline"): slow("loadline_inter_token_latency_seconds", "0.05", "0.075"),
    ("HighITL", "vllm"): slow("vllm:inter_token_latency_seconds", "0.05", "0.075"),
    ("HighErrorRatio", "loadline"): {
        "loadline_request_errors_total{model_name='m',reason='step_failed'}": "0+1",
        "loadline_request_success_total{model_name='m',finished_reason='stop'}": "0+50",
    },
    ("HighErrorRatio", "vllm"): {
        "vllm:request_success_total{model_name='m',finished_reason='error'}": "0+1",
        "vllm:request_success_total{model_name='m',finished_reason='stop'}": "0+50",
    },
    ("EngineStalled", "loadline"): {
        f"loadline_num_requests_running{M}": "3+0",
        f"loadline_step_time_seconds_count{M}": "100+0",
    },
    ("EngineStalled", "vllm"): {
        f"vllm:num_requests_running{M}": "3+0",
        f"vllm:iteration_tokens_total_count{M}": "100+0",
    },
    ("QueueGrowing", "loadline"): {f"loadline_num_requests_waiting{M}": "20+1"},
    ("QueueGrowing", "vllm"): {f"vllm:num_requests_waiting{M}": "20+1"},
    ("TurningRequestsAway", "loadline"): {
        "loadline_requests_rejected_total{model_name='m',reason='queue_full'}": "0+1"
    },
    ("TurningRequestsAway", "vllm"): {"vllm:admission_rejections_total{model_name='m',reason='x'}": "0+1"},
    ("KVCacheNearlyFull", "loadline"): {f"loadline_kv_cache_usage_ratio{M}": "0.97+0"},
    ("KVCacheNearlyFull", "vllm"): {f"vllm:kv_cache_usage_perc{M}": "0.97+0"},
    ("KVCacheNearlyFull", "vllm of old"): {f"vllm:gpu_cache_usage_perc{M}": "0.97+0"},
    ("RequestsPreempted", "loadline"): {f"loadline_preemptions_total{M}": "0+5"},
    ("RequestsPreempted", "vllm"): {f"vllm:num_preemptions_total{M}": "0+5"},
    ("TargetDown", "scrape"): {"up{job='j',instance='i'}": "0+0"},
    ("ScrapeSlow", "scrape"): {"scrape_duration_seconds{job='j',instance='i'}": "3+0"},
    ("ScrapeEmpty", "scrape"): {
        "up{job='j',instance='i'}": "1+0",
        "scrape_samples_scraped{job='j',instance='i'}": "0+0",
    },
    ("NoEngineSeen", "nothing"): {"up{job='j',instance='i'}": "1+0"},
    ("HostMemoryNearlyFull", "host"): {
        "loadline_host_memory_used_bytes{instance='i'}": "96+0",
        "loadline_host_memory_total_bytes{instance='i'}": "100+0",
    },
    ("GPUHot", "nvml"): {f"loadline_gpu_temperature_celsius{GPU}": "90+0"},
    ("GPUHot", "dcgm"): {f"DCGM_FI_DEV_GPU_TEMP{GPU}": "90+0"},
    ("GPUHot", "dcgm of 4.9"): {f"DCGM_FI_DEV_GPU_TEMP_CELSIUS{GPU}": "90+0"},
    ("GPUMemoryNearlyFull", "nvml"): {
        f"loadline_gpu_memory_used_bytes{GPU}": "99+0",
        f"loadline_gpu_memory_total_bytes{GPU}": "100+0",
    },
    ("GPUMemoryNearlyFull", "dcgm"): {f"DCGM_FI_DEV_FB_USED{GPU}": "99+0", f"DCGM_FI_DEV_FB_FREE{GPU}": "1+0"},
    ("GPUMemoryNearlyFull", "dcgm of 4.9"): {
        f"DCGM_FI_DEV_FB_USED_BYTES{GPU}": "99+0",
        f"DCGM_FI_DEV_FB_CAPACITY_BYTES{GPU}": "100+0",
    },
}
HEALTHY = {
    **{BUCKETS.format(series="vllm:time_to_first_token_seconds", le=le): "0+10" for le in ("0.5", "+Inf")},
    **{BUCKETS.format(series="loadline_inter_token_latency_seconds", le=le): "0+10" for le in ("0.01", "+Inf")},
    "vllm:request_success_total{model_name='m',finished_reason='error'}": "0+0",
    "vllm:request_success_total{model_name='m',finished_reason='stop'}": "0+50",
    f"loadline_num_requests_running{M}": "3+0",
    f"loadline_step_time_seconds_count{M}": "100+7",
    f"loadline_num_requests_waiting{M}": "20+0",
    f"loadline_kv_cache_usage_ratio{M}": "0.5+0",
    f"loadline_preemptions_total{M}": "4+0",
    "up{job='j',instance='i'}": "1+0",
    "scrape_samples_scraped{job='j',instance='i'}": "100+0",
    f"loadline_gpu_temperature_celsius{GPU}": "60+0",
}
ENGINE_PRESENT = {"loadline_num_requests_running{model_name='other',instance='o'}": "0+0"}

RULES = [rule for path in packs() for rule in load_rule_file(path).rules]


def data_of(case: tuple[str, str]) -> dict[str, str]:
    return TROUBLES[case] if case[0] == "NoEngineSeen" else TROUBLES[case] | ENGINE_PRESENT


def test_every_alert_of_the_packs_has_its_trouble_here():
    assert {rule.name for rule in RULES} == {alert for alert, _ in TROUBLES}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_expression_parses_and_every_name_in_it_is_known(rule: AlertRule):
    names = {selector.name for selector in selectors(parse(rule.expr))}
    assert names
    assert names <= series_known()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_alert_says_how_bad_it_is_what_was_seen_and_what_to_do(rule: AlertRule):
    labels, annotations = dict(rule.labels), dict(rule.annotations)
    assert labels["severity"] in ("page", "warning")
    assert set(annotations) == {"summary", "description", "runbook"}
    assert "$value" in annotations["description"]
    assert len(annotations["runbook"]) > 40


def firing(series: dict[str, str], memory_source) -> dict[str, list]:
    """Alerts of all packs that fire at the end, by name."""
    source = memory_source(series, STEP_S, STEPS)
    groups = [
        Group(group, source, Writeback(source.write), interval_s=STEP_S)
        for path in packs()
        for group in load_rule_file(path).groups
    ]
    for step in range(AT_MINUTE * 60 // STEP_S + 1):
        for group in groups:
            group.evaluate(step * STEP_S)
    rules = [rule for group in groups for rule in group.status.rules]
    assert {rule.health for rule in rules} == {"ok"}, [rule.error for rule in rules if rule.error]
    return {rule.rule.name: rule.active for rule in rules if rule.state == "firing"}


@pytest.mark.parametrize("case", TROUBLES, ids=" on ".join)
def test_an_alert_fires_on_its_trouble_and_no_other_does(case: tuple[str, str], memory_source):
    fired = firing(data_of(case), memory_source)
    assert list(fired) == [case[0]]
    (alert,) = fired[case[0]]
    texts = dict(alert.annotations)
    assert "error expanding" not in str(texts)
    assert "{{" not in str(alert.labels)
    assert not re.search(r"\(\)|: :|^ ", texts["summary"])


def test_a_healthy_fleet_is_quiet(memory_source):
    assert firing(HEALTHY, memory_source) == {}


@pytest.mark.peer
def test_promtool_accepts_every_pack(promtool: Path):
    done = subprocess.run([promtool, "check", "rules", *packs()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"SUCCESS: \d+ rules found", done.stdout)) == len(packs())


@pytest.mark.peer
def test_promtool_sees_the_same_alerts_fire(promtool: Path, tmp_path: Path):
    cases = [(name, data_of((name, kind))) for name, kind in TROUBLES] + [("", HEALTHY)]
    tests = [
        {
            "interval": f"{STEP_S}s",
            "input_series": [{"series": key, "values": f"{rise}x{STEPS}"} for key, rise in series.items()],
            "promql_expr_test": [
                {
                    "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{AT_MINUTE}m",
                    "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name else [],
                }
            ],
        }
        for name, series in cases
    ]
    suite = {"rule_files": [str(path) for path in packs()], "evaluation_interval": f"{STEP_S}s", "tests": tests}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
