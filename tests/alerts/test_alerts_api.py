import asyncio

import httpx
import pytest

from alerts.api import create_app
from alerts.group import Group
from alerts.manager import Manager
from alerts.message import Links
from alerts.rule import AlertRule, RecordRule, RuleGroup
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback
from collector.model.errors import SourceError


def get(app, path: str, **headers: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://alerts") as client:
            return await client.get(path, headers=headers)

    return asyncio.run(ask())


@pytest.fixture
def manager(source) -> Manager:
    source.answer("up == 0", lambda _: {"a": 0.05})
    source.answer("bad", lambda _: None)
    rules = (
        AlertRule("Down", "up == 0", 60.0, 120.0, (("severity", "page"),), (("summary", "{{ $labels.instance }}"),)),
        RecordRule("job:bad", "bad", (("team", "t"),)),
    )
    writeback = Writeback(source.write)
    group = Group(RuleGroup("g", "rules.yml", rules, limit=7), source, writeback, interval_s=30, timer=lambda: 0.25)
    manager = Manager(
        [group], state=State(None), notifiers=[], telemetry=Telemetry(), writeback=writeback, links=Links("s", "e")
    )
    manager.evaluate(group, 1_700_000_000.5)
    return manager


ALERT = {
    "labels": {"alertname": "Down", "instance": "a", "severity": "page"},
    "annotations": {"summary": "a"},
    "state": "pending",
    "activeAt": "2023-11-14T22:13:20.5Z",
    "value": "5e-02",
}


def test_rules_answer_in_prometheus_shape(manager):
    body = get(create_app(manager), "/api/v1/rules").json()
    assert body == {
        "status": "success",
        "data": {
            "groups": [
                {
                    "name": "g",
                    "file": "rules.yml",
                    "rules": [
                        {
                            "state": "pending",
                            "name": "Down",
                            "query": "up == 0",
                            "duration": 60.0,
                            "keepFiringFor": 120.0,
                            "labels": {"severity": "page"},
                            "annotations": {"summary": "{{ $labels.instance }}"},
                            "alerts": [ALERT],
                            "health": "ok",
                            "evaluationTime": 0.0,
                            "lastEvaluation": "2023-11-14T22:13:20.5Z",
                            "type": "alerting",
                        },
                        {
                            "name": "job:bad",
                            "query": "bad",
                            "labels": {"team": "t"},
                            "health": "err",
                            "lastError": "http://source: 503: overloaded",
                            "evaluationTime": 0.0,
                            "lastEvaluation": "2023-11-14T22:13:20.5Z",
                            "type": "recording",
                        },
                    ],
                    "interval": 30,
                    "limit": 7,
                    "evaluationTime": 0.0,
                    "lastEvaluation": "2023-11-14T22:13:20.5Z",
                }
            ]
        },
    }


def test_alerts_answer_in_prometheus_shape(manager):
    assert get(create_app(manager), "/api/v1/alerts").json() == {"status": "success", "data": {"alerts": [ALERT]}}


def test_rules_may_be_narrowed(manager):
    app = create_app(manager)
    names = [rule["name"] for rule in get(app, "/api/v1/rules?type=record").json()["data"]["groups"][0]["rules"]]
    assert names == ["job:bad"]
    assert get(app, "/api/v1/rules?rule_name[]=Other").json()["data"] == {"groups": []}
    answer = get(app, "/api/v1/rules?type=x")
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")


def test_a_token_guards_all_but_health(manager):
    app = create_app(manager, token="geheim")
    for path in ("/api/v1/rules", "/api/v1/alerts", "/metrics"):
        assert get(app, path).status_code == 401
        assert get(app, path, authorization="Bearer wrong").status_code == 401
        assert get(app, path, authorization="Bearer geheim").status_code == 200
    assert get(app, "/-/healthy").status_code == 200


def test_metrics_are_a_prometheus_page(manager):
    answer = get(create_app(manager), "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "# TYPE loadline_alerts_rule_evaluations_total counter" in answer.text
    assert "\nprocess_start_time_seconds " in answer.text


def test_an_unevaluated_rule_is_unknown(source):
    writeback = Writeback(source.write)
    group = Group(RuleGroup("g", "f", (AlertRule("A", "x"),)), source, writeback, interval_s=30)
    manager = Manager(
        [group], state=State(None), notifiers=[], telemetry=Telemetry(), writeback=writeback, links=Links("s", "e")
    )
    (rule,) = get(create_app(manager), "/api/v1/rules").json()["data"]["groups"][0]["rules"]
    assert (rule["health"], rule["state"], rule["lastEvaluation"]) == ("unknown", "inactive", "0001-01-01T00:00:00Z")


def test_an_unreachable_source_marks_the_rules(source):
    def fail(_: float):
        raise SourceError("http://source: cannot be reached", "unreachable")

    source.script["x"] = fail
    writeback = Writeback(source.write)
    group = Group(RuleGroup("g", "f", (AlertRule("A", "x"),)), source, writeback, interval_s=30)
    group.evaluate(0)
    assert group.status.rules[0].health == "err"
