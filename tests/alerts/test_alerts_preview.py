"""How often alerts would have fired."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from alerts.cli import app
from alerts.preview import Preview, look_back, table
from alerts.rulefile import read_rule_file
from alerts.ruletest import SyntheticSource
from alerts.ruletest.notation import read_labels, read_values
from collector.model.errors import SourceError

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


def test_previews_come_as_json():
    (first, _) = previews("0x60")
    assert json.loads(json.dumps(first.as_json()))["fired"] == 1
