"""How often alerts would have fired over stored history: one range query a rule, then the alert's life step by step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from alerts.alert import Alert, Alerts, advance
from alerts.clock import rfc3339
from alerts.evaluation import alerts_found
from alerts.rule import AlertRule, RuleFile, RuleGroup
from collector.model.durations import format_duration
from collector.model.errors import CollectorError, QueryError, SourceError
from collector.model.labels import METRIC_NAME, Labels, render, without
from collector.model.series import Sample, Series

MAX_POINTS = 10_000
"""Steps per range query; Prometheus refuses more than 11,000."""

QueryRange = Callable[[str, float, float, float], Sequence[Series]]


@dataclass(frozen=True, slots=True)
class Episode:
    """One alert from when it fired to when it resolved (None: it still fires); Unix seconds."""

    labels: Labels
    fired_at_s: float
    resolved_at_s: float | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a rule would have done. ``pending`` counts beginnings that never came to fire; ``error`` says why not."""

    rule: str
    path: str
    line: int
    episodes: tuple[Episode, ...] = ()
    pending: int = 0
    error: str = ""

    def firing_s(self, now_s: float) -> float:
        """Seconds that any of its alerts fired, added up."""
        return sum(
            (now_s if one.resolved_at_s is None else one.resolved_at_s) - one.fired_at_s for one in self.episodes
        )

    def as_json(self) -> dict[str, Any]:
        """As ``--json`` prints it."""
        episodes = [
            {
                "labels": dict(one.labels),
                "firedAt": rfc3339(one.fired_at_s),
                "resolvedAt": None if one.resolved_at_s is None else rfc3339(one.resolved_at_s),
            }
            for one in self.episodes
        ]
        return {
            "rule": self.rule,
            "path": self.path,
            "line": self.line,
            "fired": len(episodes),
            "pendingOnly": self.pending,
            "episodes": episodes,
            "error": self.error or None,
        }


def look_back(
    files: Sequence[RuleFile], query_range: QueryRange, now_s: float, since_s: float, interval_s: float
) -> list[Preview]:
    """Every alert rule of ``files`` over the last ``since_s`` seconds, at its group's interval.

    What a rule records counts only as far as the source has it. Raises SourceError where the source cannot be asked.
    """
    return [
        _previewed(file, group, rule, query_range, now_s, since_s, group.interval_s or interval_s)
        for file in files
        for group in file.groups
        for rule in group.rules
        if isinstance(rule, AlertRule)
    ]


def _previewed(
    file: RuleFile,
    group: RuleGroup,
    rule: AlertRule,
    query_range: QueryRange,
    now_s: float,
    since_s: float,
    interval_s: float,
) -> Preview:
    steps = int(since_s // interval_s)
    start_s = (now_s // interval_s - steps) * interval_s
    moments = [start_s + number * interval_s for number in range(steps + 1)]
    try:
        answers = _answers(rule, query_range, moments, interval_s, group.query_offset_s)
        episodes, pending = lived(rule, moments, answers, group.limit)
    except SourceError as error:
        if error.kind in ("unreachable", "timeout", "unauthorized"):
            raise
        return Preview(rule.name, file.path, rule.line, error=str(error))
    except (QueryError, CollectorError) as error:
        return Preview(rule.name, file.path, rule.line, error=str(error))
    return Preview(rule.name, file.path, rule.line, tuple(episodes), pending)


def lived(
    rule: AlertRule, moments: Sequence[float], answers: Sequence[Sequence[Sample]], limit: int | None = None
) -> tuple[list[Episode], int]:
    """Episodes of a rule that got ``answers`` at ``moments``, by when they fired; and beginnings that never fired."""
    active: Alerts = {}
    firing: dict[Labels, Alert] = {}
    episodes: list[Episode] = []
    pending = 0
    bare = AlertRule(rule.name, rule.expr, rule.for_s, rule.keep_firing_for_s, _plain(rule.labels))
    for now_s, samples in zip(moments, answers, strict=True):
        before = active
        active = advance(bare, active, alerts_found(bare, samples, now_s, None), now_s, limit)
        for labels, alert in active.items():
            if alert.state == "firing":
                firing.setdefault(labels, alert)
            elif alert.state == "inactive" and labels in firing:
                episodes.append(Episode(labels, _fired_at_s(firing.pop(labels)), now_s))
        pending += sum(alert.state == "pending" and labels not in active for labels, alert in before.items())
    episodes += [Episode(labels, _fired_at_s(alert), None) for labels, alert in firing.items()]
    return sorted(episodes, key=lambda one: (one.fired_at_s, one.labels)), pending


def _fired_at_s(alert: Alert) -> float:
    assert alert.fired_at_s is not None, "it has fired"
    return alert.fired_at_s


def table(previews: Sequence[Preview], since: str) -> str:
    """The previews for people: each rule with how often and how long, and its latest episodes."""
    lines = [f"Over the last {since}:"]
    for preview in previews:
        if preview.error:
            lines.append(f"  {preview.rule:<28} cannot be told: {preview.error}")
            continue
        count = len(preview.episodes)
        fired = "never fires" if not count else f"fires {count} {'time' if count == 1 else 'times'}"
        nearly = f", {preview.pending} more began and did not last" if preview.pending else ""
        lines.append(f"  {preview.rule:<28} {fired}{nearly}")
        lines += [f"      {_line(one)}" for one in preview.episodes[-3:]]
    return "\n".join(lines)


def _line(one: Episode) -> str:
    labels = render(without(one.labels, ("alertname",)))
    if one.resolved_at_s is None:
        return f"{rfc3339(one.fired_at_s)} and on  {labels}"
    lasted = format_duration(round((one.resolved_at_s - one.fired_at_s) * 1000))
    return f"{rfc3339(one.fired_at_s)} for {lasted}  {labels}"


def _answers(
    rule: AlertRule, query_range: QueryRange, moments: Sequence[float], interval_s: float, offset_s: float
) -> list[list[Sample]]:
    answers: list[list[Sample]] = [[] for _ in moments]
    for first in range(0, len(moments), MAX_POINTS):
        part = moments[first : first + MAX_POINTS]
        for series in query_range(rule.expr, part[0] - offset_s, part[-1] - offset_s, interval_s):
            for place, sample in _placed(series, part[0] - offset_s, interval_s):
                answers[first + place].append(sample)
    return answers


def _placed(series: Series, start_s: float, interval_s: float) -> Iterator[tuple[int, Sample]]:
    labels = without(series.labels, (METRIC_NAME,))
    for time_ms, value in zip(series.timestamps_ms.tolist(), series.values.tolist(), strict=True):
        yield round((time_ms / 1000 - start_s) / interval_s), Sample(labels, time_ms, value)


def _plain(labels: Labels) -> Labels:
    """Labels without those that a template fills: a template may ask the source, once for each step."""
    return tuple((name, text) for name, text in labels if "{{" not in text)
