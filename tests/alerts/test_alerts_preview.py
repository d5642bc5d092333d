"""How often alerts would have fired; and a whole day of the packs beside promtool's rule engine."""

import json
import random
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from alerts.cli import app
from alerts.preview import Preview, look_back, table
from alerts.rulefile import load_rule_file, packs, read_rule_file
from alerts.ruletest import SyntheticSource
from alerts.ruletest.notation import read_labels, read_values
from collector.model.errors import SourceError
from collector.promql import Engine

RULES = """
groups:
  - name: g
    interval: 1m
    rules:
      - {alert: Down, expr: up == 0, for: 2m}
      - {alert: Broken, expr: up * on (x) up}
      - {record: r, expr: up}
"""
UP, OTHER = read_labels('up{instance="i"}'), read_labels('up{instance="j"}')


def previews(values: str, since_s: float = 3600.0) -> list[Preview]:
    source = SyntheticSource({UP: read_values(values), OTHER: read_values("1x60")}, 60)
    return look_back([read_rule_file(RULES, "r.yml")], source.query_range, 3600.0, since_s, 30.0)


def test_an_alert_is_counted_each_time_that_it_would_have_fired():
    down, broken = previews("1x9 0x3 1x9 0 1x9 0x9 1x20")
    assert [(one.fired_at_s / 60, (one.resolved_at_s or 0) / 60) for one in down.episodes] == [(12, 14), (37, 45)]
    assert (down.pending, down.firing_s(3600)) == (1, 600)
    assert "many-to-many" in broken.error or "duplicate" in broken.error


def test_an_alert_that_still_fires_has_no_end():
    down, _ = previews("1x50 0x20")
    assert [(one.fired_at_s / 60, one.resolved_at_s) for one in down.episodes] == [(53, None)]
    assert down.as_json()["episodes"] == [
        {"labels": {"alertname": "Down", "instance": "i"}, "firedAt": "1970-01-01T00:53:00Z", "resolvedAt": None}
    ]


def test_only_the_time_that_was_asked_for_counts():
    assert previews("0x9 1x60", 1200.0)[0].episodes == ()


def test_a_table_tells_people():
    text = table(previews("1x9 0x3 1x9 0 1x9 0x9 1x20"), "1h")
    assert "Down                         fires 2 times, 1 more began and did not last" in text
    assert '1970-01-01T00:12:00Z for 2m  {instance="i"}' in text
    assert "Broken                       cannot be told: " in text


def test_a_source_that_cannot_be_reached_is_an_error():
    def refused(*_: object):
        raise SourceError("http://source: refused", "unreachable")

    with pytest.raises(SourceError):
        look_back([read_rule_file(RULES, "r.yml")], refused, 3600.0, 60.0, 30.0)


def test_the_command_says_so_too(tmp_path: Path):
    (tmp_path / "rules.yml").write_text(RULES)
    run = CliRunner().invoke
    done = run(app, ["preview", str(tmp_path / "rules.yml"), "--source", "http://127.0.0.1:9"])
    assert (done.exit_code, "127.0.0.1:9" in done.stderr) == (2, True)
    done = run(app, ["preview", str(tmp_path / "rules.yml"), "--since", "yesterday"])
    assert (done.exit_code, done.stderr) == (2, '--since is "yesterday"; a duration looks like 5m or 1h30m\n')
    assert run(app, ["preview", str(tmp_path / "none.yml")]).exit_code == 2


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
        series[f"vllm:num_requests_running{{{own}}}"] = walk(-3, 9).replace("-", "")
        series[f"vllm:num_requests_waiting{{{own}}}"] = walk(0, 25)
        series[f"vllm:iteration_tokens_total_count{{{own}}}"] = grows(0, 2)
        series[f"vllm:num_preemptions_total{{{own}}}"] = grows(0, 6)
        for reason in ("stop", "length", "abort", "error"):
            rise = {"stop": 60, "length": 40, "abort": 12, "error": 2}[reason]
            series[f'vllm:request_success_total{{{own},finished_reason="{reason}"}}'] = grows(0, rise)
        series[f'up{{job="engines",instance="{pool}1"}}'] = " ".join(
            f"{int(generator.random() < 0.8)}x9" for _ in range(DAY_STEPS // 10)
        )
        series[f'scrape_samples_scraped{{job="engines",instance="{pool}1"}}'] = walk(0, 1, 48).replace("0.", "")
        series[f'DCGM_FI_DEV_GPU_TEMP{{gpu="0",instance="{pool}1"}}'] = walk(60, 95)
        series[f'DCGM_FI_DEV_XID_ERRORS{{gpu="0",instance="{pool}1"}}'] = "0x500 79x500 31x440"
    return series


@pytest.mark.peer
def test_over_a_day_every_alert_of_the_packs_fires_when_it_does_in_prometheus(promtool: Path, tmp_path: Path):
    series = day()
    source = SyntheticSource(
        {read_labels(name): read_values(values) for name, values in series.items()}, 60, Engine(left_open=False)
    )
    end_s = DAY_STEPS * 60.0
    found = look_back(
        [load_rule_file(path) for path in packs()], source.query_range, end_s, end_s, EVERY_MINUTES * 60.0
    )
    assert [one.error for one in found if one.error] == []
    fired = {one.rule for one in found if one.episodes}
    assert len(fired) >= 12, fired
    # Two numbers per alert: how many evaluations found it firing, and the sum of their minutes of the day.
    sums: dict[str, list[float]] = {}
    for preview in found:
        for episode in preview.episodes:
            over_s = end_s + 1.0 if episode.resolved_at_s is None else episode.resolved_at_s
            minutes = range(round(episode.fired_at_s / 60), round(over_s / 60 + 0.49), EVERY_MINUTES)
            count, total = sums.setdefault(preview.rule, [0.0, 0.0])
            sums[preview.rule] = [count + len(minutes), total + sum(minutes)]
    count = 'sum by (alertname) (count_over_time(ALERTS{alertstate="firing"}[2d]))'
    firing = 'ALERTS{alertstate="firing"} * on () group_left () (clock / 60)'
    total = f"sum by (alertname) (sum_over_time(({firing})[1d:{EVERY_MINUTES}m]))"
    suite = {
        "rule_files": [str(path) for path in packs()],
        "evaluation_interval": f"{EVERY_MINUTES}m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()]
                + [{"series": "clock", "values": f"0+60x{DAY_STEPS}"}],
                "promql_expr_test": [
                    {
                        "expr": expr,
                        "eval_time": "24h",
                        "exp_samples": [
                            {"labels": f'{{alertname="{rule}"}}', "value": values[place]}
                            for rule, values in sums.items()
                        ],
                    }
                    for place, expr in enumerate((count, total))
                ],
            }
        ],
    }
    (tmp_path / "day.yml").write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "day.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_previews_come_as_json():
    (first, _) = previews("0x60")
    assert json.loads(json.dumps(first.as_json()))["fired"] == 1
