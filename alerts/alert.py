"""One alert's life: pending, firing, resolved. Pure functions of values; the clock is an argument.

The rules are Prometheus's (rules/alerting.go): an alert is pending until it has held for ``for``, goes on firing for
``keep_firing_for`` after it last held, and is remembered for a while after it resolved.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alerts.errors import EvaluationError
from alerts.rule import AlertRule
from collector.model.labels import Labels, from_mapping
from collector.model.series import Sample

RESOLVED_RETENTION_S = 15 * 60.0
"""How long a resolved alert is remembered, so that receivers hear of it."""

State = Literal["pending", "firing", "inactive"]


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of a rule, told apart by its labels (``alertname`` and the rule's labels included).

    All times are Unix seconds. ``resolved_at_s`` is set once it is inactive; ``last_sent_at_s`` is when receivers that
    expect repetition were last told.
    """

    labels: Labels
    annotations: Labels
    value: float
    active_at_s: float
    state: State = "pending"
    fired_at_s: float | None = None
    resolved_at_s: float | None = None
    keep_firing_since_s: float | None = None
    last_sent_at_s: float | None = None

    @property
    def fingerprint(self) -> str:
        """16 hex digits that tell label sets apart."""
        text = "\xff".join(f"{name}\xfe{value}" for name, value in self.labels)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


Alerts = Mapping[Labels, Alert]


def advance(rule: AlertRule, active: Alerts, found: Iterable[Alert], now_s: float, limit: int | None = None) -> Alerts:
    """The rule's alerts after an evaluation at ``now_s`` that found ``found`` to hold.

    Raises EvaluationError where two of ``found`` have the same labels, or more than ``limit`` alerts are active; the
    latter forgets all of the rule's alerts, as in Prometheus, so the caller drops ``active`` then.
    """
    holding: dict[Labels, Alert] = {}
    for alert in found:
        if alert.labels in holding:
            raise EvaluationError("vector contains metrics with the same labelset after applying alert labels")
        holding[alert.labels] = alert
    after: dict[Labels, Alert] = {}
    for labels, alert in active.items():
        if labels not in holding:
            kept = _absent(rule, alert, now_s)
            if kept is not None:
                after[labels] = kept
    for labels, alert in holding.items():
        before = active.get(labels)
        after[labels] = _held(rule, alert, before, now_s)
    count = sum(alert.state != "inactive" for alert in after.values())
    if limit is not None and count > limit:
        raise LimitExceeded(f"exceeded limit of {limit} with {count} alerts")
    return after


class LimitExceeded(EvaluationError):
    """More alerts are active than the group's limit; the rule forgets them all."""


def is_active(alert: Alert) -> bool:
    """Whether it is pending or firing."""
    return alert.state != "inactive"


def needs_sending(alert: Alert, now_s: float, resend_delay_s: float) -> bool:
    """Whether receivers that expect repetition (Alertmanager) must hear of it now."""
    if alert.state == "pending":
        return False
    if alert.last_sent_at_s is None:
        return True
    if alert.resolved_at_s is not None and alert.resolved_at_s > alert.last_sent_at_s:
        return True
    return alert.last_sent_at_s + resend_delay_s < now_s


def changed(before: Alerts, after: Alerts) -> tuple[Alert, ...]:
    """Alerts that began to fire or resolved between two evaluations."""
    return tuple(
        alert
        for labels, alert in after.items()
        if alert.state != "pending" and _episode(before.get(labels)) != _episode(alert)
    )


def restored(alert: Alert, down_s: float, tolerance_s: float) -> Alert | None:
    """An alert as it goes on after an outage of ``down_s``.

    The ``for`` clock stood still meanwhile; a pending alert is forgotten where the outage exceeds ``tolerance_s``.
    A firing one goes on firing, so that nobody is told twice, until an evaluation says otherwise.
    """
    if alert.state != "pending":
        return alert
    return None if down_s > tolerance_s else replace(alert, active_at_s=alert.active_at_s + max(down_s, 0.0))


def samples_of(alerts: Sequence[Alert], now_s: float) -> list[Sample]:
    """``ALERTS`` (1) and ``ALERTS_FOR_STATE`` (Unix seconds since when) of the active ones."""
    timestamp_ms = round(now_s * 1000)
    samples = []
    for alert in alerts:
        if not is_active(alert):
            continue
        labels = dict(alert.labels)
        state = from_mapping(labels | {"__name__": "ALERTS", "alertstate": alert.state})
        since = from_mapping(labels | {"__name__": "ALERTS_FOR_STATE"})
        samples.append(Sample(state, timestamp_ms, 1.0))
        samples.append(Sample(since, timestamp_ms, float(int(alert.active_at_s))))
    return samples


def _held(rule: AlertRule, found: Alert, before: Alert | None, now_s: float) -> Alert:
    alert = found
    if before is not None and before.state != "inactive":
        alert = replace(before, value=found.value, annotations=found.annotations, keep_firing_since_s=None)
    if alert.state == "pending" and now_s - alert.active_at_s >= rule.for_s:
        alert = replace(alert, state="firing", fired_at_s=now_s)
    return alert


def _absent(rule: AlertRule, alert: Alert, now_s: float) -> Alert | None:
    if alert.state == "pending":
        return None
    if alert.state == "firing" and rule.keep_firing_for_s > 0:
        since = now_s if alert.keep_firing_since_s is None else alert.keep_firing_since_s
        if now_s - since < rule.keep_firing_for_s:
            return replace(alert, keep_firing_since_s=since)
    if alert.resolved_at_s is not None and now_s - alert.resolved_at_s > RESOLVED_RETENTION_S:
        return None
    if alert.state == "inactive":
        return alert
    return replace(alert, state="inactive", resolved_at_s=now_s)


def _episode(alert: Alert | None) -> tuple[float | None, float | None] | None:
    return None if alert is None or alert.state == "pending" else (alert.fired_at_s, alert.resolved_at_s)
