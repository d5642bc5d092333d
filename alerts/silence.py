"""Silences: who wants which alerts kept quiet, until when and why; and their JSON, which is Alertmanager's (v2)."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from alerts.alert import Alert
from alerts.clock import rfc3339
from alerts.errors import SilenceError
from collector.model.errors import QueryError
from collector.model.labels import Labels, get
from collector.model.matchers import Matcher, MatchOp

KEPT_AFTER_END_S = 5 * 86_400.0
"""How long an expired silence is still listed."""

SilenceState = Literal["pending", "active", "expired"]

_FIELDS = ("id", "matchers", "startsAt", "endsAt", "createdBy", "comment")
_OPS: dict[tuple[bool, bool], MatchOp] = {
    (True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts whose labels satisfy every matcher are told to nobody from ``starts_at_s`` to ``ends_at_s`` (Unix)."""

    id: str
    matchers: tuple[Matcher, ...]
    starts_at_s: float
    ends_at_s: float
    created_by: str
    comment: str
    updated_at_s: float

    def state(self, now_s: float) -> SilenceState:
        """Whether it is to come, in force or over."""
        if now_s >= self.ends_at_s:
            return "expired"
        return "pending" if now_s < self.starts_at_s else "active"

    def mutes(self, alert: Alert, now_s: float) -> bool:
        """Whether ``alert`` is to be kept quiet now."""
        return self.state(now_s) == "active" and matches(self.matchers, alert.labels)

    def as_json(self, now_s: float) -> dict[str, Any]:
        """A gettable silence, as Alertmanager lists it."""
        return {
            "id": self.id,
            "status": {"state": self.state(now_s)},
            "updatedAt": rfc3339(self.updated_at_s),
            "comment": self.comment,
            "createdBy": self.created_by,
            "startsAt": rfc3339(self.starts_at_s),
            "endsAt": rfc3339(self.ends_at_s),
            "matchers": [
                {
                    "name": one.name,
                    "value": one.value,
                    "isRegex": one.op in ("=~", "!~"),
                    "isEqual": one.op in ("=", "=~"),
                }
                for one in self.matchers
            ],
        }


def matches(matchers: tuple[Matcher, ...], labels: Labels) -> bool:
    """Whether ``labels`` satisfy every matcher."""
    return all(one.matches(get(labels, one.name)) for one in matchers)


def read_silence(body: Any, now_s: float) -> Silence:
    """A postable silence; one that began in the past begins now. Raises SilenceError."""
    if not isinstance(body, Mapping):
        raise SilenceError("a silence is a JSON object")
    for name in body:
        if name not in _FIELDS:
            raise SilenceError(f'field "{name}" is unknown; allowed are {", ".join(_FIELDS)}')
    starts_at_s, ends_at_s = (_moment(body, name) for name in ("startsAt", "endsAt"))
    if ends_at_s <= max(starts_at_s, now_s):
        raise SilenceError("endsAt must lie in the future and after startsAt")
    return Silence(
        id=str(body.get("id") or uuid.uuid4()),
        matchers=_matchers(body.get("matchers")),
        starts_at_s=max(starts_at_s, now_s),
        ends_at_s=ends_at_s,
        created_by=_filled(body, "createdBy"),
        comment=_filled(body, "comment"),
        updated_at_s=now_s,
    )


def _matchers(items: Any) -> tuple[Matcher, ...]:
    if not isinstance(items, list) or not items:
        raise SilenceError("matchers must be a list that is not empty")
    found = []
    for item in items:
        if not isinstance(item, Mapping) or not isinstance(item.get("name"), str) or not item["name"]:
            raise SilenceError('a matcher looks like {"name": "pool", "value": "chat", "isRegex": false}')
        op = _OPS[bool(item.get("isEqual", True)), bool(item.get("isRegex", False))]
        try:
            found.append(Matcher(item["name"], op, str(item.get("value", ""))))
        except QueryError as error:
            raise SilenceError(str(error)) from error
    if all(one.matches("") for one in found):
        raise SilenceError("every matcher is satisfied by the empty text; one must not be, or all alerts were silent")
    return tuple(found)


def _moment(body: Mapping[str, Any], name: str) -> float:
    text = body.get(name)
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise SilenceError(f'{name} is "{text}"; a moment looks like 2026-01-02T03:04:05Z') from error
    if moment.tzinfo is None:
        raise SilenceError(f'{name} is "{text}"; it needs a time zone, such as Z')
    return moment.timestamp()


def _filled(body: Mapping[str, Any], name: str) -> str:
    text = body.get(name)
    if not isinstance(text, str) or not text.strip():
        raise SilenceError(f"{name} must say something: who comes next wants to know")
    return text
