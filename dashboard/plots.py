"""The charts that most pages are made of: lines by label, percentile fans, parts of a whole. Each is a ``Plot``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from collector.model.labels import get
from collector.signals.vocabulary import Aggregation
from dashboard import judge, quantity, queries, theme
from dashboard.board import Ask, Plot, Scene
from dashboard.figures import chart, series, stack
from dashboard.figures.chart import Axis
from dashboard.pages.fan import draw_fan
from dashboard.parts.icon import Node
from dashboard.parts.panel import Drawn, Panel, chip, empty, legend, solid, stale, texts
from dashboard.renamed import likely
from dashboard.source import Answer, Question
from dashboard.words import joined, say

Build = Callable[[Ask], str]
Why = Callable[[Scene, Answer], str]
"""Says why an answer has nothing to draw."""


POOL = ("pool",)
REPLICA = ("instance",)


def rate(signal: str, by: tuple[str, ...] = POOL) -> Build:
    """Per-second rate of a counter."""
    return lambda ask: ask.vocabulary.rate(signal, ask.rate_window, by=by, where=ask.where)


def gauge(signal: str, agg: Aggregation = "sum", by: tuple[str, ...] = POOL) -> Build:
    """A gauge, aggregated over the series of each group."""
    return lambda ask: ask.vocabulary.gauge(signal, agg=agg, by=by, where=ask.where)


@dataclass(frozen=True, slots=True)
class Limit:
    """A line across a chart, the words in its header, and whether beyond it is a breach or a warning."""

    value: float
    text: str
    kind: str = "warn"


def why_empty(scene: Scene, answer: Answer) -> str:
    """Why there is nothing to draw: not exposed, renamed, switched off, idle, filtered out, or its target is down."""
    why = judge.why_empty(answer, {"": []} if answer.lines else {}, scene.refresh.view)
    source, vocabulary = scene.site.source, scene.refresh.vocabulary
    if answer.signal and vocabulary is not None and (name := likely(vocabulary, answer.signal, source.names())):
        return say("{why}; was it renamed? The source holds {name}, which is not known", why=why, name=name)
    if answer.absent or answer.error or answer.lines or not scene.refresh.window.live:
        return why
    down = [target for target in source.targets() if target.health == "down"]
    if not down:
        return why
    more = say(" and {n} more", n=len(down) - 1) if len(down) > 1 else ""
    who = get(down[0].labels, "instance") or down[0].url
    return say(
        "{why}: {target}{more} is down ({reason})",
        why=why, target=who, more=more, reason=down[0].last_error or "no reason told",
    )  # fmt: skip


def split_by(labels: Sequence[str]) -> str:
    """What tells the lines of a chart apart, in words."""
    names = ["replica" if one == "instance" else one for one in labels]
    said = say("by {label}", label=names[0])
    for name in names[1:]:
        said = say("{labels} and {label}", labels=said, label=name)
    return said


def lines(
    panel: Panel,
    build: Build,
    *,
    by: tuple[str, ...] = POOL,
    write: quantity.Formatter = quantity.count,
    axis: Axis = chart.PLAIN,
    limit: Limit | None = None,
    sub: str | None = None,
    floor_top: float = 0.0,
    summed: bool = False,
    why: Why = why_empty,
) -> Plot:
    """One line per value of the labels ``by``. Beyond six, those that end highest stand; with ``summed`` the rest are
    added up as ``other``, which suits counts and nothing else. ``sub`` is the text of the header, by default what the
    lines are."""

    def draw(panel: Panel, scene: Scene) -> Drawn:
        begun, answer = scene.refresh, scene.answers["main"]
        head: Node = sub if sub is not None else split_by(by)
        if limit is not None:
            head = chip(limit.text, "bad" if limit.kind == "breach" else "warn")
        rows = queries.by_labels(answer, by)
        if not any(value is not None for row in rows.values() for value in row):
            return empty(panel, begun.clock, [answer], why(scene, answer), head)
        kept = series.top(rows) if summed else series.highest(rows)
        palette = (
            series.colors(sorted({*scene.refresh.scope.pools, *rows})) if by == POOL else series.colors(list(kept))
        )
        figure = series.lines(
            kept, begun.clock, palette, axis, height=panel.height, limit=None if limit is None else limit.value,
            limit_color=theme.BREACH if limit is not None and limit.kind == "breach" else theme.WARN,
            tint=limit is not None and limit.kind == "breach", marks=scene.marks, floor_top=floor_top,
        )  # fmt: skip
        table = legend(kept, solid({name: palette.get(name, theme.OTHER) for name in kept}), write)
        return Drawn(figure, head, table, stale([answer], begun.now_s), texts([answer]))

    return Plot(panel, lambda ask: {"main": queries.question(lambda: build(ask))}, draw)


def shares(
    panel: Panel,
    build: Build,
    *,
    by: tuple[str, ...] = POOL,
    limit: Limit | None = None,
    sub: str | None = None,
    why: Why = why_empty,
) -> Plot:
    """Lines of shares, from nothing to all."""
    return lines(panel, build, by=by, write=quantity.percent, axis=chart.PERCENT, limit=limit, sub=sub, why=why)


def fan(panel: Panel, signal: str, *, write: quantity.Formatter | None = None, limit_s: float | None = None) -> Plot:
    """p50, p95 and p99 of a histogram, of the pool whose p95 is highest; in seconds, or else written by ``write``."""

    def draw(panel: Panel, scene: Scene) -> Drawn:
        answers = {name: scene.answers[f"{signal}.{name}"] for name in series.FAN_STYLES}
        several = len(scene.refresh.scope.pools) > 1
        return draw_fan(panel, answers, scene.refresh, limit_s, scene.marks, name_pool=several, write=write)

    return Plot(panel, lambda ask: queries.quantiles(ask.vocabulary, signal, ask.window, ask.where), draw)


def whole(
    panel: Panel,
    parts: Mapping[str, Build],
    *,
    colors: Sequence[str] = theme.SERIES,
    write: quantity.Formatter = quantity.count,
    axis: Axis = chart.PLAIN,
    sub: str = "all pools",
) -> Plot:
    """Parts that add up, stacked, each summed over what is shown: only for counts."""

    def draw(panel: Panel, scene: Scene) -> Drawn:
        begun, asked = scene.refresh, [scene.answers[name] for name in parts]
        totals = {name: queries.total(scene.answers[name]) for name in parts}
        rows = {name: row for name, row in totals.items() if any(value is not None for value in row)}
        if not rows:
            return empty(panel, begun.clock, asked, why_empty(scene, asked[0]), sub)
        palette = dict(zip(parts, colors, strict=False))
        figure = stack.stacked(rows, palette, begun.clock, axis, height=panel.height, marks=scene.marks)
        missing = [name for name in parts if name not in rows]
        head: Node = say("{what}, without {parts}", what=sub, parts=joined(missing)) if missing else sub
        table = legend(rows, solid(palette), write)
        return Drawn(figure, head, table, stale(asked, begun.now_s), texts(asked))

    def ask_all(ask: Ask) -> dict[str, Question]:
        return {name: queries.question(lambda build=build: build(ask)) for name, build in parts.items()}  # type: ignore[misc]

    return Plot(panel, ask_all, draw)
