"""What each receiver must be sent, with keys that tell messages apart. Pure functions."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import orjson

from alerts.dispatch import Bundle
from alerts.group import Notice
from alerts.payload import Links, alertmanager_alert, email_body, pagerduty_event, slack_payload, webhook_payload

__all__ = ["Links", "Message", "Receiver", "ReceiverKind", "alertmanager_messages", "bundle_messages"]

ReceiverKind = Literal["webhook", "alertmanager", "slack", "pagerduty", "email"]


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


def alertmanager_messages(notices: Iterable[Notice], receivers: Iterable[Receiver], links: Links) -> list[Message]:
    """What each Alertmanager must be sent: it is told every minute what fires, and takes silence for an end."""
    return [
        Message(receiver.name, alert.fingerprint, orjson.dumps(alertmanager_alert(alert, notice, links)))
        for receiver in receivers
        if receiver.kind == "alertmanager"
        for notice in notices
        for alert in notice.due
    ]


def bundle_messages(
    bundles: Sequence[Bundle], receivers: Iterable[Receiver], links: Links, now_s: float
) -> list[Message]:
    """What the other receivers must be sent: one message for each bundle, none of which takes another's place."""
    found = []
    for receiver in receivers:
        for bundle in bundles if receiver.kind in _BODIES else ():
            body = orjson.dumps(_BODIES[receiver.kind](bundle, receiver, links))
            key = f"{bundle.digest};{round(now_s * 1000)};{hashlib.sha256(body).hexdigest()[:8]}"
            found.append(Message(receiver.name, key, body))
    return found


_BODIES: Mapping[ReceiverKind, Callable[[Bundle, Receiver, Links], object]] = {
    "webhook": lambda bundle, receiver, links: webhook_payload(bundle, receiver.kind, links),
    "slack": lambda bundle, receiver, links: slack_payload(bundle, links),
    "pagerduty": lambda bundle, receiver, links: pagerduty_event(bundle, links),
    "email": lambda bundle, receiver, links: email_body(bundle, links),
}
