"""Bodies that receivers take: Alertmanager's v2 alerts, its webhook (version 4), Slack, PagerDuty, email. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from alerts.alert import Alert
from alerts.clock import NEVER, rfc3339
from alerts.dispatch import Bundle
from alerts.group import Notice
from collector.model.labels import Labels, get, render, without

PAGERDUTY_SEVERITIES = {"page": "critical", "critical": "critical", "error": "error", "ticket": "warning"}
"""PagerDuty's severity by ours; anything else is a warning."""

_RED, _GREEN = "#d62728", "#2ca02c"


@dataclass(frozen=True, slots=True)
class Links:
    """Where a notification's links lead: ``source`` answers queries, ``external_url`` is the page for people."""

    source: str
    external_url: str

    def generator(self, expr: str) -> str:
        """A link that asks the rule's expression again."""
        return f"{self.source.rstrip('/')}/api/v1/query?query={quote_plus(expr)}"


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


def webhook_payload(bundle: Bundle, receiver: str, links: Links) -> dict[str, Any]:
    """Alertmanager's webhook payload, version 4."""
    alerts = [one.alert for one in bundle.news]
    return {
        "version": "4",
        "groupKey": bundle.key,
        "truncatedAlerts": 0,
        "status": "firing" if bundle.firing else "resolved",
        "receiver": receiver,
        "groupLabels": dict(bundle.labels),
        "commonLabels": _common([alert.labels for alert in alerts]),
        "commonAnnotations": _common([alert.annotations for alert in alerts]),
        "externalURL": links.external_url,
        "alerts": [
            {
                "status": _status(one.alert),
                "labels": dict(one.alert.labels),
                "annotations": dict(one.alert.annotations),
                "startsAt": rfc3339(one.alert.fired_at_s),
                "endsAt": NEVER if one.alert.resolved_at_s is None else rfc3339(one.alert.resolved_at_s),
                "generatorURL": links.generator(one.expr),
                "fingerprint": one.alert.fingerprint,
            }
            for one in bundle.news
        ],
    }


def slack_payload(bundle: Bundle, links: Links) -> dict[str, Any]:
    """What a Slack incoming webhook takes."""
    return {
        "text": _slack_text(bundle.title),
        "attachments": [
            {
                "color": _RED if one.alert.state == "firing" else _GREEN,
                "title": _slack_text(dict(one.alert.annotations).get("summary", get(one.alert.labels, "alertname"))),
                "title_link": links.external_url,
                "text": _slack_text("\n".join(_told(one.alert))),
                "footer": _slack_text(render(without(one.alert.labels, ("alertname",)))),
                "ts": round(one.alert.resolved_at_s or one.alert.fired_at_s or 0),
            }
            for one in bundle.news
        ],
    }


def pagerduty_event(bundle: Bundle, links: Links) -> dict[str, Any]:
    """An event of PagerDuty's Events API v2, without its routing key: one incident a group, as Alertmanager makes them.

    The group's key ties the end to the beginning.
    """
    if not bundle.firing:
        return {"event_action": "resolve", "dedup_key": bundle.digest}
    firing = [one.alert for one in bundle.news if one.alert.state == "firing"]
    labels = _common([alert.labels for alert in firing])
    names = list(dict.fromkeys(get(alert.labels, "alertname") for alert in firing))
    severities = {PAGERDUTY_SEVERITIES.get(get(alert.labels, "severity"), "warning") for alert in firing}
    details = {
        "num_firing": str(len(firing)),
        "num_resolved": str(len(bundle.news) - len(firing)),
        "firing": "\n".join(f"{render(one.labels)} {dict(one.annotations).get('summary', '')}" for one in firing),
    }
    return {
        "event_action": "trigger",
        "dedup_key": bundle.digest,
        "client": "Loadline",
        "client_url": links.external_url,
        "payload": {
            "summary": bundle.title.removeprefix("[FIRING] ")[:1024],
            "source": next((labels[label] for label in ("instance", "pool", "job") if label in labels), names[0]),
            "severity": next(each for each in ("critical", "error", "warning") if each in severities),
            "timestamp": rfc3339(min(alert.fired_at_s or 0.0 for alert in firing)),
            "class": ", ".join(names),
            "custom_details": labels | _common([alert.annotations for alert in firing]) | details,
        },
        "links": [
            {"href": links.generator(expr), "text": "Query"} for expr in dict.fromkeys(one.expr for one in bundle.news)
        ],
    }


def email_body(bundle: Bundle, links: Links) -> dict[str, str]:
    """Subject and text of a mail."""
    parts = []
    for one in bundle.news:
        lines = [
            f"{_status(one.alert)}: {get(one.alert.labels, 'alertname')}",
            *_told(one.alert),
            f"labels: {render(without(one.alert.labels, ('alertname',)))}",
            f"since: {rfc3339(one.alert.fired_at_s)}",
            *([f"until: {rfc3339(one.alert.resolved_at_s)}"] if one.alert.resolved_at_s is not None else []),
            f"query: {links.generator(one.expr)}",
        ]
        parts.append("\n".join(lines))
    text = "\n\n".join([*parts, links.external_url])
    return {"subject": " ".join(bundle.title.split())[:200], "text": text + "\n"}


def _told(alert: Alert) -> list[str]:
    """Annotations as lines, those that people read first in front."""
    annotations = dict(alert.annotations)
    first = [name for name in ("summary", "description", "causes", "remedy", "query", "runbook") if name in annotations]
    names = [*first, *(name for name in annotations if name not in first)]
    return [f"{name}: {annotations[name]}" for name in names]


def _status(alert: Alert) -> str:
    return "firing" if alert.state == "firing" else "resolved"


def _common(label_sets: Sequence[Labels]) -> dict[str, str]:
    shared = set(label_sets[0]).intersection(*label_sets[1:])
    return dict(sorted(shared))


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
