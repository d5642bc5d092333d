"""What changed for alerts from one evaluation to the next, as it is kept and asked for."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from alerts.alert import Alert
from alerts.clock import rfc3339
from alerts.group import GroupStatus, RuleStatus
from alerts.template.goformat import show_exponent
from collector.model.labels import Labels


@dataclass(frozen=True, slots=True)
class Change:
    """An alert's new state at ``at_s``; ``ended`` is a pending one that never fired. All times are Unix seconds."""

    at_s: float
    state: Literal["pending", "firing", "resolved", "ended"]
    alertname: str
    group: str
    fingerprint: str
    labels: Labels
    summary: str
    value: float
    active_at_s: float
    fired_at_s: float | None

    def as_json(self) -> dict[str, Any]:
        """As the API answers it."""
        return {
            "at": rfc3339(self.at_s),
            "state": self.state,
            "alertname": self.alertname,
            "group": self.group,
            "fingerprint": self.fingerprint,
            "labels": dict(self.labels),
            "summary": self.summary,
            "value": show_exponent(self.value),
            "activeAt": rfc3339(self.active_at_s),
            "firedAt": None if self.fired_at_s is None else rfc3339(self.fired_at_s),
        }


def changes(before: GroupStatus, after: GroupStatus, now_s: float) -> tuple[Change, ...]:
    """What became of the alerts of a group between two evaluations, the later at ``now_s``."""
    rules = zip(before.rules, after.rules, strict=True)
    return tuple(one for old, new in rules for one in _of_rule(old, new, after.group.name, now_s))


def _of_rule(before: RuleStatus, after: RuleStatus, group: str, now_s: float) -> Iterator[Change]:
    if before.alerts == after.alerts:
        return
    for labels, alert in after.alerts.items():
        old = before.alerts.get(labels)
        fired_before = old is not None and old.state == "firing"
        if alert.state == "firing" and not (fired_before and old is not None and old.fired_at_s == alert.fired_at_s):
            yield _change(alert, "firing", after, group, now_s)
        elif alert.state == "pending" and (old is None or old.state != "pending"):
            yield _change(alert, "pending", after, group, now_s)
        elif alert.state == "inactive" and fired_before:
            yield _change(alert, "resolved", after, group, now_s)
    for labels, alert in before.alerts.items():
        if labels not in after.alerts and alert.state != "inactive":
            state: Literal["resolved", "ended"] = "resolved" if alert.state == "firing" else "ended"
            yield _change(alert, state, after, group, now_s)


def _change(
    alert: Alert, state: Literal["pending", "firing", "resolved", "ended"], rule: RuleStatus, group: str, now_s: float
) -> Change:
    return Change(
        at_s=now_s,
        state=state,
        alertname=rule.rule.name,
        group=group,
        fingerprint=alert.fingerprint,
        labels=alert.labels,
        summary=dict(alert.annotations).get("summary", ""),
        value=alert.value,
        active_at_s=alert.active_at_s,
        fired_at_s=alert.fired_at_s,
    )
