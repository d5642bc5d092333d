"""Latency: the quantiles of each definition, all TTFTs as a heat map, where the time goes, pool against pool."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate

from collector.model.labels import get
from collector.signals import Vocabulary
from dashboard import journal, judge, quantity, queries, theme
from dashboard.board import stamped, told
from dashboard.changes import changes
from dashboard.figures import heat, series, stack
from dashboard.figures.chart import Mark
from dashboard.page import Page
from dashboard.pages.fan import draw_fan, scale
from dashboard.parts.icon import Node
from dashboard.parts.panel import Drawn, Panel, chip, empty, legend, solid, stale, texts
from dashboard.refresh import Refresh, begin
from dashboard.served import Served
from dashboard.site import Site
from dashboard.source import Answer, Source
from dashboard.words import joined, say
from planner.slo import Slo

TITLES = {"ttft": "TTFT", "itl": "ITL", "e2e_latency": "E2E", "tpot": "TPOT"}
FANS = {signal: Panel(f"la-{signal}", title) for signal, title in TITLES.items()}
BY_POOL = {
    signal: Panel(f"la-pool-{signal}", say("{what} p95 by pool", what=title)) for signal, title in TITLES.items()
}
HEAT = Panel("la-heat", "TTFT distribution", "req/s by bucket", span=8, height=262, legend=False)
STACK = Panel("la-stack", "Where the time goes", "mean per request", span=4, height=168)
PANELS = (*FANS.values(), HEAT, STACK, *BY_POOL.values())

PHASES = {say("queue"): "queue_time", say("prefill"): "prefill_time", say("decode"): "decode_time"}


@dataclass(frozen=True, slots=True)
class Seen:
    """All that one refresh of this page knows; ``pool`` is the one that single-pool panels show."""

    refresh: Refresh
    answers: Mapping[str, Answer]
    heat: Answer
    pool: str | None
    marks: Sequence[Mark]
    pools: Sequence[str]
    exemplars: Sequence[Served]


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Latency", className="vh"),
            dcc.Store(id="la-stamp"),
            html.Div(id="la-note"),
            html.Div([panel.layout() for panel in PANELS], className="grid"),
        ],
        className="page",
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's one callback."""
    panels = [output for panel in PANELS for output in panel.outputs()]

    @app.callback([Output("la-note", "children"), *panels, Output("la-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, site.source)
        if begun.vocabulary is None or not begun.vocabulary.dialects:
            why = begun.error or say("{address} holds no engine's metrics", address=site.source.address)
            drawn = [empty(panel, begun.clock, (), why) for panel in PANELS]
            return [told(begun), *(value for one in drawn for value in one.values()), begun.stamp()]
        seen = see(begun, begun.vocabulary, site.source)
        values = [value for one in draw(seen, site.slo) for value in one.values()]
        return [told(begun), *values, begun.stamp(seen.pools)]

    stamped(app, "la-stamp")


def see(begun: Refresh, vocabulary: Vocabulary, source: Source) -> Seen:
    """Ask for everything that the page shows; the heat map of the pool that is worst comes second."""
    window, view = begun.window, begun.view
    asked = queries.latency(vocabulary, window, view.where) | queries.events(vocabulary, window)
    answers = source.ranges(asked, window)
    if len(view.pools) == 1:
        pool: str | None = view.pools[0]
    else:
        pool = judge.worst(queries.by_pool(answers["ttft.p95"], view), highest=True)
    where = replace(view, pools=(pool,)).where if pool else view.where
    hot = source.ranges({"heat": queries.heat(vocabulary, "ttft", window, where)}, window)["heat"]
    measured = queries.pools({name: one for name, one in answers.items() if name.startswith("ttft")})
    pools = sorted({*begun.scope.pools, *measured})
    return Seen(begun, answers, hot, pool, changes(answers, window), pools, journal.exemplars(begun, source, pool))


def draw(seen: Seen, slo: Slo) -> list[Drawn]:
    """Every panel, in the order of PANELS."""
    limits = {"ttft": slo.ttft_p95_s, "itl": slo.itl_p95_s, "e2e_latency": slo.e2e_p95_s, "tpot": None}
    fans = [_fan(signal, limits[signal], seen) for signal in FANS]
    pools = [_by_pool(signal, limits[signal], seen) for signal in BY_POOL]
    return [*fans, _heat(seen, slo.ttft_p95_s), _stack(seen), *pools]


def _fan(signal: str, limit_s: float | None, seen: Seen) -> Drawn:
    answers = {q: seen.answers[f"{signal}.{q}"] for q in series.FAN_STYLES}
    return draw_fan(
        FANS[signal], answers, seen.refresh, limit_s, seen.marks, name_pool=len(seen.pools) > 1, pool=seen.pool,
        requests=seen.exemplars if signal == "ttft" else (),
    )  # fmt: skip


def _heat(seen: Seen, limit_s: float) -> Drawn:
    begun, answer = seen.refresh, seen.heat
    cumulative = {float(get(line.labels, "le")): line.values for line in answer.lines}
    buckets = heat.apart(cumulative)
    sub = [html.Span(seen.pool or "", className="chip-pool"), chip(f"SLO {quantity.threshold_s(limit_s)}", "bad")]
    if not buckets.bounds_s:
        return empty(HEAT, begun.clock, [answer], judge.why_empty(answer, {"": []} if answer.lines else {}), sub)
    figure = heat.heat(buckets, begun.clock, height=HEAT.height, limit=limit_s, marks=seen.marks)
    return Drawn(figure, sub, None, stale([answer], begun.now_s), texts([answer]))


def _stack(seen: Seen) -> Drawn:
    begun = seen.refresh
    names = {"whole": "e2e_latency.mean"} | {phase: f"{signal}.mean" for phase, signal in PHASES.items()}
    asked = [seen.answers[name] for name in names.values()]
    found = {
        phase: queries.by_pool(seen.answers[name], begun.view).get(seen.pool or "") for phase, name in names.items()
    }
    rows = {phase: row for phase, row in found.items() if row is not None and any(value is not None for value in row)}
    whole = rows.pop("whole", None)
    if not rows:
        why = next((judge.why_empty(one, {}) for one in asked[1:]), "no samples in this time")
        return empty(STACK, begun.clock, asked, why, seen.pool)
    if whole is not None:
        rows[stack.OTHER] = stack.residual(whole, list(rows.values()))
    figure = stack.phases(rows, begun.clock, height=STACK.height, marks=seen.marks)
    missing = [phase for phase in PHASES if phase not in rows]
    sub = say("{what}, without {parts}", what=seen.pool, parts=joined(missing)) if missing else seen.pool
    table = legend(rows, solid(theme.PHASES), quantity.duration)
    return Drawn(figure, sub, table, stale(asked, begun.now_s), texts(asked))


def _by_pool(signal: str, limit_s: float | None, seen: Seen) -> Drawn:
    panel, begun, answer = BY_POOL[signal], seen.refresh, seen.answers[f"{signal}.p95"]
    rows = queries.by_pool(answer, begun.view)
    known = [value for row in rows.values() for value in row if value is not None]
    sub = "no SLO" if limit_s is None else chip(f"SLO {quantity.threshold_s(limit_s)}", "bad")
    if not known:
        return empty(panel, begun.clock, [answer], judge.why_empty(answer, rows), sub)
    palette = series.colors(seen.pools)
    kept = series.highest(rows)
    factor, axis = scale(max(*known, limit_s or 0.0))
    limit = None if limit_s is None else limit_s * factor
    figure = series.lines(
        series.scaled(kept, factor), begun.clock, palette, axis, height=panel.height, limit=limit, tint=True,
        marks=seen.marks, floor_top=(limit or 0.0) * 1.06,
    )  # fmt: skip
    figure["layout"]["meta"] = {"pool": None}
    swatches = solid({pool: palette.get(pool, theme.OTHER) for pool in kept})
    return Drawn(figure, sub, legend(kept, swatches, quantity.duration), stale([answer], begun.now_s), texts([answer]))


PAGE = Page(path="/latency", title="Latency", icon="clock-bolt", key="l", layout=layout, wire=wire)
