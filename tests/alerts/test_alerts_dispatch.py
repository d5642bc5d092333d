"""Groups of alerts over every rule: who is told of with whom, when, and what outlives the process."""

from pathlib import Path

import httpx
import orjson
import pytest

from alerts.dispatch import Dispatcher, Pace, Telling
from alerts.group import Group
from alerts.manager import Manager
from alerts.message import Links, Receiver
from alerts.notify import Notifier
from alerts.rule import AlertRule, RuleGroup
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback

SEVERITY = Pace(("severity",))
RULES = (
    AlertRule("A", "a", labels=(("severity", "page"),)),
    AlertRule("B", "b", labels=(("severity", "page"),)),
    AlertRule("C", "c", labels=(("severity", "ticket"),)),
)


class Hook(httpx.BaseTransport):
    """A webhook; what it heard, an entry for each message: ``A`` fires, ``-A`` is over."""

    def __init__(self) -> None:
        self.heard: list[tuple[float, str]] = []
        self.now_s = 0.0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        alerts = orjson.loads(request.content)["alerts"]
        names = "".join(("-" if one["status"] == "resolved" else "") + one["labels"]["alertname"] for one in alerts)
        self.heard.append((self.now_s, names))
        return httpx.Response(200)


class Life:
    """The alerts process over three rules, each in a group of its own; ``holds`` gives the letters that hold when."""

    def __init__(self, source, hook: Hook, pace: Pace, path: Path | None = None, start_s: float = 0.0) -> None:
        self.hook, self.source = hook, source
        self.state, telemetry, writeback = State(path), Telemetry(), Writeback(source.write)
        self.groups = [
            Group(RuleGroup(rule.name, "r.yml", (rule,)), source, writeback, interval_s=10) for rule in RULES
        ]
        self.notifier = Notifier(
            Receiver("webhook", "http://hook/"), self.state, telemetry, httpx.Client(transport=hook)
        )
        self.silenced: set[str] = set()
        self.manager = Manager(
            self.groups, state=self.state, notifiers=[self.notifier], telemetry=telemetry, writeback=writeback,
            links=Links("http://source", "http://page"), pace=pace, now=lambda: start_s,
            muted=lambda alert, now_s: dict(alert.labels)["alertname"] in self.silenced,
        )  # fmt: skip
        self.manager.restore()

    def run(self, *holds: tuple[float, str]) -> list[tuple[float, str]]:
        for now_s, letters in holds:
            self.hook.now_s = now_s
            for rule, group in zip(RULES, self.groups, strict=True):
                value = {"x": 1.0} if rule.name in letters.upper() else {}
                self.source.answer(rule.expr, lambda _, value=value: value)
                self.manager.evaluate(group, now_s)
            while self.notifier.deliver(now_s):
                pass
        return self.hook.heard


def heard(source, pace: Pace, *holds: tuple[float, str]) -> list[tuple[float, str]]:
    return Life(source, Hook(), pace).run(*holds)


def test_alerts_of_several_rules_that_begin_soon_after_the_first_come_in_one_message(source):
    holds = ((0, "a"), (10, "ab"), (30, "ab"), (40, "ab"))
    assert heard(source, Pace(("severity",), wait_s=30), *holds) == [(30, "AB")]


def test_without_times_each_change_is_told_at_once_with_the_whole_group(source):
    assert heard(source, SEVERITY, (0, "a"), (10, "ab"), (20, "b"), (30, "b"), (40, "")) == [
        (0, "A"), (10, "AB"), (20, "B-A"), (40, "-B"),
    ]  # fmt: skip


def test_each_group_has_a_pace_of_its_own(source):
    pace = Pace(("severity",), wait_s=30)
    assert heard(source, pace, (0, "a"), (10, "ac"), (30, "ac"), (40, "ac")) == [(30, "A"), (40, "C")]


def test_a_group_is_told_of_no_more_often_than_its_interval_ends_included(source):
    pace = Pace(("severity",), wait_s=30, interval_s=300)
    holds = ((0, "a"), (30, "a"), (60, "ab"), (90, "b"), (300, "b"), (330, "b"), (630, "b"), (700, ""), (930, ""))
    assert heard(source, pace, *holds) == [(30, "A"), (330, "B-A"), (930, "-B")]


def test_what_begins_and_ends_while_its_group_waits_is_never_told(source):
    assert heard(source, Pace(("severity",), wait_s=30), (0, "a"), (10, ""), (30, ""), (60, "")) == []


def test_what_ends_and_begins_again_within_the_interval_is_not_told_again(source):
    pace = Pace(("severity",), interval_s=60)
    assert heard(source, pace, (0, "a"), (20, ""), (40, "a"), (60, "a"), (120, "a")) == [(0, "A")]


def test_what_still_fires_is_told_again_after_the_repeat_interval(source):
    pace = Pace(("severity",), repeat_s=3600)
    holds = [(step * 1200.0, "ab") for step in range(7)]
    assert heard(source, pace, *holds)[2:] == [(3600, "AB"), (7200, "AB")]


@pytest.mark.parametrize(
    ("group_by", "wanted"), [((), ["ABC"]), (("...",), ["A", "B", "C"]), (("severity",), ["AB", "C"])]
)
def test_groups_are_formed_by_the_labels_that_are_asked_for(source, group_by, wanted):
    found = heard(source, Pace(group_by, wait_s=10), (0, "abc"), (10, "abc"))
    assert sorted(names for _, names in found) == wanted


def test_a_silenced_alert_is_left_out_of_its_group_until_its_silence_ends(source):
    life = Life(source, Hook(), SEVERITY)
    life.silenced = {"A"}
    life.run((0, "ab"), (10, "ab"))
    life.silenced = set()
    assert life.run((20, "ab")) == [(0, "B"), (20, "AB")]


def test_a_group_that_waits_when_the_process_is_killed_is_told_of_once_and_in_time(source, tmp_path: Path):
    hook, pace = Hook(), Pace(("severity",), wait_s=30, interval_s=60)
    Life(source, hook, pace, tmp_path / "a.db").run((0, "a"), (10, "ab"))
    first = Life(source, hook, pace, tmp_path / "b.db")
    first.run((0, "a"), (10, "ab"))
    first.state.close()
    second = Life(source, hook, pace, tmp_path / "b.db", start_s=15)
    assert second.run((20, "ab"), (30, "ab")) == [(30, "AB")]
    second.state.close()
    third = Life(source, hook, pace, tmp_path / "b.db", start_s=35)
    assert third.run((40, "a"), (80, "a"), (90, "a"), (100, "a")) == [(30, "AB"), (90, "A-B")]


def test_other_labels_to_group_by_after_a_restart_page_nobody_again(source, tmp_path: Path):
    hook = Hook()
    first = Life(source, hook, SEVERITY, tmp_path / "a.db")
    first.run((0, "ab"))
    first.state.close()
    second = Life(source, hook, Pace(("alertname",)), tmp_path / "a.db", start_s=5)
    assert second.run((10, "ab"), (20, "b")) == [(0, "A"), (0, "AB"), (20, "-A")]


def test_groups_go_on_when_the_clock_is_set_back(source):
    pace = Pace(("severity",), wait_s=30)
    assert heard(source, pace, (100_000, "a"), (50_000, "a")) == [(50_000, "A")]


def test_the_same_alert_of_two_rules_is_one(source):
    rule = AlertRule("A", "a")
    source.answer("a", lambda _: {"x": 1.0})
    dispatcher = Dispatcher(SEVERITY, (), lambda alert, now_s: False)
    for name in ("one", "two"):
        group = Group(RuleGroup(name, "r.yml", (rule,)), source, Writeback(source.write), interval_s=10)
        group.evaluate(0)
        dispatcher.note(name, group.status, 0)
    telling = dispatcher.flush(0)
    assert [len(bundle.news) for bundle in telling.bundles] == [1]
    assert dispatcher.flush(0) == Telling()
