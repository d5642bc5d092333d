"""Silences and inhibition: who is told, when, and what outlives the process."""

import re
import subprocess
import threading
from pathlib import Path

import httpx
import orjson
import pytest
import uvicorn
from starlette.testclient import TestClient

from alerts.alert import Alert
from alerts.api import create_app
from alerts.clock import rfc3339
from alerts.dispatch import Pace
from alerts.errors import SilenceError
from alerts.group import Group
from alerts.manager import Manager
from alerts.message import Links, Receiver
from alerts.muting import Silences, read_notify_config
from alerts.notify import Notifier
from alerts.rule import AlertRule, RuleGroup
from alerts.silence import KEPT_AFTER_END_S, read_silence
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback
from collector.signals import DocumentError

RULE = AlertRule("Down", "up == 0", labels=(("severity", "page"),))
HOOK = Receiver("webhook", "http://hook/")


def alert(**labels: str) -> Alert:
    return Alert(tuple(sorted(labels.items())), (), 1.0, 0.0, "firing", 0.0)


def silence(now_s: float = 0.0, lasts_s: float = 300.0, **more: object) -> dict[str, object]:
    return {
        "matchers": [{"name": "alertname", "value": "Down", "isRegex": False, "isEqual": True}],
        "startsAt": rfc3339(now_s),
        "endsAt": rfc3339(now_s + lasts_s),
        "createdBy": "ann",
        "comment": "new kernel",
    } | more


class Hook(httpx.BaseTransport):
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.heard += [(one["status"], one["labels"]["instance"]) for one in orjson.loads(request.content)["alerts"]]
        return httpx.Response(200)


class Life:
    """The alerts process over one rule, with its clock in the test's hand."""

    def __init__(self, source, path: Path | None = None) -> None:
        self.hook = Hook()
        self.state = State(path)
        self.now_s = 0.0
        self.silences = Silences(self.state, lambda: self.now_s)
        writeback, telemetry = Writeback(source.write), Telemetry()
        self.group = Group(RuleGroup("g", "rules.yml", (RULE,)), source, writeback, interval_s=30)
        self.notifier = Notifier(HOOK, self.state, telemetry, httpx.Client(transport=self.hook))
        self.manager = Manager(
            [self.group], state=self.state, notifiers=[self.notifier], telemetry=telemetry, writeback=writeback,
            links=Links("http://source", "http://page"), muted=self.silences.mutes, now=lambda: self.now_s,
        )  # fmt: skip
        self.manager.restore()

    def until(self, end_s: float) -> list[tuple[str, str]]:
        while self.now_s <= end_s:
            self.manager.evaluate(self.group, self.now_s)
            while self.notifier.deliver(self.now_s):
                pass
            self.now_s += 30
        return self.hook.heard


@pytest.fixture
def down(source):
    """Instance a is down from 60 s on until 600 s."""
    source.answer("up == 0", lambda time_s: {"a": 0.0} if 60 <= time_s < 600 else {})
    return source


def test_a_silenced_alert_is_told_of_when_its_silence_ends(down):
    life = Life(down)
    life.silences.put(read_silence(silence(), 0))
    assert life.until(270) == []
    assert life.until(330) == [("firing", "a")]
    assert life.until(900) == [("firing", "a"), ("resolved", "a")]


def test_an_alert_that_begins_and_ends_in_silence_is_never_told(down):
    life = Life(down)
    life.silences.put(read_silence(silence(lasts_s=3600), 0))
    assert life.until(900) == []


def test_the_end_of_an_alert_that_was_told_is_told_in_spite_of_a_silence(down):
    life = Life(down)
    life.until(120)
    life.silences.put(read_silence(silence(lasts_s=3600), life.now_s))
    assert life.until(900) == [("firing", "a"), ("resolved", "a")]


def test_silences_and_what_was_told_outlive_the_process(down, tmp_path: Path):
    first = Life(down, tmp_path / "a.db")
    first.silences.put(read_silence(silence(lasts_s=150), 0))
    assert first.until(90) == []
    first.state.close()
    second = Life(down, tmp_path / "a.db")
    second.now_s = first.now_s
    assert second.until(120) == []
    assert second.until(180) == [("firing", "a")]
    second.state.close()
    third = Life(down, tmp_path / "a.db")
    third.now_s = second.now_s
    assert third.until(300) == []


def test_a_silence_that_is_over_is_listed_for_a_while_and_cannot_be_changed():
    clock = [0.0]
    silences = Silences(State(None), lambda: clock[0])
    one = read_silence(silence(), 0)
    silences.put(one)
    clock[0] = 400.0
    assert [each.state(400.0) for each in silences.all()] == ["expired"]
    with pytest.raises(SilenceError, match="is over; make a new one"):
        silences.put(one)
    clock[0] += KEPT_AFTER_END_S
    assert silences.all() == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"comment": " "}, "comment must say something"),
        ({"createdBy": None}, "createdBy must say something"),
        ({"endsAt": rfc3339(0)}, "endsAt must lie in the future"),
        ({"endsAt": "soon"}, 'endsAt is "soon"; a moment looks like 2026-01-02T03:04:05Z'),
        ({"startsAt": "2026-01-02T03:04:05"}, "it needs a time zone"),
        ({"matchers": []}, "matchers must be a list that is not empty"),
        ({"matchers": [{"value": "x"}]}, "a matcher looks like"),
        ({"matchers": [{"name": "a", "value": "(", "isRegex": True}]}, "does not compile"),
        ({"matchers": [{"name": "a", "value": ".*", "isRegex": True}]}, "is satisfied by the empty text"),
        ({"until": 1}, 'field "until" is unknown'),
    ],
)
def test_a_silence_that_makes_no_sense_is_refused_with_the_reason(change: dict[str, object], reason: str):
    with pytest.raises(SilenceError, match=re.escape(reason)):
        read_silence(silence(100.0) | change, 100.0)


def test_the_api_speaks_as_alertmanager_does(down):
    life = Life(down)
    client = TestClient(create_app(life.manager, None, life.silences))
    answer = client.post("/api/v2/silences", json=silence())
    assert answer.status_code == 200
    name = answer.json()["silenceID"]
    (listed,) = client.get("/api/v2/silences").json()
    assert set(listed) == {"id", "status", "updatedAt", "comment", "createdBy", "startsAt", "endsAt", "matchers"}
    assert (listed["status"], listed["comment"], listed["createdBy"]) == ({"state": "active"}, "new kernel", "ann")
    assert client.get("/api/v2/silences", params={"filter": 'alertname="Other"'}).json() == []
    changed = client.post("/api/v2/silences", json=silence(comment="longer", id=name))
    assert changed.json() == {"silenceID": name}
    assert client.get(f"/api/v2/silence/{name}").json()["comment"] == "longer"
    assert client.delete(f"/api/v2/silence/{name}").status_code == 200
    assert client.get(f"/api/v2/silence/{name}").json()["status"] == {"state": "expired"}
    assert client.get("/api/v2/silence/none").status_code == 404
    assert client.delete("/api/v2/silence/none").status_code == 404
    assert client.post("/api/v2/silences", content=b"{").status_code == 400
    assert client.post("/api/v2/silences", json=silence(comment="")).json().startswith("comment must say")


def test_the_api_asks_for_the_token(down):
    life = Life(down)
    client = TestClient(create_app(life.manager, "secret", life.silences))
    assert client.get("/api/v2/silences").status_code == 401
    assert client.get("/api/v2/silences", headers={"Authorization": "Bearer secret"}).json() == []


@pytest.mark.peer
def test_amtool_adds_lists_and_ends_silences(down, amtool: Path):
    life = Life(down)
    life.silences = Silences(life.state, lambda: 1_900_000_000.0)
    server = uvicorn.Server(
        uvicorn.Config(create_app(life.manager, None, life.silences), port=0, log_level="warning", lifespan="off")
    )
    listener = uvicorn.Config(create_app(life.manager), host="127.0.0.1", port=0, log_level="critical").bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()

    def run(*words: str) -> str:
        url = f"--alertmanager.url=http://127.0.0.1:{listener.getsockname()[1]}"
        done = subprocess.run([amtool, "silence", *words, url], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    try:
        ends = "2040-01-01T00:00:00Z"
        name = run("add", "alertname=Down", "instance=~a.*", "--author=bob", "--comment=disk swap", f"--end={ends}")
        assert "bob" in run("query")
        assert life.silences.mutes(alert(alertname="Down", instance="a1"), 2_000_000_000.0)
        assert not life.silences.mutes(alert(alertname="Down", instance="b1"), 2_000_000_000.0)
        run("expire", name)
        assert [one.state(1_900_000_000.0) for one in life.silences.all()] == ["expired"]
    finally:
        server.should_exit = True
        thread.join(timeout=5)


CONFIG = """
group_by: [pool]
inhibit_rules:
  - source_matchers: [severity="page", alertname=~"TargetDown|Node.*"]
    target_matchers: [severity=~"page|warning"]
    equal: [instance]
"""


def test_what_fires_keeps_quiet_what_follows_from_it():
    config = read_notify_config(CONFIG, "notify.yml")
    (rule,) = config.inhibit_rules
    down = alert(alertname="TargetDown", severity="page", instance="a")
    slow = alert(alertname="Slow", severity="warning", instance="a")
    assert config.pace.group_by == ("pool",)
    assert rule.mutes(slow, [down])
    assert not rule.mutes(alert(alertname="Slow", severity="warning", instance="b"), [down])
    assert not rule.mutes(slow, [])
    assert not rule.mutes(down, [down])
    other = alert(alertname="NodeGone", severity="page", instance="a")
    assert not rule.mutes(down, [other])
    assert not rule.mutes(alert(alertname="Slow", severity="info", instance="a"), [down])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "routes: []",
            "field 'routes' is unknown; allowed are group_by, group_wait, group_interval, repeat_interval, inhibit",
        ),
        ("inhibit_rules: [{target_matchers: [a=b]}]", "field 'source_matchers' is missing"),
        ("inhibit_rules: [{source_matchers: [], target_matchers: [a=b]}]", "is empty; it would match every alert"),
        ("inhibit_rules: [{source_matchers: [a b], target_matchers: [a=b]}]", "n.yml:1:36: inhibit_rules[0]"),
        ("inhibit_rules: [{source_matchers: ['a=~\"(\"'], target_matchers: [a=b]}]", "does not compile"),
    ],
)
def test_a_bad_notification_file_is_told_with_the_place(text: str, reason: str):
    with pytest.raises(DocumentError, match=re.escape(reason)):
        read_notify_config(text, "n.yml")


def test_an_empty_notification_file_changes_nothing():
    assert read_notify_config("", "n.yml").pace.group_by == ("alertname",)


def test_a_notification_file_may_ask_for_one_group_of_all_alerts():
    assert read_notify_config("group_by: []", "n.yml").pace.group_of((("alertname", "A"),)) == ()


def test_a_notification_files_times_are_read():
    text = "group_wait: 30s\ngroup_interval: 5m\nrepeat_interval: 4h\n"
    assert read_notify_config(text, "n.yml").pace == Pace(("alertname",), 30.0, 300.0, 14_400.0)
    with pytest.raises(DocumentError, match="group_wait is"):
        read_notify_config("group_wait: soon", "n.yml")
