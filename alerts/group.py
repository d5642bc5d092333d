"""Evaluates one group: its rules one after the other at the same moment, each failure kept to its own rule."""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from alerts.alert import (
    Alert,
    Alerts,
    LimitExceeded,
    advance,
    changed,
    is_active,
    needs_sending,
    restored,
    samples_of,
)
from alerts.errors import AlertsError
from alerts.evaluation import NOWHERE, Outside, alerts_found, recorded
from alerts.rule import AlertRule, RecordRule, Rule, RuleGroup
from alerts.writeback import Writeback, stale
from collector.model.answered import Answered
from collector.model.errors import CollectorError, QueryError
from collector.model.labels import Labels
from collector.model.series import Sample, Series
from collector.promql import parse, selectors

RESEND_DELAY_S = 60.0
OUTAGE_TOLERANCE_S = 3600.0

Health = Literal["unknown", "ok", "err"]

_log = logging.getLogger(__name__)


class Source(Protocol):
    """What a group asks of a Prometheus-compatible server; ``collector.client.Client`` is one."""

    def query(self, expr: str, time_s: float | None = None) -> Sequence[Sample]:
        """Evaluate at one moment."""
        ...

    def query_all(self, exprs: Sequence[str], time_s: float) -> Sequence[Answered]:
        """Evaluate each at one moment; an error is part of the answer."""
        ...

    def write(self, series: Iterable[Series]) -> None:
        """Take samples."""
        ...


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule as it stands after its last evaluation. ``series`` were written then."""

    rule: Rule
    health: Health = "unknown"
    error: str = ""
    evaluated_at_s: float | None = None
    took_s: float = 0.0
    alerts: Alerts = field(default_factory=dict)
    series: frozenset[Labels] = frozenset()

    @property
    def active(self) -> list[Alert]:
        """Pending and firing alerts, those that are active longest first."""
        found = [alert for alert in self.alerts.values() if is_active(alert)]
        return sorted(found, key=lambda alert: (alert.active_at_s, alert.labels))

    @property
    def state(self) -> str:
        """The worst state of any of its alerts."""
        states = {alert.state for alert in self.alerts.values()}
        return next((state for state in ("firing", "pending") if state in states), "inactive")


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """A group as it stands after its last evaluation."""

    group: RuleGroup
    interval_s: float
    rules: tuple[RuleStatus, ...]
    evaluated_at_s: float | None = None
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Notice:
    """What a receiver that expects repetition (Alertmanager) must hear of one rule now, to be believed until then."""

    rule: AlertRule
    due: tuple[Alert, ...]
    valid_until_s: float


def orphaned(rule_name: str, alert: Alert, now_s: float) -> Notice:
    """What receivers must hear of an alert that fired when its rule was removed."""
    over = replace(alert, state="inactive", resolved_at_s=now_s, last_sent_at_s=now_s)
    return Notice(AlertRule(rule_name, expr=""), (over,), now_s)


class Group:
    """Runs a ``RuleGroup`` against a source and keeps what its rules have come to.

    ``interval_s`` stands where the group gives none. ``status`` may be read by any thread; ``evaluate`` is called by
    one at a time. ``timer`` measures durations.
    """

    def __init__(
        self,
        group: RuleGroup,
        source: Source,
        writeback: Writeback,
        *,
        interval_s: float,
        outside: Outside = NOWHERE,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.group = group
        self.interval_s = group.interval_s or interval_s
        self._source = source
        self._writeback = writeback
        self._outside = outside
        self._timer = timer
        self._runs = runs(group.rules)
        self._lock = threading.Lock()
        self._status = GroupStatus(group, self.interval_s, tuple(RuleStatus(rule) for rule in group.rules))

    @property
    def key(self) -> str:
        """Tells groups apart across files."""
        return f"{self.group.file};{self.group.name}"

    @property
    def status(self) -> GroupStatus:
        """The present status."""
        with self._lock:
            return self._status

    def next_evaluation_s(self, after_s: float) -> float:
        """The first moment after ``after_s`` at which the group is due.

        Groups are spread over the interval by their key, and keep their moments over restarts.
        """
        digest = int.from_bytes(hashlib.sha256(self.key.encode()).digest()[:8])
        offset_s = digest % round(self.interval_s * 1000) / 1000
        return ((after_s - offset_s) // self.interval_s + 1) * self.interval_s + offset_s

    def restore(
        self, alerts: Sequence[tuple[str, Alert]], evaluated_at_s: float, now_s: float
    ) -> tuple[tuple[str, Alert], ...]:
        """Take up the alerts (rule name, alert) of an earlier run that last evaluated at ``evaluated_at_s``.

        Answers those that were firing and that no rule takes up any more.
        """
        down_s = max(0.0, now_s - evaluated_at_s - self.interval_s)
        kept = [(name, restored(alert, down_s, OUTAGE_TOLERANCE_S)) for name, alert in alerts]
        rules = []
        for status in self.status.rules:
            rule = status.rule
            if not isinstance(rule, AlertRule):
                rules.append(status)
                continue
            own = {
                alert.labels: alert for name, alert in kept if alert and name == rule.name and _fits(rule, alert.labels)
            }
            series = frozenset(sample.labels for sample in samples_of(list(own.values()), evaluated_at_s))
            rules.append(replace(status, alerts=own, series=series))
        self._publish(replace(self.status, rules=tuple(rules)))
        taken = {(status.rule.name, labels) for status in rules for labels in status.alerts}
        return tuple(
            (name, alert) for name, alert in alerts if alert.state == "firing" and (name, alert.labels) not in taken
        )

    def evaluate(self, now_s: float) -> list[Notice]:
        """Evaluate every rule at ``now_s``; a rule that fails keeps its alerts, and the others go on."""
        started = self._timer()
        at_s = now_s - self.group.query_offset_s
        notices: list[Notice] = []
        rules = list(self.status.rules)
        for run in self._runs:
            written: list[Sample] = []
            asked = self._source.query_all([rules[position].rule.expr for position in run], at_s)
            for position, answer in zip(run, asked, strict=True):
                rules[position], notice = self._rule(rules[position], answer, now_s, at_s, written)
                if notice is not None:
                    notices.append(notice)
            self._writeback.send(written, now_s)
        self._publish(GroupStatus(self.group, self.interval_s, tuple(rules), now_s, self._timer() - started))
        return notices

    def _rule(
        self, before: RuleStatus, answer: Answered, now_s: float, at_s: float, written: list[Sample]
    ) -> tuple[RuleStatus, Notice | None]:
        """The rule as it stands after ``answer``; what is to be written is added to ``written``."""
        started = self._timer() - answer.took_s
        rule = before.rule
        notice = None
        try:
            if answer.error is not None:
                raise answer.error
            if isinstance(rule, RecordRule):
                results, after = recorded(rule, answer.samples, at_s, self.group.limit), before
            else:
                after, results, notice = self._alerts(rule, before, answer.samples, now_s, at_s)
        except (AlertsError, CollectorError) as error:
            after = self._failed(before, error)
            return replace(after, evaluated_at_s=now_s, took_s=self._timer() - started), None
        series = frozenset(sample.labels for sample in results)
        written += [*results, *stale(sorted(before.series - series), at_s)]
        if before.health == "err":
            _log.info("rule %s (%s) can be evaluated again", rule.name, self.key)
        after = replace(after, health="ok", error="", series=series)
        return replace(after, evaluated_at_s=now_s, took_s=self._timer() - started), notice

    def _alerts(
        self, rule: AlertRule, before: RuleStatus, samples: Sequence[Sample], now_s: float, at_s: float
    ) -> tuple[RuleStatus, list[Sample], Notice | None]:
        found = alerts_found(rule, samples, now_s, lambda expr: self._source.query(expr, at_s), self._outside)
        after = advance(rule, before.alerts, found, now_s, self.group.limit)
        _log_changes(rule, changed(before.alerts, after))
        alerts = dict(after)
        due = []
        for labels, alert in alerts.items():
            if needs_sending(alert, now_s, RESEND_DELAY_S):
                alerts[labels] = replace(alert, last_sent_at_s=now_s)
                due.append(alerts[labels])
        valid_until_s = now_s + 4 * max(RESEND_DELAY_S, self.interval_s)
        notice = Notice(rule, tuple(due), valid_until_s) if due else None
        return replace(before, alerts=alerts), samples_of(list(alerts.values()), at_s), notice

    def _failed(self, before: RuleStatus, error: AlertsError | CollectorError) -> RuleStatus:
        if before.health != "err":
            _log.warning("rule %s (%s) cannot be evaluated: %s", before.rule.name, self.key, error)
        forgotten = isinstance(error, LimitExceeded)
        return replace(before, health="err", error=str(error), alerts={} if forgotten else before.alerts)

    def _publish(self, status: GroupStatus) -> None:
        with self._lock:
            self._status = status


def runs(rules: Sequence[Rule]) -> tuple[tuple[int, ...], ...]:
    """Positions of rules that are asked together: none of a run asks for what an earlier one of the run writes."""
    found: list[list[int]] = []
    written: set[str] = set()
    for position, rule in enumerate(rules):
        asked = _asked(rule)
        if not found or asked is None or not asked.isdisjoint(written):
            found.append([])
            written = set()
        found[-1].append(position)
        written |= {rule.name} if isinstance(rule, RecordRule) else {"ALERTS", "ALERTS_FOR_STATE"}
    return tuple(map(tuple, found))


def _asked(rule: Rule) -> frozenset[str] | None:
    """Names of the series that a rule asks for; None where they cannot be told."""
    templates = (*rule.labels, *rule.annotations) if isinstance(rule, AlertRule) else ()
    if any("{{" in text and "query" in text for _, text in templates):
        return None
    try:
        names = frozenset(selector.name for selector in selectors(parse(rule.expr)))
    except QueryError:
        return None
    return None if "" in names else names


def _fits(rule: AlertRule, labels: Labels) -> bool:
    """Whether an alert can be of this rule: its fixed labels are the rule's (two rules may share a name)."""
    own = dict(labels)
    return all("{{" in text or own.get(name, "") == text for name, text in rule.labels)


def _log_changes(rule: AlertRule, news: Sequence[Alert]) -> None:
    for alert in news:
        state = "firing" if alert.state == "firing" else "resolved"
        _log.info("alert %s is %s (%s): %s", rule.name, state, alert.fingerprint, dict(alert.labels))
