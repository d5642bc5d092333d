"""One response to one firing of an alert, from what it waits for to what was done and taken back. Values and moves."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from alerts.alert import Alert
from alerts.clock import rfc3339
from alerts.responses.catalogue import Mode
from collector.model.labels import Labels, get

State = Literal["told", "waiting", "held", "acting", "acted", "failed", "undone", "dismissed", "over"]
Wish = Literal["confirm", "dismiss", "undo"]

ENDED: frozenset[State] = frozenset({"undone", "dismissed", "over"})
OURSELVES = "loadline"
HOUR_S = 3600.0


@dataclass(frozen=True, slots=True)
class Step:
    """One change to ask of the gateway: ``POST /admin/CHANGE`` with ``body``."""

    change: str
    body: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.change} {dict(self.body)}"


@dataclass(frozen=True, slots=True)
class LogLine:
    """What happened to a response: its state from ``at_s`` (Unix) on, by whom, and what was done or said."""

    at_s: float
    state: State
    by: str
    what: str


@dataclass(frozen=True, slots=True)
class Response:
    """What is done about one firing of one alert. Times are Unix seconds.

    target: what the rule named, "" if nothing. targets: the replicas that this came to. did, undo: what the gateway
    was told, and what takes it back. asked: a change that must not be asked for twice was asked for. joined: the
    response that did the same before and is still in force. ended: the alert is over. retry_at_s: when to look again.
    """

    id: str
    name: str
    action: str
    mode: Mode
    state: State
    alertname: str
    group_key: str
    fingerprint: str
    labels: Labels
    summary: str
    target: str
    fired_at_s: float
    changed_at_s: float
    targets: tuple[str, ...] = ()
    did: tuple[Step, ...] = ()
    undo: tuple[Step, ...] = ()
    asked: bool = False
    joined: str | None = None
    acted_at_s: float | None = None
    ended: bool = False
    by: str | None = None
    error: str | None = None
    failures: int = 0
    retry_at_s: float = 0.0
    log: tuple[LogLine, ...] = field(default=())

    @property
    def allowed(self) -> tuple[Wish, ...]:
        """What may be asked for now."""
        if self.state == "waiting":
            return ("confirm", "dismiss")
        if self.state == "failed":
            return ("dismiss",) if self.mode == "human" else ("confirm", "dismiss")
        if self.state == "held":
            return ("dismiss",)
        return ("undo",) if self.state == "acted" and self.undo else ()

    def moved(self, state: State, at_s: float, what: str, who: str = OURSELVES, **changes: Any) -> "Response":
        """The response in another state, with that in its log."""
        line = LogLine(at_s, state, who, what)
        return replace(self, state=state, changed_at_s=at_s, log=(*self.log, line), **changes)

    def as_json(self) -> dict[str, Any]:
        """As the API answers it."""
        return {
            "id": self.id,
            "response": self.name,
            "action": self.action,
            "mode": self.mode,
            "state": self.state,
            "alertname": self.alertname,
            "group": self.group_key.rpartition(";")[2],
            "fingerprint": self.fingerprint,
            "labels": dict(self.labels),
            "summary": self.summary,
            "targets": list(self.targets),
            "firedAt": rfc3339(self.fired_at_s),
            "changedAt": rfc3339(self.changed_at_s),
            "error": self.error,
            "by": self.by,
            "did": [asdict(step) for step in self.did],
            "undo": [asdict(step) for step in self.undo],
            "joined": self.joined,
            "allowed": list(self.allowed),
            "log": [log_json(line) for line in self.log],
        }


def log_json(line: LogLine) -> dict[str, str]:
    """A line of the log as the API answers it."""
    return {"at": rfc3339(line.at_s), "state": line.state, "by": line.by, "what": line.what}


def response_id(group_key: str, rule_name: str, alert: Alert) -> str:
    """16 hex digits: the same for one firing of one alert, over restarts too."""
    text = f"{group_key}\xff{rule_name}\xff{alert.fingerprint}\xff{alert.fired_at_s}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def wanted_target(alert: Alert) -> str:
    """The target that the rule names, else what the alert's labels say; "" where neither does."""
    named = dict(alert.annotations).get("response_target", "").strip()
    return named or get(alert.labels, "replica") or get(alert.labels, "instance")


def not_before_s(response: Response, others: Sequence[Response], cool_down_s: float, most_per_hour: int) -> float:
    """The moment from which ``response`` may act: after its target's cool-down and within the rate of its name."""
    acts = [
        (one.acted_at_s, one.target)
        for one in others
        if one.id != response.id and one.name == response.name and one.acted_at_s is not None
    ]
    free = [at_s + cool_down_s for at_s, target in acts if target == response.target]
    latest = sorted((at_s for at_s, _ in acts), reverse=True)
    if len(latest) >= most_per_hour:
        free.append(latest[most_per_hour - 1] + HOUR_S)
    return max(free, default=0.0)
