"""What each receiver must be sent of what an evaluation brought: grouped into bundles, with keys. Pure functions."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from alerts.group import Notice
from alerts.payload import (
    Bundle,
    Links,
    News,
    alertmanager_alert,
    email_body,
    pagerduty_event,
    slack_payload,
    webhook_payload,
)
from collector.model.labels import keep

__all__ = ["Links", "Message", "Receiver", "ReceiverKind", "messages"]

ReceiverKind = Literal["webhook", "alertmanager", "slack", "pagerduty", "email"]

GROUP_BY = ("alertname",)


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where notifications go. ``url`` of an Alertmanager is its root, without ``/api/v2``; of email, its server.

    ``secret`` (PagerDuty's routing key, Slack's whole address) is never shown or kept.
    """

    kind: ReceiverKind
    url: str
    secret: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """How logs, metrics and the outbox call it."""
        mark = hashlib.sha256(self.secret.encode()).hexdigest()[:6] if self.secret else ""
        return f"{self.kind} {self.url}" + (f" #{mark}" if mark else "")


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to deliver; a later message with the same ``key`` to the same receiver takes its place."""

    receiver: str
    key: str
    body: bytes


def messages(
    notices: Notice | Sequence[Notice],
    receivers: Sequence[Receiver],
    links: Links,
    now_s: float,
    group_by: Sequence[str] = GROUP_BY,
) -> list[Message]:
    """What each receiver must be sent.

    An Alertmanager is told every minute what fires, and until when to believe it, because it takes silence for an
    end. The others hear once of each change; changes whose labels ``group_by`` agree come in one message.
    """
    notices = [notices] if isinstance(notices, Notice) else list(notices)
    bundles = _bundles(notices, group_by)
    found: list[Message] = []
    for receiver in receivers:
        if receiver.kind == "alertmanager":
            found += [
                Message(receiver.name, alert.fingerprint, orjson.dumps(alertmanager_alert(alert, notice, links)))
                for notice in notices
                for alert in notice.due
            ]
        elif receiver.kind == "pagerduty":
            found += [_event(receiver, one, links, now_s) for bundle in bundles for one in bundle.news]
        else:
            body = _BODIES[receiver.kind]
            found += [
                Message(receiver.name, _key(bundle, now_s), orjson.dumps(body(bundle, receiver, links)))
                for bundle in bundles
            ]
    return found


_BODIES: Mapping[str, Callable[[Bundle, Receiver, Links], object]] = {
    "webhook": lambda bundle, receiver, links: webhook_payload(bundle, receiver.kind, links),
    "slack": lambda bundle, receiver, links: slack_payload(bundle, links),
    "email": lambda bundle, receiver, links: email_body(bundle, links),
}


def _bundles(notices: Sequence[Notice], group_by: Sequence[str]) -> list[Bundle]:
    found: dict[tuple[tuple[str, str], ...], list[News]] = {}
    for notice in notices:
        for alert in notice.changed:
            found.setdefault(keep(alert.labels, group_by), []).append(News(alert, notice))
    return [Bundle(labels, tuple(news)) for labels, news in found.items()]


def _event(receiver: Receiver, news: News, links: Links, now_s: float) -> Message:
    key = f"{news.alert.fingerprint};{news.alert.state};{round(now_s * 1000)}"
    return Message(receiver.name, key, orjson.dumps(pagerduty_event(news, links)))


def _key(bundle: Bundle, now_s: float) -> str:
    """Told apart by what is in it: two groups of rules may be evaluated at the same moment."""
    alerts = ",".join(sorted(f"{one.alert.fingerprint}{one.notice.rule.line}" for one in bundle.news))
    place = bundle.news[0].notice.group
    digest = hashlib.sha256(f"{place.file};{place.name};{bundle.labels};{alerts}".encode()).hexdigest()[:16]
    return f"{digest};{round(now_s * 1000)}"
