"""Which alerts receivers hear of together, and when: Alertmanager's groups, formed over the alerts of every rule.

For the receivers that hear from us directly; an Alertmanager forms groups of its own of what it is sent.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from alerts.alert import Alert
from alerts.group import GroupStatus
from alerts.rule import AlertRule
from collector.model.labels import Labels, get, keep, render

ALL_LABELS = "..."
CLOCK_SLACK_S = 600.0
"""A group that is due later than its times explain, by more than this, was begun before the clock was set back."""

Muted = Callable[[Alert, float], bool]
"""Whether an alert is kept quiet at a moment (Unix seconds)."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When receivers hear of the alerts that agree in the labels ``group_by`` (``...``: in all of them).

    ``wait_s`` after the first of a group, so that others come along; then no more often than every ``interval_s``; and
    again after ``repeat_s`` though nothing changed (None: never).
    """

    group_by: tuple[str, ...] = ("alertname",)
    wait_s: float = 0.0
    interval_s: float = 0.0
    repeat_s: float | None = None

    def group_of(self, labels: Labels) -> Labels:
        """The labels of the group that an alert with ``labels`` belongs to."""
        return labels if ALL_LABELS in self.group_by else keep(labels, self.group_by)


AT_ONCE = Pace()


@dataclass(frozen=True, slots=True)
class News:
    """An alert that fires or has ended, with the expression that asks for it again."""

    alert: Alert
    expr: str


@dataclass(frozen=True, slots=True)
class Told:
    """An alert that receivers know to fire, and when (Unix seconds) they were last told so."""

    news: News
    at_s: float


@dataclass(frozen=True, slots=True)
class Bundle:
    """A group's alerts, told together: all that fire, and those that ended since. Never empty."""

    labels: Labels
    news: tuple[News, ...]

    @property
    def key(self) -> str:
        """Tells the group from others, as Alertmanager writes it."""
        return f"{{}}:{render(self.labels)}"

    @property
    def digest(self) -> str:
        """The key in 32 hex digits."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:32]

    @property
    def firing(self) -> bool:
        """Whether any of them fires."""
        return any(one.alert.state == "firing" for one in self.news)

    @property
    def title(self) -> str:
        """One line for people: the alerts that fire, or that none does any more."""
        alerts = [one.alert for one in self.news if one.alert.state == "firing" or not self.firing]
        names = ", ".join(dict.fromkeys(get(alert.labels, "alertname") for alert in alerts))
        count = f" ({len(alerts)})" if len(alerts) > 1 else ""
        summary = dict(alerts[0].annotations).get("summary", "")
        state = "FIRING" if self.firing else "RESOLVED"
        return f"[{state}] {names}{count}" + (f": {summary}" if summary and len(alerts) == 1 else "")


@dataclass(frozen=True, slots=True)
class Telling:
    """What is to be told now, and what it changes: alerts ``told`` to fire, fingerprints of those that are ``over``."""

    bundles: tuple[Bundle, ...] = ()
    told: tuple[Told, ...] = ()
    over: tuple[str, ...] = ()


class Dispatcher:
    """Takes what fires in each group of rules and gives what receivers must hear. Safe for many threads.

    ``told`` is what they know from before. An alert that is ``muted`` is told of once it is muted no more; the end of
    one that was told of is told in any case.
    """

    def __init__(self, pace: Pace, told: Iterable[Told], muted: Muted) -> None:
        self._pace = pace
        self._muted = muted
        self._told = {one.news.alert.fingerprint: one for one in told}
        self._firing: dict[str, dict[str, News]] = {}
        self._lock = threading.Lock()
        self._due_s: dict[Labels, float] = {}
        for one in self._told.values():
            labels = pace.group_of(one.news.alert.labels)
            self._due_s[labels] = max(self._due_s.get(labels, 0.0), one.at_s + pace.interval_s)

    def note(self, key: str, status: GroupStatus, now_s: float) -> None:
        """Take up how the alerts of the group of rules ``key`` stand at ``now_s``."""
        firing: dict[str, News] = {}
        with self._lock:
            for rule in status.rules:
                if not isinstance(rule.rule, AlertRule):
                    continue
                for alert in rule.alerts.values():
                    name, news = alert.fingerprint, News(alert, rule.rule.expr)
                    if alert.state == "firing":
                        firing[name] = news
                        due_s = max(now_s, (alert.fired_at_s or 0.0) + self._pace.wait_s)
                        self._due_s.setdefault(self._pace.group_of(alert.labels), due_s)
                    elif alert.state == "inactive" and name in self._told:
                        self._told[name] = replace(self._told[name], news=news)
            self._firing[key] = firing

    def flush(self, now_s: float) -> Telling:
        """What the groups that are due at ``now_s`` have to tell; it counts as told."""
        longest_s = max(self._pace.wait_s, self._pace.interval_s) + CLOCK_SLACK_S
        bundles, told, over = [], [], []
        with self._lock:
            due = [labels for labels, due_s in self._due_s.items() if not now_s < due_s <= now_s + longest_s]
            for labels, (firing, known) in self._members(due).items():
                if news := to_tell(firing, known, self._muted, now_s, self._pace.repeat_s):
                    bundles.append(Bundle(labels, news))
                    told += [Told(one, now_s) for one in news if one.alert.state == "firing"]
                    over += [name for name in known if name not in firing]
                if firing:
                    self._due_s[labels] = now_s + self._pace.interval_s
                else:
                    del self._due_s[labels]
            self._told |= {one.news.alert.fingerprint: one for one in told}
            for name in over:
                del self._told[name]
        return Telling(tuple(bundles), tuple(told), tuple(over))

    def _members(self, groups: Iterable[Labels]) -> dict[Labels, tuple[dict[str, News], dict[str, Told]]]:
        """What fires in each of the groups, and what receivers know of it, by fingerprint."""
        found: dict[Labels, tuple[dict[str, News], dict[str, Told]]] = {labels: ({}, {}) for labels in groups}
        if found:
            for of_rules in self._firing.values():
                for name, news in of_rules.items():
                    if members := found.get(self._pace.group_of(news.alert.labels)):
                        members[0][name] = news
            for name, told in self._told.items():
                if members := found.get(self._pace.group_of(told.news.alert.labels)):
                    members[1][name] = told
        return found


def to_tell(
    firing: Mapping[str, News], told: Mapping[str, Told], muted: Muted, now_s: float, repeat_s: float | None
) -> tuple[News, ...]:
    """All that receivers hear now of one group, by fingerprint; nothing where they know it already."""
    known = [news for name, news in firing.items() if name in told]
    fresh = [news for name, news in firing.items() if name not in told and not muted(news.alert, now_s)]
    over = [_ended(one.news, now_s) for name, one in told.items() if name not in firing]
    if not fresh and not over:
        last_s = max((one.at_s for one in told.values()), default=now_s)
        if repeat_s is None or now_s - last_s < repeat_s or all(muted(news.alert, now_s) for news in known):
            return ()
    known_and_fresh = sorted([*known, *fresh], key=lambda one: (one.alert.fired_at_s or 0.0, one.alert.labels))
    return (*known_and_fresh, *over)


def _ended(news: News, now_s: float) -> News:
    """As it is told to be over; of one whose rule is gone, now."""
    if news.alert.state == "inactive":
        return news
    return replace(news, alert=replace(news.alert, state="inactive", resolved_at_s=now_s))
