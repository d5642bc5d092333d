"""Rules and alerts as the Alerts page shows them, read from Prometheus's JSON; matchers of silences."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import yaml

from collector.model.errors import QueryError
from collector.model.labels import Labels
from collector.model.matchers import Matcher, MatchOp
from dashboard.errors import ActionRefused
from dashboard.words import say

Record = Mapping[str, Any]

RANK = {"firing": 0, "pending": 1, "inactive": 2}
MATCHER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
OPS: Mapping[tuple[bool, bool], MatchOp] = {
    (True, False): "=", (False, False): "!=", (True, True): "=~", (False, True): "!~",
}  # fmt: skip
MOST_HOURS = 24 * 30
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting rule; ``for_s`` is how long it must hold before it fires."""

    name: str
    group: str
    file: str
    expr: str
    for_s: float
    state: str
    health: str
    error: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    alerts: Sequence[Record]

    def as_yaml(self) -> str:
        """The rule as a rule file that holds nothing else, to edit and check."""
        rule: dict[str, Any] = {"alert": self.name, "expr": self.expr}
        if self.for_s:
            rule["for"] = f"{self.for_s:g}s"
        rule |= {
            name: dict(told) for name, told in (("labels", self.labels), ("annotations", self.annotations)) if told
        }
        document = {"groups": [{"name": self.group, "rules": [rule]}]}
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


@dataclass(frozen=True, slots=True)
class Stretch:
    """From step to step (exclusive) of a window an alert was in ``state``."""

    start: int
    end: int
    state: str


def rules_of(groups: Iterable[Record]) -> list[Rule]:
    """Every alerting rule of ``groups``, those that fire first."""
    found = [
        Rule(
            str(rule["name"]), str(group.get("name", "")), str(group.get("file", "")), str(rule.get("query", "")),
            float(rule.get("duration") or 0), str(rule.get("state", "inactive")), str(rule.get("health", "unknown")),
            str(rule.get("lastError") or ""), rule.get("labels") or {}, rule.get("annotations") or {},
            rule.get("alerts") or (),
        )
        for group in groups
        for rule in group.get("rules", ())
        if rule.get("type") == "alerting"
    ]  # fmt: skip
    return sorted(found, key=lambda rule: (RANK.get(rule.state, 3), rule.health == "ok", rule.name))


def matchers_of(silence: Record) -> list[Matcher]:
    """What a silence (Alertmanager's JSON) asks of an alert's labels."""
    return [
        Matcher(one["name"], OPS[bool(one.get("isEqual", True)), bool(one.get("isRegex", False))], one["value"])
        for one in silence.get("matchers", ())
    ]


def silencing(silences: Iterable[Record], labels: Mapping[str, str]) -> Record | None:
    """The silence in force that keeps an alert with these labels quiet, if any."""
    for silence in silences:
        if silence.get("status", {}).get("state") != "active":
            continue
        if all(matcher.matches(labels.get(matcher.name, "")) for matcher in matchers_of(silence)):
            return silence
    return None


def written(matchers: Iterable[Matcher]) -> str:
    """Matchers as they are typed."""
    return ", ".join(f'{one.name}{one.op}"{_escaped(one.value)}"' for one in matchers)


def for_labels(labels: Mapping[str, str]) -> str:
    """Matchers that fit an alert and no other: its labels, name first."""
    kept = sorted(labels.items(), key=lambda pair: (pair[0] != "alertname", pair[0]))
    return written(Matcher(name, "=", value) for name, value in kept)


def silence_body(matchers: str, hours: str, author: str, comment: str, now_s: float) -> dict[str, Any]:
    """A silence from the form's fields, as it is posted. Raises ActionRefused, which names the field."""
    try:
        length = float(hours)
    except ValueError:
        length = 0.0
    if not 0 < length <= MOST_HOURS:
        told = say(
            "hours is {value}; a silence lasts more than 0 and at most {most} hours", value=repr(hours), most=MOST_HOURS
        )
        raise ActionRefused(told)
    for name, text in (("author", author), ("comment", comment)):
        if not text.strip():
            raise ActionRefused(say("{field} is empty: who comes next wants to know", field=name))
    start = datetime.fromtimestamp(now_s, UTC)
    return {
        "matchers": [
            {"name": one.name, "value": one.value, "isRegex": one.op in ("=~", "!~"), "isEqual": one.op in ("=", "=~")}
            for one in read_matchers(matchers)
        ],
        "startsAt": start.isoformat(),
        "endsAt": (start + timedelta(hours=length)).isoformat(),
        "createdBy": author.strip(),
        "comment": comment.strip(),
    }


def read_matchers(text: str) -> list[Matcher]:
    """Matchers as they are typed, ``pool="chat", severity=~"page|ticket"``. Raises ActionRefused."""
    found: list[Matcher] = []
    at = 0
    while text[at:].strip():
        match = MATCHER.match(text, at)
        if match is None:
            rest = repr(text[at:].strip()[:60])
            raise ActionRefused(say('matchers: cannot read {text}; a matcher looks like pool="chat"', text=rest))
        name, op, value = match[1], match[2], re.sub(r"\\(.)", r"\1", match[3])
        try:
            found.append(Matcher(name, op, value))  # type: ignore[arg-type]
        except QueryError as error:
            raise ActionRefused(say("matchers: {fault}", fault=error)) from error
        at = match.end()
    if not found:
        raise ActionRefused(say('matchers: at least one is needed, such as alertname="HighTTFT"'))
    return found


def stretches(pending: Sequence[float | None], firing: Sequence[float | None]) -> list[Stretch]:
    """When an alert was pending and firing, from its two series on one grid."""
    states = [
        "firing" if fires is not None else "pending" if waits is not None else ""
        for waits, fires in zip(pending, firing, strict=True)
    ]
    found: list[Stretch] = []
    for step, state in enumerate(states):
        if found and found[-1].end == step and found[-1].state == state:
            found[-1] = Stretch(found[-1].start, step + 1, state)
        elif state:
            found.append(Stretch(step, step + 1, state))
    return found


def row_name(labels: Labels) -> str:
    """An alert's name with what tells it from others of the name."""
    told = {name: value for name, value in labels if name not in ("__name__", "alertstate", "alertname", "severity")}
    rest = ", ".join(told[name] for name in sorted(told))
    return f"{dict(labels).get('alertname', '')} {rest}".strip()


def runbook(name: str) -> str | None:
    """The page of the packs' alert ``name``, Markdown; None where it has none."""
    if not NAME.fullmatch(name):
        return None
    page = files("alerts") / "runbooks" / f"{name}.md"
    return page.read_text("utf-8") if page.is_file() else None


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
