import logging

import numpy as np
import pytest

from alerts.group import Group
from alerts.rule import AlertRule, RecordRule, RuleGroup
from alerts.writeback import Writeback
from collector.model.errors import SourceError
from collector.model.labels import get
from collector.model.series import is_stale

UP = AlertRule("Down", "up == 0", for_s=60, labels=(("severity", "page"),), annotations=(("s", "{{ $value }}"),))


def group_of(source, *rules, **fields) -> Group:
    spec = RuleGroup("g", "rules.yml", rules, **fields)
    return Group(spec, source, Writeback(source.write), interval_s=30, timer=lambda: 0.0)


def written(source) -> list[tuple[dict, float]]:
    return [(dict(series.labels), float(series.values[0])) for series in source.written]


def test_an_alert_is_evaluated_labelled_and_written_back(source):
    source.answer("up == 0", lambda _: {"a": 0.0})
    group = group_of(source, UP)
    assert group.evaluate(0) == []
    (notice,) = group.evaluate(60)
    (alert,) = notice.due
    assert dict(alert.labels) == {"alertname": "Down", "instance": "a", "severity": "page"}
    assert dict(alert.annotations) == {"s": "0"}
    assert (alert.fired_at_s, notice.valid_until_s) == (60, 60 + 4 * 60)
    names = [labels["__name__"] + labels.get("alertstate", "") for labels, _ in written(source)]
    assert names == [
        "ALERTSpending", "ALERTS_FOR_STATE",  # at 0
        "ALERTSfiring", "ALERTS_FOR_STATE", "ALERTSpending",  # at 60; the last one ends the pending series
    ]  # fmt: skip
    assert is_stale(source.written[-1].values).all()


def test_a_recording_rule_is_written_under_its_name_and_ends_when_its_series_go(source):
    source.answer("x", lambda time_s: {"a": 1.5} if time_s < 60 else {})
    group = group_of(source, RecordRule("job:x", "x", (("team", "t"),)))
    group.evaluate(0)
    assert written(source) == [({"__name__": "job:x", "instance": "a", "team": "t"}, 1.5)]
    group.evaluate(60)
    assert is_stale(source.written[1].values).all()
    group.evaluate(120)
    assert len(source.written) == 2


def test_a_failing_rule_keeps_its_alerts_and_the_others_go_on(source):
    source.answer("up == 0", lambda time_s: None if time_s == 60 else {"a": 0.0})
    source.answer("x", lambda _: {"a": 1.0})
    group = group_of(source, UP, RecordRule("job:x", "x"))
    group.evaluate(0)
    group.evaluate(60)
    down, record = group.status.rules
    assert (down.health, record.health) == ("err", "ok")
    assert "503: overloaded" in down.error
    assert down.state == "pending"
    group.evaluate(120)
    down, _ = group.status.rules
    assert (down.health, down.error, down.state) == ("ok", "", "firing")


def test_a_failure_is_logged_once_and_so_is_its_end(source, caplog: pytest.LogCaptureFixture):
    source.answer("up == 0", lambda time_s: None if time_s < 120 else {})
    group = group_of(source, UP)
    with caplog.at_level(logging.INFO):
        for now_s in (0, 60, 120, 180):
            group.evaluate(now_s)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "rule Down (rules.yml;g) cannot be evaluated",
        "rule Down (rules.yml;g) can be evaluated again",
    ]


def test_a_template_that_fails_says_so_in_its_place(source):
    source.answer("x", lambda _: {"a": 1.0})
    rule = AlertRule("A", "x", annotations=(("s", "{{ if gt $value 1 }}{{ end }}"),))
    (notice,) = group_of(source, rule).evaluate(0)
    (alert,) = notice.due
    assert dict(alert.annotations)["s"].startswith("<error expanding template: gt: incompatible types")


def test_a_template_asks_the_source_at_the_same_moment(source):
    source.answer("x", lambda _: {"a": 1.0})
    source.answer("y", lambda _: {"b": 7.0})
    rule = AlertRule("A", "x", annotations=(("s", '{{ query "y" | first | value }}'),))
    (notice,) = group_of(source, rule).evaluate(90)
    assert dict(notice.due[0].annotations) == {"s": "7"}
    assert source.asked[-1] == ("y", 90)


def test_series_that_become_the_same_are_an_error(source):
    source.answer("x", lambda _: {"a": 1.0, "b": 2.0})
    rules = (AlertRule("A", "x", labels=(("instance", "same"),)), RecordRule("job:x", "x", (("instance", "same"),)))
    group = group_of(source, *rules)
    group.evaluate(0)
    assert ["same labelset" in rule.error for rule in group.status.rules] == [True, True]


def test_more_than_the_groups_limit_is_an_error_and_forgets_the_alerts(source):
    source.answer("x", lambda time_s: {"a": 1.0} if time_s == 0 else {"a": 1.0, "b": 1.0})
    group = group_of(source, AlertRule("A", "x"), RecordRule("job:x", "x"), limit=1)
    group.evaluate(0)
    assert [rule.health for rule in group.status.rules] == ["ok", "ok"]
    group.evaluate(30)
    alert, record = group.status.rules
    assert alert.error == "exceeded limit of 1 with 2 alerts"
    assert record.error == "exceeded limit of 1 with 2 series"
    assert alert.alerts == {}


def test_rules_look_into_the_past_by_the_query_offset(source):
    source.answer("x", lambda _: {"a": 1.0})
    group_of(source, RecordRule("job:x", "x"), query_offset_s=30).evaluate(100)
    assert source.asked == [("x", 70)]
    assert source.written[0].timestamps_ms.tolist() == [70_000]


def test_a_source_that_takes_no_writes_is_told_of_once_and_asked_again_later(source, caplog: pytest.LogCaptureFixture):
    source.answer("x", lambda _: {"a": 1.0})
    source.refuses_writes = SourceError("http://p/api/v1/write: 404: remote write receiver is off", "http_404")
    group = group_of(source, RecordRule("job:x", "x"))
    with caplog.at_level(logging.WARNING):
        for now_s in range(0, 300, 30):
            group.evaluate(now_s)
        assert group.status.rules[0].health == "ok"
        source.refuses_writes = None
        group.evaluate(330)
    assert [record.message for record in caplog.records] == [
        "results of rules (ALERTS, recording rules) are not kept: "
        "http://p/api/v1/write: 404: remote write receiver is off"
    ]
    assert len(source.written) == 1


def test_a_restored_group_goes_on_where_it_was(source):
    source.answer("up == 0", lambda _: {"a": 0.0})
    before = group_of(source, UP)
    before.evaluate(0)
    memory = [("Down", alert) for alert in before.status.rules[0].alerts.values()]
    after = group_of(source, UP)
    after.restore(memory, evaluated_at_s=0, now_s=1030)
    assert after.status.rules[0].active[0].active_at_s == 1000
    after.evaluate(1040)
    assert after.status.rules[0].state == "pending"
    (notice,) = after.evaluate(1060)
    assert notice.due[0].state == "firing"


def test_groups_are_due_at_fixed_moments_spread_over_the_interval(source):
    group = group_of(source, UP)
    first = group.next_evaluation_s(1000)
    assert 1000 < first <= 1030
    assert group.next_evaluation_s(first) == pytest.approx(first + 30)
    assert group.next_evaluation_s(first - 0.001) == pytest.approx(first)
    others = {
        Group(RuleGroup(str(n), "f", ()), source, Writeback(source.write), interval_s=30).next_evaluation_s(0)
        for n in range(20)
    }
    assert len(others) == 20
    assert np.ptp(list(others)) > 10


def test_results_of_a_group_are_written_together_unless_a_later_rule_asks_for_them(source):
    writes: list[list[str]] = []
    for expr in ("a", "b", "job:a > 0"):
        source.answer(expr, lambda _: {"i": 1.0})
    rules = (RecordRule("job:a", "a"), RecordRule("job:b", "b"), AlertRule("A", "job:a > 0"))
    for order, expected in (
        (rules, [["job:a", "job:b"], ["ALERTS", "ALERTS_FOR_STATE"]]),
        ((rules[0], rules[1]), [["job:a", "job:b"]]),
    ):
        writes.clear()
        writeback = Writeback(lambda series: writes.append([get(one.labels, "__name__") for one in series]))
        Group(RuleGroup("g", "r.yml", order), source, writeback, interval_s=30).evaluate(0)
        assert writes == expected
