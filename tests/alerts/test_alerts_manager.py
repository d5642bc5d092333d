"""The whole path in one process: rules, state, notification, restart; clocks are the test's."""

import logging
import threading
import time
from dataclasses import replace
from os.path import relpath
from pathlib import Path

import httpx
import orjson
import pytest

from alerts.group import Group
from alerts.manager import Manager
from alerts.message import Links, Receiver
from alerts.notify import Notifier
from alerts.rule import AlertRule, RuleGroup
from alerts.server import create_service
from alerts.settings import AlertsSettings
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback
from collector.client import Client

RULE = AlertRule("Down", "up == 0", for_s=60, labels=(("severity", "page"),))
HOOK = Receiver("webhook", "http://hook/")


class Hook(httpx.BaseTransport):
    """Takes notifications while it is ``up``."""

    def __init__(self) -> None:
        self.up = True
        self.heard: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not self.up:
            raise httpx.ConnectError("refused")
        self.heard += [alert["status"] for alert in orjson.loads(request.content)["alerts"]]
        return httpx.Response(200)


class Process:
    """One life of the alerts process."""

    def __init__(self, source, hook: Hook, path: Path | None, now_s: float) -> None:
        self.state = State(path)
        self.telemetry = Telemetry()
        writeback = Writeback(source.write)
        self.group = Group(RuleGroup("g", "rules.yml", (RULE,)), source, writeback, interval_s=30, timer=lambda: 0.0)
        self.notifier = Notifier(HOOK, self.state, self.telemetry, httpx.Client(transport=hook))
        self.manager = Manager(
            [self.group],
            state=self.state,
            notifiers=[self.notifier],
            telemetry=self.telemetry,
            writeback=writeback,
            links=Links("http://source", "http://page"),
            now=lambda: now_s,
        )
        self.manager.restore()

    def run(self, *moments_s: float) -> "Process":
        for now_s in moments_s:
            self.manager.evaluate(self.group, now_s)
            while self.notifier.deliver(now_s):
                pass
        return self

    def kill(self) -> None:
        self.state.close()


@pytest.fixture
def down_until_300(source):
    source.answer("up == 0", lambda time_s: {"a": 0.0} if time_s < 300 else {})
    return source


def test_an_alert_is_told_of_once_when_it_fires_and_once_when_it_ends(down_until_300):
    hook = Hook()
    Process(down_until_300, hook, None, 0).run(*range(0, 600, 30)).kill()
    assert hook.heard == ["firing", "resolved"]


def test_nobody_is_told_twice_over_a_restart(down_until_300, tmp_path: Path):
    hook, path = Hook(), tmp_path / "alerts.db"
    Process(down_until_300, hook, path, 0).run(0, 30, 60, 90).kill()
    Process(down_until_300, hook, path, 100).run(120, 150).kill()
    Process(down_until_300, hook, path, 290).run(300, 330).kill()
    Process(down_until_300, hook, path, 340).run(360).kill()
    assert hook.heard == ["firing", "resolved"]


def test_the_for_clock_goes_on_over_a_quick_restart(down_until_300, tmp_path: Path):
    hook, path = Hook(), tmp_path / "alerts.db"
    Process(down_until_300, hook, path, 0).run(0, 30).kill()
    Process(down_until_300, hook, path, 40).run(60).kill()
    assert hook.heard == ["firing"]


def test_what_could_not_be_told_before_the_end_is_told_after_the_restart(down_until_300, tmp_path: Path):
    hook, path = Hook(), tmp_path / "alerts.db"
    hook.up = False
    Process(down_until_300, hook, path, 0).run(0, 60, 90).kill()
    assert hook.heard == []
    hook.up = True
    Process(down_until_300, hook, path, 100).run(120).kill()
    assert hook.heard == ["firing"]


def test_a_receiver_that_is_away_hears_everything_later_in_order(down_until_300):
    hook = Hook()
    hook.up = False
    process = Process(down_until_300, hook, None, 0).run(0, 60, 300, 330)
    hook.up = True
    process.run(400)
    assert hook.heard == ["firing", "resolved"]


def test_alerts_go_on_when_the_state_file_cannot_be_written(down_until_300, caplog: pytest.LogCaptureFixture):
    hook = Hook()
    process = Process(down_until_300, hook, None, 0)
    process.state.close()
    with caplog.at_level(logging.ERROR):
        process.run(0, 60, 300)
    assert hook.heard == ["firing", "resolved"]
    assert sum("a restart would forget them" in record.message for record in caplog.records) == 1


def test_the_metrics_page_counts_what_happened(down_until_300):
    process = Process(down_until_300, Hook(), None, 0).run(0, 60)
    page = process.manager.metrics_page().decode()
    for line in (
        'loadline_alerts_rule_evaluations_total{rule_group="rules.yml;g"} 2.0',
        'loadline_alerts_rule_evaluation_failures_total{rule_group="rules.yml;g"} 0.0',
        'loadline_alerts_group_evaluation_duration_seconds_count{rule_group="rules.yml;g"} 2.0',
        'loadline_alerts_notifications_sent_total{receiver="webhook http://hook/"} 1.0',
        'loadline_alerts_notifications_waiting{receiver="webhook http://hook/"} 0.0',
        'loadline_alerts_alerts{state="firing"} 1.0',
        "loadline_alerts_write_failures 0.0",
    ):
        assert line in page.splitlines()


def test_groups_go_on_when_the_clock_is_set_back(source):
    source.answer("up == 0", lambda _: {})
    set_back_s = [0.0]
    writeback = Writeback(source.write)
    group = Group(RuleGroup("g", "rules.yml", (RULE,), interval_s=0.02), source, writeback, interval_s=30)
    manager = Manager(
        [group],
        state=State(None),
        notifiers=[],
        telemetry=Telemetry(),
        writeback=writeback,
        links=Links("s", "e"),
        now=lambda: 1_000_000 + time.monotonic() - set_back_s[0],
    )
    manager.start()
    try:
        for jump_s in (0.0, 3600.0, -3600.0):
            set_back_s[0] = jump_s
            seen = len(source.asked)
            deadline = time.monotonic() + 10
            while len(source.asked) < seen + 3 and time.monotonic() < deadline:
                time.sleep(0.005)
            assert len(source.asked) >= seen + 3
    finally:
        manager.stop()
    assert all(not thread.name.startswith("group ") for thread in threading.enumerate())


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param([], id="the group is gone"),
        pytest.param([RuleGroup("g", "rules.yml", ())], id="the rule is gone"),
        pytest.param(
            [RuleGroup("g", "rules.yml", (replace(RULE, labels=(("severity", "x"),)),))], id="its labels changed"
        ),
    ],
)
def test_an_alert_whose_rule_is_removed_while_it_fires_is_told_to_be_over_once(down_until_300, tmp_path, groups):
    hook = Hook()
    Process(down_until_300, hook, tmp_path / "a.db", 0).run(0, 30, 60, 90).kill()
    assert hook.heard == ["firing"]
    for now_s in (120, 150):
        state, telemetry, writeback = State(tmp_path / "a.db"), Telemetry(), Writeback(down_until_300.write)
        notifier = Notifier(HOOK, state, telemetry, httpx.Client(transport=hook))
        manager = Manager(
            [Group(group, down_until_300, writeback, interval_s=30) for group in groups],
            state=state, notifiers=[notifier], telemetry=telemetry, writeback=writeback,
            links=Links("http://source", "http://page"), now=lambda now_s=now_s: now_s,
        )  # fmt: skip
        manager.restore()
        while notifier.deliver(now_s):
            pass
        state.close()
    assert hook.heard == ["firing", "resolved"]


def test_what_is_remembered_of_a_file_does_not_depend_on_how_its_path_is_spelled(tmp_path):
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: up == 0}]}]")
    plain = tmp_path / "rules.yml"
    spellings = (plain, Path(relpath(plain)), tmp_path / ".." / tmp_path.name / "rules.yml")
    keys = []
    with Client("http://127.0.0.1:9") as client, httpx.Client() as http:
        for path in spellings:
            service = create_service(AlertsSettings(rules=(path,)), client, State(None), http)
            keys.append([group.key for group in service.manager.groups])
    assert keys == [[f"{tmp_path}/rules.yml;g"]] * 3
