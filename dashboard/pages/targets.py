"""Targets: whether each is scraped, and what it exposes, by signal."""

from collections.abc import Sequence

from dash import html

from collector.client import Target
from collector.model.labels import get
from collector.signals import SIGNALS, Present, Status, SwitchedOff
from dashboard import board, exposure, plots, quantity, queries
from dashboard.board import Ask, Board, Box, Scene
from dashboard.exposure import Exposure
from dashboard.figures import chart
from dashboard.parts.icon import Node, icon
from dashboard.parts.panel import Panel
from dashboard.parts.state import tag
from dashboard.parts.tables import simple_table
from dashboard.source import Question
from dashboard.words import joined, said_reason, say

HEADINGS = ("State", "Address", "Job", "Replica", "Last scrape", "Duration", "Samples", "Error")
STATES = {"up": ("ok", "Up"), "down": ("breach", "Down"), "unknown": ("none", "Not yet")}


def shown(scene: Scene) -> list[Target]:
    """Targets that the filters leave, those that are down first."""
    wanted = scene.refresh.view.replicas
    found = [one for one in scene.site.source.targets() if not wanted or get(one.labels, "instance") in wanted]
    return sorted(found, key=lambda one: (one.health != "down", one.url))


def samples(ask: Ask) -> dict[str, Question]:
    """Samples of each target's last scrape."""
    return {"samples": queries.question(lambda: ask.vocabulary.gauge("scrape_samples", by=("job", "instance")))}


def listed(scene: Scene) -> tuple[Node, Node]:
    """A row per target."""
    targets = shown(scene)
    if not targets:
        return html.P(
            "This source lists no targets: it does not scrape itself, or nothing is configured.", className="none"
        ), None
    counts = {
        (dict(line.labels).get("job", ""), dict(line.labels).get("instance", "")): queries.last(line.values)
        for line in scene.answers["samples"].lines
    }
    rows = [_row(one, counts.get((get(one.labels, "job"), get(one.labels, "instance"))), scene) for one in targets]
    down = sum(one.health == "down" for one in targets)
    return simple_table("Targets", HEADINGS, rows, (4, 5, 6)), say(
        "{n} targets, {down} down", n=len(targets), down=down
    )


def _row(one: Target, count: float | None, scene: Scene) -> list[Node]:
    state, word = STATES[one.health]
    age = None if one.last_scrape_s is None else max(0.0, scene.refresh.now_s - one.last_scrape_s)
    return [
        tag(state, word),  # type: ignore[arg-type]
        html.Span(one.url, className="tb-n"),
        get(one.labels, "job"),
        get(one.labels, "instance"),
        say("{age} ago", age=quantity.span(age)) if age is not None else quantity.ABSENT,
        quantity.duration(one.last_scrape_duration_s),
        quantity.count(count),
        html.Span(one.last_error, className="tb-e"),
    ]


def signals(scene: Scene) -> tuple[Node, Node]:
    """A column per kind of target, a row per signal."""
    targets = [one for one in shown(scene) if one.health != "down"]
    groups, failed = exposure.exposures(scene.site.source, targets)
    if not groups:
        why = failed or "no target that is up exposes metrics of an engine or exporter that is known"
        return html.P(why, className="none"), None
    names = [name for name in SIGNALS if any(name in one.statuses for one in groups)]
    rows = [[_signal(name), *(_status(one.statuses.get(name)) for one in groups)] for name in names]
    table = simple_table("Signals", ("Signal", *map(_column, groups)), rows)
    return [table, _others(targets, groups)], failed or say("{n} signals", n=len(names))


def _others(targets: Sequence[Target], groups: Sequence[Exposure]) -> Node:
    """Targets of which the table says nothing."""
    shown = {instance for one in groups for instance in one.instances}
    silent = [get(one.labels, "instance") for one in targets[: exposure.MAX_TARGETS]]
    silent = [instance for instance in silent if instance not in shown]
    told = [say("Up, but without a signal of these: {targets}. ", targets=joined(silent))] if silent else []
    if (left := len(targets) - exposure.MAX_TARGETS) > 0:
        told.append(say("{n} more targets are not looked at; choose replicas in the filter.", n=left))
    return html.P(told, className="none") if told else None


def _column(one: Exposure) -> Node:
    present, off, absent = exposure.counted(one)
    several = say("{n} targets", n=len(one.instances)) if len(one.instances) > 1 else one.instances[0]
    told = say("{present} present, {off} switched off, {absent} not exposed", present=present, off=off, absent=absent)
    return html.Span(
        [html.B(", ".join(one.dialects)), html.Br(), several, html.Br(), told], title=", ".join(one.instances)
    )


def _signal(name: str) -> Node:
    what = SIGNALS[name]
    return html.Span([html.Span(name, className="tb-n"), html.Span(f" {what.unit}", className="p-u")], title=what.what)


def _status(status: Status | None) -> Node:
    if status is None:
        return html.Span("not its kind", className="st st-none st-thin")
    if isinstance(status, Present):
        return html.Span([icon("circle-check", 14), "present"], className="st st-ok", title=", ".join(status.metrics))
    if isinstance(status, SwitchedOff):
        return html.Span(
            [icon("alert-triangle", 14), "switched off: ", html.Code(status.flag)],
            className="st st-warn",
            title=said_reason(status.reason),
        )
    return html.Span(
        [icon("circle-dashed", 14), "not exposed"], className="st st-none", title=said_reason(status.reason)
    )


UP = Panel("ta-up", "Up", "1 while scrapes succeed", span=4)
TOOK = Panel("ta-took", "Scrape duration", span=4)
SAMPLES = Panel("ta-samples", "Samples per scrape", span=4)

BOARD = Board(
    key="ta",
    title="Targets",
    parts=(
        Box("ta-list", "Targets", listed, ask=samples),
        plots.lines(UP, plots.gauge("target_up", "min", plots.REPLICA), by=plots.REPLICA, floor_top=1),
        plots.lines(
            TOOK,
            plots.gauge("scrape_duration", "max", plots.REPLICA),
            by=plots.REPLICA,
            write=quantity.duration,
            axis=chart.SECONDS,
        ),
        plots.lines(SAMPLES, plots.gauge("scrape_samples", "max", plots.REPLICA), by=plots.REPLICA),
        Box("ta-signals", "Exposed signals", signals),
    ),
    needs_engine=False,
)

PAGE = board.page(BOARD, path="/targets", icon="plug-connected", key="a")
