"""Prometheus's alert states, by written scenario; the clock is the test's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.alert import (
    RESOLVED_RETENTION_S,
    Alert,
    LimitExceeded,
    advance,
    changed,
    needs_sending,
    restored,
    samples_of,
)
from alerts.errors import EvaluationError
from alerts.rule import AlertRule

LABELS = (("alertname", "A"), ("instance", "x"))


def held(now_s: float, value: float = 1.0, labels=LABELS) -> Alert:
    return Alert(labels, (("summary", f"value {value}"),), value, now_s)


def states(rule: AlertRule, holds: str, step_s: float = 60.0) -> str:
    """One letter per evaluation: p(ending), f(iring), r(esolved), . (nothing)."""
    alerts: dict = {}
    letters = ""
    for number, mark in enumerate(holds):
        now_s = number * step_s
        alerts = advance(rule, alerts, [held(now_s)] if mark == "x" else [], now_s)
        letters += {"pending": "p", "firing": "f", "inactive": "r"}[alerts[LABELS].state] if alerts else "."
    return letters


@pytest.mark.parametrize(
    ("for_s", "keep_s", "holds", "wanted"),
    [
        (0, 0, "xx-", "ffr"),
        (120, 0, "xxxx-", "ppffr"),
        (120, 0, "xx-xxxx", "pp.ppff"),
        (90, 0, "xxx", "ppf"),
        (0, 120, "x---", "fffr"),
        (0, 120, "x-x---", "fffffr"),
        (120, 120, "xxx-x--x", "ppffffff"),
        (120, 60, "xxx--x", "ppffrp"),
        (0, 0, "x-x", "frf"),
    ],
)
def test_an_alert_goes_through_its_states(for_s: float, keep_s: float, holds: str, wanted: str):
    assert states(AlertRule("A", "up", for_s, keep_s), holds) == wanted


def test_a_resolved_alert_is_forgotten_after_its_retention():
    rule = AlertRule("A", "up")
    alerts = advance(rule, {}, [held(0)], 0)
    alerts = advance(rule, alerts, [], 60)
    assert alerts[LABELS].resolved_at_s == 60
    assert advance(rule, alerts, [], 60 + RESOLVED_RETENTION_S)
    assert not advance(rule, alerts, [], 61 + RESOLVED_RETENTION_S)


def test_a_standing_alert_takes_the_new_value_and_annotations_and_keeps_its_beginning():
    rule = AlertRule("A", "up", for_s=60)
    alerts = advance(rule, {}, [held(0, 1.0)], 0)
    alerts = advance(rule, alerts, [held(60, 2.0)], 60)
    alert = alerts[LABELS]
    assert (alert.active_at_s, alert.fired_at_s, alert.value) == (0, 60, 2.0)
    assert alert.annotations == (("summary", "value 2.0"),)


def test_two_results_with_the_same_labels_are_an_error():
    with pytest.raises(EvaluationError, match="same labelset"):
        advance(AlertRule("A", "up"), {}, [held(0), held(0)], 0)


def test_more_alerts_than_the_limit_are_an_error():
    found = [held(0, labels=(("alertname", "A"), ("n", str(number)))) for number in range(3)]
    assert len(advance(AlertRule("A", "up"), {}, found, 0, limit=3)) == 3
    with pytest.raises(LimitExceeded, match="exceeded limit of 2 with 3 alerts"):
        advance(AlertRule("A", "up"), {}, found, 0, limit=2)


def test_a_pending_alert_is_never_sent_and_a_firing_one_every_minute_until_it_resolves():
    rule = AlertRule("A", "up")
    pending = held(0)
    assert not needs_sending(pending, 0, 60)
    firing = advance(rule, {}, [held(0)], 0)[LABELS]
    assert needs_sending(firing, 0, 60)
    sent = Alert(**{name: getattr(firing, name) for name in firing.__slots__} | {"last_sent_at_s": 0.0})
    assert not needs_sending(sent, 60, 60)
    assert needs_sending(sent, 61, 60)
    resolved = advance(rule, {LABELS: sent}, [], 30)[LABELS]
    assert needs_sending(resolved, 30, 60)


def test_only_beginnings_and_ends_are_changes():
    rule = AlertRule("A", "up", for_s=60)
    before: dict = {}
    seen = []
    for now_s, found in [(0, True), (60, True), (120, True), (180, False), (240, False), (300, True)]:
        after = advance(rule, before, [held(now_s)] if found else [], now_s)
        seen.append([alert.state for alert in changed(before, after)])
        before = after
    assert seen == [[], ["firing"], [], ["inactive"], [], []]


def test_the_for_clock_stands_still_during_an_outage_and_is_given_up_after_a_long_one():
    pending = held(100)
    kept = restored(pending, down_s=50, tolerance_s=3600)
    assert kept is not None
    assert kept.active_at_s == 150
    assert restored(pending, down_s=3601, tolerance_s=3600) is None


def test_a_firing_alert_survives_any_outage():
    firing = advance(AlertRule("A", "up"), {}, [held(0)], 0)[LABELS]
    assert restored(firing, down_s=10**6, tolerance_s=3600) == firing


def test_active_alerts_become_two_series_each():
    firing = advance(AlertRule("A", "up"), {}, [held(7)], 7.5)[LABELS]
    state, since = samples_of([firing], 7.5)
    assert dict(state.labels) == {"__name__": "ALERTS", "alertname": "A", "alertstate": "firing", "instance": "x"}
    assert (state.value, state.timestamp_ms) == (1.0, 7500)
    assert dict(since.labels) == {"__name__": "ALERTS_FOR_STATE", "alertname": "A", "instance": "x"}
    assert since.value == 7.0
    assert samples_of([advance(AlertRule("A", "up"), {LABELS: firing}, [], 60)[LABELS]], 60) == []


@given(st.text(alphabet="x-", max_size=40), st.integers(0, 5), st.integers(0, 5))
def test_an_alert_fires_only_after_it_held_for_its_time(holds: str, for_steps: int, keep_steps: int):
    letters = states(AlertRule("A", "up", for_steps * 60.0, keep_steps * 60.0), holds)
    for position, letter in enumerate(letters):
        if letter == "f" and (position == 0 or letters[position - 1] != "f"):
            assert holds[position - for_steps : position + 1] == "x" * (for_steps + 1)
        if letter == "p":
            assert holds[position] == "x"
