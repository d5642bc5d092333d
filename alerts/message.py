"""What receivers are sent: Alertmanager's v2 alerts and its webhook payload (version 4). Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote_plus

import orjson

from alerts.alert import Alert
from alerts.clock import NEVER, rfc3339
from alerts.group import Notice
from collector.model.labels import Labels

ReceiverKind = Literal["webhook", "alertmanager"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where notifications go. ``url`` of an Alertmanager is its root, without ``/api/v2``."""

    kind: ReceiverKind
    url: str

    @property
    def name(self) -> str:
        """How logs, metrics and the outbox call it."""
        return f"{self.kind} {self.url}"


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to deliver; a later message with the same ``key`` to the same receiver takes its place."""

    receiver: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Links:
    """Where a notification's links lead: ``source`` answers queries, ``external_url`` is the page for people."""

    source: str
    external_url: str

    def generator(self, expr: str) -> str:
        """A link that asks the rule's expression again."""
        return f"{self.source.rstrip('/')}/api/v1/query?query={quote_plus(expr)}"


def messages(notice: Notice, receivers: Sequence[Receiver], links: Links, now_s: float) -> list[Message]:
    """What each receiver must be sent of ``notice``.

    A webhook hears once of each change. An Alertmanager is told every minute what fires, and until when to believe
    it, because it takes silence for an end.
    """
    found: list[Message] = []
    for receiver in receivers:
        if receiver.kind == "alertmanager":
            found += [
                Message(receiver.name, alert.fingerprint, orjson.dumps(alertmanager_alert(alert, notice, links)))
                for alert in notice.due
            ]
        elif notice.changed:
            body = orjson.dumps(webhook_payload(notice, receiver, links))
            key = f"{notice.group.file};{notice.group.name};{notice.rule.name};{notice.rule.line};{round(now_s * 1000)}"
            found.append(Message(receiver.name, key, body))
    return found


def alertmanager_alert(alert: Alert, notice: Notice, links: Links) -> dict[str, Any]:
    """One element of the array that ``POST /api/v2/alerts`` takes."""
    ends_at_s = alert.resolved_at_s if alert.resolved_at_s is not None else notice.valid_until_s
    return {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "startsAt": rfc3339(alert.fired_at_s),
        "endsAt": rfc3339(ends_at_s),
        "generatorURL": links.generator(notice.rule.expr),
    }


def webhook_payload(notice: Notice, receiver: Receiver, links: Links) -> dict[str, Any]:
    """Alertmanager's webhook payload, version 4, of the alerts of one rule that changed together."""
    alerts = notice.changed
    name = notice.rule.name
    firing = any(alert.state == "firing" for alert in alerts)
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{name}"}}',
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": receiver.kind,
        "groupLabels": {"alertname": name},
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": links.external_url,
        "alerts": [
            {
                "status": "firing" if alert.state == "firing" else "resolved",
                "labels": dict(alert.labels),
                "annotations": dict(alert.annotations),
                "startsAt": rfc3339(alert.fired_at_s),
                "endsAt": NEVER if alert.resolved_at_s is None else rfc3339(alert.resolved_at_s),
                "generatorURL": links.generator(notice.rule.expr),
                "fingerprint": alert.fingerprint,
            }
            for alert in alerts
        ],
    }


def _common(label_sets: Sequence[Labels]) -> dict[str, str]:
    shared = set(label_sets[0]).intersection(*label_sets[1:])
    return dict(sorted(shared))
