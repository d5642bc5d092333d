"""24 simulated hours of every pack: each alert fires when Prometheus 2.42's rule engine has it fire, and only then."""

import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from alerts.preview import look_back
from alerts.rule import AlertRule
from alerts.rulefile import load_rule_file, packs
from alerts.ruletest import SyntheticSource
from alerts.ruletest.notation import read_labels, read_values
from collector.model.labels import render
from collector.promql import Engine

Walk = Callable[..., str]
Grows = Callable[[int, int], str]

NEEDS_LONGER = {"KVFullWithinTwoWeeks", "SpendAboveUsual"}
"""Alerts that look at several days; alerts/packs/tests/growth.yml and spend.yml show them, for promtool too."""

DAY_STEPS = 24 * 60
EVERY_MINUTES = 5
HISTOGRAMS = {
    "time_to_first_token": ("0.5", "0.75", "1.0", "+Inf"),
    "inter_token_latency": ("0.05", "0.075", "+Inf"),
}


def day() -> dict[str, str]:
    """Series of a day of trouble, a point a minute, in promtool's notation; the same each time."""
    generator = random.Random(24)

    def walk(low: float, high: float, points: int = 96) -> str:
        stretch = DAY_STEPS // points
        return " ".join(f"{generator.uniform(low, high):.3f}x{stretch - 1}" for _ in range(points))

    def grows(low: int, high: int) -> str:
        total, words = 0.0, []
        for _ in range(48):  # fractions, so that no ratio lies on a threshold, where the last bit of a sum would decide
            growth = generator.randint(low, high) * generator.choice((0, 1.013, 1.017, 1.0023))
            words.append(f"{total:.6f}+{growth:.6f}x29")
            total += growth * 30
        return " ".join(words)

    series: dict[str, str] = {}
    for pool in ("a", "b"):
        own = f'model_name="{pool}",instance="{pool}1",job="engines"'
        for family, bounds in (
            ("time_to_first_token", ("0.5", "0.75", "1.0", "+Inf")),
            ("inter_token_latency", ("0.05", "0.075", "+Inf")),
        ):
            total = dict.fromkeys(bounds, 0)
            words: dict[str, list[str]] = {bound: [] for bound in bounds}
            for _ in range(48):
                rise = 0
                for bound in bounds:
                    rise += generator.randint(0, 9) if generator.random() < 0.6 else 0
                    words[bound].append(f"{total[bound]}+{rise}x29")
                    total[bound] += rise * 30
            for bound in bounds:
                series[f'vllm:{family}_seconds_bucket{{{own},le="{bound}"}}'] = " ".join(words[bound])
        series[f"vllm:kv_cache_usage_perc{{{own}}}"] = walk(0.7, 1.0)
        last_half_hour_less = slice(None, -2)
        running = walk(-3, 9).replace("-", "").split()[last_half_hour_less]
        series[f"vllm:num_requests_running{{{own}}}"] = " ".join(running)
        series[f"vllm:num_requests_waiting{{{own}}}"] = walk(0, 25)
        series[f"vllm:iteration_tokens_total_count{{{own}}}"] = grows(0, 2)
        series[f"vllm:num_preemptions_total{{{own}}}"] = grows(0, 6)
        for reason in ("stop", "length", "abort", "error"):
            rise = {"stop": 60, "length": 40, "abort": 12, "error": 2}[reason]
            series[f'vllm:request_success_total{{{own},finished_reason="{reason}"}}'] = grows(0, rise)
        series[f'up{{job="engines",instance="{pool}1"}}'] = " ".join(
            f"{int(generator.random() < 0.8)}x9" for _ in range(DAY_STEPS // 10)
        )
        series[f'scrape_samples_scraped{{job="engines",instance="{pool}1"}}'] = "0x400 90x1100"
        series[f'scrape_duration_seconds{{job="engines",instance="{pool}1"}}'] = walk(0, 4)
        series[f'DCGM_FI_DEV_GPU_TEMP{{gpu="0",instance="{pool}1"}}'] = walk(60, 95)
        series[f'DCGM_FI_DEV_XID_ERRORS{{gpu="0",instance="{pool}1"}}'] = "0x500 79x300 94x300 31x340"
    return series | _devices(generator, walk) | _gateway(generator, walk, grows) | _written_back(walk, grows)


def _devices(generator: random.Random, walk: Walk) -> dict[str, str]:
    """A GPU as Loadline's collector shows it: hot, held down, with errors of every class, idle for half of the day."""
    gpu = 'gpu="0",uuid="u",instance="host"'
    late = DAY_STEPS // 2
    series = {
        f"loadline_gpu_temperature_margin_celsius{{{gpu}}}": walk(0, 9),
        f'loadline_gpu_throttled{{{gpu},reason="hw_thermal_slowdown"}}': f"0x{late} 1x60 0x600",
        f"loadline_gpu_utilization_ratio{{{gpu}}}": f"0.01x{late + 200} 0.7x600",
        f"loadline_gpu_memory_used_bytes{{{gpu}}}": f"8e9x{late} 9.85e9x60 9.6e9x600",
        f"loadline_gpu_memory_total_bytes{{{gpu}}}": f"10e9x{DAY_STEPS}",
        f"loadline_gpu_row_remap_failed{{{gpu}}}": f"0x{late} 1x600",
        f"loadline_gpu_nvlink_errors_total{{{gpu}}}": f"0x{late} 0+3x60 180x600",
        f'loadline_gpu_ecc_errors_total{{{gpu},kind="uncorrected",counting="volatile"}}': f"0x{late} 2x700",
    }
    for xid in (79, 94, 74, 31):
        quiet = generator.randint(100, 1200)
        series[f'loadline_gpu_xid_errors_total{{{gpu},xid="{xid}"}}'] = f"0x{quiet} 1x{DAY_STEPS - quiet}"
    return series


def _gateway(generator: random.Random, walk: Walk, grows: Grows) -> dict[str, str]:
    """A gateway and an engine behind it that fails, queues and answers slowly for hours."""
    own = 'model_name="c",instance="c1",job="engines"'
    replica = 'replica="http://c1:8000"'
    series = {
        f"loadline_num_requests_waiting{{{own}}}": walk(0, 1500),
        f"loadline_num_requests_running{{{own}}}": "0x700 3x700",
        f'loadline_request_success_total{{{own},finished_reason="stop"}}': "0+7x600 4200+1x120 4320+7x800",
        f'loadline_request_errors_total{{{own},reason="internal"}}': "0x600 0+9x120 1080x800",
        f'loadline_requests_rejected_total{{{own},reason="queue_full"}}': grows(0, 3),
        f"loadline_iteration_tokens_count{{{own}}}": f"0+5x800 4000x60 4000+5x{DAY_STEPS}",
        f"loadline_gateway_replica_healthy{{{replica}}}": "1x610 0x90 1x800",
        f'loadline_gateway_breaker_opened_total{{{replica},trigger="errors"}}': "_x610 1x200 2x700",
    }
    for bound, slow in (("0.5", 0), ("10.0", 3), ("20.0", 9), ("+Inf", 9)):
        name = f'loadline_time_to_first_token_seconds_bucket{{{own},le="{bound}"}}'
        series[name] = f"0+9x400 3600+{slow}x100 {3600 + slow * 100}+9x1000"
    return series


def _written_back(walk: Walk, grows: Grows) -> dict[str, str]:
    """What the planner, feedback and the rules of costs record."""
    said = 'model_name="c",tenant="t"'
    return {
        'loadline_collector_scraped_bad_lines_total{instance="host"}': grows(0, 2),
        'loadline_host_memory_used_bytes{instance="host"}': walk(90, 100),
        'loadline_host_memory_total_bytes{instance="host"}': f"100x{DAY_STEPS}",
        'loadline_headroom_ratio{pool="c",failures="0"}': walk(-0.1, 0.6),
        'loadline_headroom_ratio{pool="c",failures="2"}': walk(-0.4, 0.3),
        'loadline_load_line_crosses_timestamp_seconds{pool="c"}': f"2e6x400 9e5x500 1e4x{DAY_STEPS}",
        'loadline_twin_drift{pool="c"}': "0x900 1x100 0x900",
        f'loadline_feedback_total{{{said},rating="up"}}': f"0+1x{DAY_STEPS}",
        f"loadline_feedback_truncated_total{{{said}}}": grows(0, 1),
        f"loadline_feedback_hallucination_score_sum{{{said}}}": "0+0.2x700 140+0.61x200 262+0.1x900",
        f"loadline_feedback_hallucination_score_count{{{said}}}": f"0+1x{DAY_STEPS}",
        'model:loadline_cost_usd_per_hour:rate5m{model_name="c"}': walk(1, 9),
        "fleet:loadline_budget_usd_per_hour:set": f"5x{DAY_STEPS}",
    }


@pytest.mark.peer
@pytest.mark.timeout(180)
def test_over_a_day_every_alert_of_the_packs_fires_when_it_does_in_prometheus(promtool: Path, tmp_path: Path):
    series = day()
    source = SyntheticSource(
        {read_labels(name): read_values(values) for name, values in series.items()}, 60, Engine(left_open=False)
    )
    files = [load_rule_file(path) for path in packs()]
    end_s = DAY_STEPS * 60.0
    found = look_back(files, source.query_range, end_s, end_s, EVERY_MINUTES * 60.0)
    assert [one.error for one in found if one.error] == []
    alerts = {rule.name for file in files for rule in file.rules if isinstance(rule, AlertRule)}
    assert alerts - {one.rule for one in found if one.episodes} == NEEDS_LONGER
    firing: list[set[str]] = [set() for _ in range(DAY_STEPS // EVERY_MINUTES + 1)]
    for episode in (one for preview in found for one in preview.episodes):
        over_s = end_s + 1.0 if episode.resolved_at_s is None else episode.resolved_at_s
        labels = render(tuple(sorted((*episode.labels, ("alertstate", "firing")))))
        for minute in range(round(episode.fired_at_s / 60), DAY_STEPS + 1, EVERY_MINUTES):
            if minute * 60 < over_s:
                firing[minute // EVERY_MINUTES].add(f"ALERTS{labels}")
    suite = {
        "rule_files": [str(path) for path in packs()],
        "evaluation_interval": f"{EVERY_MINUTES}m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": 'ALERTS{alertstate="firing"}',
                        "eval_time": f"{step * EVERY_MINUTES}m",
                        "exp_samples": [{"labels": labels, "value": 1} for labels in sorted(names)],
                    }
                    for step, names in enumerate(firing)
                ],
            }
        ],
    }
    (tmp_path / "day.yml").write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "day.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[:3000]
