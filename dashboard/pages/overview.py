"""The page a person on call keeps open: are we keeping our promises, how far is the load line, what is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate

from collector.signals import Vocabulary
from dashboard import changes, journal, judge, quantity, queries, theme, verdict
from dashboard.board import stamped
from dashboard.cache import Held, Late
from dashboard.figures import chart, load_line, series
from dashboard.figures.chart import Mark
from dashboard.page import Page
from dashboard.pages.fan import draw_fan
from dashboard.parts import bars, tables
from dashboard.parts import verdict as verdict_part
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.panel import Drawn, Panel, chip, empty, legend, solid, stale, texts
from dashboard.parts.state import tag
from dashboard.parts.tile import tile
from dashboard.refresh import Refresh, begin
from dashboard.site import Site
from dashboard.source import Answer, Source
from dashboard.words import said_error, said_reason, say
from planner.slo import Slo

if TYPE_CHECKING:
    from planner.room.headroom import PoolHeadroom

KV_EVICTS_AT = 0.9
HEADROOM_AGED_S = 90.0
"""Load lines older than this tell their age while new ones are worked out; the usual time to live is 30 s."""

HEADROOM_TOO_OLD_S = 600.0
"""Load lines older than this are of another load, and are not shown."""

HERO = Panel("ov-load", "Load against the load line", "req/s", span=8, height=272, legend=False)
TTFT = Panel("ov-ttft", "TTFT")
WAITING = Panel("ov-waiting", "Waiting requests")
KV = Panel("ov-kv", "KV cache used", "%")
PREEMPTIONS = Panel("ov-preemptions", "Preemptions", "/s")
PANELS = (HERO, TTFT, WAITING, KV, PREEMPTIONS)

BOXES = ("ov-verdict", "ov-tiles", "ov-bars", "ov-alerts", "ov-alerts-sub", "ov-changes", "ov-changes-sub")


@dataclass(frozen=True, slots=True)
class Seen:
    """All that one refresh of this page knows."""

    refresh: Refresh
    answers: Mapping[str, Answer]
    promises: Sequence[judge.Promise]
    headroom: Sequence["PoolHeadroom"]
    headroom_error: Exception | None
    headroom_age_s: float
    alerts: Held
    changes: Sequence[Mark]
    pools: Sequence[str]

    @property
    def at_s(self) -> float:
        """The moment that is judged: now, or the end of a fixed range."""
        return self.refresh.now_s if self.refresh.window.live else float(self.refresh.window.end_s)

    @property
    def palette(self) -> dict[str, str]:
        """Colour of each pool."""
        return series.colors(self.pools)

    def focus(self) -> str:
        """The pool that the hero shows: the one chosen, else one that breaks a promise, else the one nearest its load
        line, else the worst."""
        if len(self.refresh.view.pools) == 1:
            return self.refresh.view.pools[0]
        broken = verdict.worst_broken(self.promises)
        if broken is not None:
            return broken.pool
        lined = bars.by_risk(self.headroom)
        worst = max(self.promises, key=lambda one: one.use).pool
        return lined[0].pool if lined else worst or next(iter(self.pools), "")


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Overview", className="vh"),
            dcc.Store(id="ov-stamp"),
            html.Div(html.Div(className="verdict"), id="ov-verdict"),
            html.Div([html.Div(className="tile") for _ in range(5)], id="ov-tiles", className="tiles"),
            html.Div(
                [
                    HERO.layout(),
                    _box("Headroom by pool", "ov-bars", html.Div("sorted by risk", className="p-s"), 4),
                    *(panel.layout() for panel in PANELS[1:]),
                    _box("Firing alerts", "ov-alerts", html.Div(id="ov-alerts-sub", className="p-s"), 8),
                    _box("Changes", "ov-changes", html.Div(id="ov-changes-sub", className="p-s"), 4),
                ],
                className="grid",
            ),
        ],
        className="page",
    )


def _box(title: str, key: str, sub: Node, span: int) -> Node:
    head = html.Header([html.H2(title), sub], className="p-h")
    return html.Section(
        [head, html.Div(id=key, className="p-x")], className=f"panel c{span}", **hyphened(aria_label=title)
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's one callback."""
    boxes = [Output(box, "children") for box in BOXES]
    panels = [output for panel in PANELS for output in panel.outputs()]

    @app.callback([*boxes, *panels, Output("ov-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, site.source)
        if begun.vocabulary is None or not begun.vocabulary.dialects:
            return _unknown(begun, site.source)
        return _known(see(begun, begun.vocabulary, site.source, site.slo), site)

    stamped(app, "ov-stamp")


def see(begun: Refresh, vocabulary: Vocabulary, source: Source, slo: Slo) -> Seen:
    """Ask for everything that the page shows."""
    window, where = begun.window, begun.view.where
    answers = source.ranges(queries.overview(vocabulary, slo, window, where), window)
    budgets = source.instants(queries.budgets(vocabulary, slo, window, where), window.end_s)
    promises = judge.promises(answers, budgets, slo, begun.view, window)
    held = source.headroom(slo, window)
    age_s = begun.now_s - held.fetched_s if held.fetched_s is not None else 0.0
    known = () if age_s > HEADROOM_TOO_OLD_S else held.value or ()
    headroom = [one for one in known if begun.view.wants(one.pool)]
    measured = {name: one for name, one in answers.items() if name not in ("alerts", "up", "info", "replicas")}
    pools = sorted({*begun.scope.pools, *queries.pools(measured)})
    return Seen(
        begun,
        answers,
        promises,
        headroom,
        held.error,
        age_s,
        source.alerts(),
        changes.changes(answers, window),
        pools,
    )


def _unknown(begun: Refresh, source: Source) -> list[Any]:
    """The page where nothing can be asked: it says what to do."""
    if begun.vocabulary is None:
        said, why = verdict.no_source(source.address, begun.error), "the source does not answer"
    else:
        said, why = verdict.no_engine(source.address), "no engine is measured yet"
    tiles = [_blank_tile(title) for title in TITLES]
    none = html.P(why, className="none")
    boxes = [verdict_part.band(said), tiles, none, none, None, none, None]
    drawn = [value for panel in PANELS for value in empty(panel, begun.clock, (), why).values()]
    return [*boxes, *drawn, begun.stamp()]


TITLES = ("TTFT p95", "ITL p95", "E2E p95", "Success", "Goodput")


def _blank_tile(title: str) -> Node:
    return html.Div(html.Div([html.Span(title, className="t-l"), tag("none")], className="t-h"), className="tile")


def _known(seen: Seen, site: Site) -> list[Any]:
    begun, slo, prefix = seen.refresh, site.slo, site.prefix
    panels = (_hero(seen, slo), _ttft(seen, slo, site.source), _waiting(seen), _kv(seen), _preemptions(seen))
    boxes = [
        _verdict(seen, site.source, prefix),
        _tiles(seen, prefix),
        _bars(seen, prefix),
        *_alerts(seen),
        *_changes(seen),
    ]
    return [
        *boxes,
        *(value for drawn in panels for value in drawn.values()),
        begun.stamp(seen.pools, soon=isinstance(seen.headroom_error, Late)),
    ]


def _verdict(seen: Seen, source: Source, prefix: str) -> Node:
    begun = seen.refresh
    facts = verdict.Facts(
        promises=seen.promises,
        headroom=seen.headroom,
        targets=source.targets() if begun.window.live else (),
        alerts=(seen.alerts.value or ()) if begun.window.live else (),
        changes=seen.changes,
        newest_s=begun.newest_s,
        now_s=seen.at_s,
        live=begun.window.live,
        silence=begun.error,
    )
    said = verdict.judge(facts)
    if begun.misread:
        note = (say("The address was not understood ({why}); the last hour is shown. ", why=begun.misread), "b")
        said = replace(said, detail=(note, *said.detail))
    actions = []
    if said.pool:
        search = begun.view.search(pool=said.pool)
        actions = [("Slow requests", f"{prefix}requests{search}"), _remedy(said.pool, search, seen, prefix)]
    return verdict_part.band(said, actions)


def _remedy(pool: str, search: str, seen: Seen, prefix: str) -> tuple[str, str]:
    """What the twin says of more replicas, where it knows the pool; else where its time goes."""
    known = next((one for one in seen.headroom if one.pool == pool), None)
    if known is None or not seen.refresh.window.live:
        return "Latency", f"{prefix}latency{search}"
    more = seen.refresh.view.search(of=pool, replicas=str(known.replicas + 2), at=str(int(seen.at_s)))
    return "What if +2 replicas", f"{prefix}capacity{more}"


def _tiles(seen: Seen, prefix: str) -> Node:
    view, period = seen.refresh.view, quantity.span(seen.refresh.window.span_s)
    several = len(seen.pools) > 1 and len(view.pools) != 1
    return [
        tile(
            one, f"{prefix}latency{view.search(pool=one.pool) if one.pool else view.search()}", period, several=several
        )
        for one in seen.promises
    ]


def _bars(seen: Seen, prefix: str) -> Node:
    if not seen.headroom:
        return html.P(_headroom_note(seen), className="none")
    return [bars.bars(seen.headroom, seen.refresh.view, prefix), html.Div(_aged(seen), className="b-aged")]


def _headroom_note(seen: Seen) -> str:
    if isinstance(seen.headroom_error, Late):
        return "The load line is being worked out."
    if seen.headroom_error:
        return say("No load line: {why}.", why=said_error(seen.headroom_error))
    return "No pool is measured."


def _hero(seen: Seen, slo: Slo) -> Drawn:
    begun, answer, pool = seen.refresh, seen.answers["load"], seen.focus()
    rows = queries.by_pool(answer, begun.view)
    headroom = next((one for one in seen.headroom if one.pool == pool), None)
    if pool not in rows:
        return empty(HERO, begun.clock, [answer], judge.why_empty(answer, rows))
    figure = load_line.load_line(rows[pool], headroom, begun.clock, slo, height=HERO.height, marks=seen.changes)
    sub = [*_hero_chips(pool, headroom, seen), _aged(seen)]
    return Drawn(figure, sub, None, stale([answer], begun.now_s), texts([answer]))


def _aged(seen: Seen) -> Node:
    """The age of load lines that are not of now, as after a long pause."""
    if not seen.headroom or seen.headroom_age_s <= HEADROOM_AGED_S:
        return None
    return html.Span(
        say("line {age} old", age=quantity.span(seen.headroom_age_s)), className="hd-w", title="a new one is worked out"
    )


def _hero_chips(pool: str, headroom: "PoolHeadroom | None", seen: Seen) -> Node:
    if headroom is None:
        return [html.Span(pool), html.Span(_headroom_note(seen), className="hd-n")]
    counted = "{pool}, 1 replica" if headroom.replicas == 1 else "{pool}, {n} replicas"
    chips: list[Node] = [html.Span(say(counted, pool=pool, n=headroom.replicas))]
    if headroom.headroom_ratio is None:
        why = said_reason(headroom.reason or "not known")
        return [*chips, html.Span(say(", no load line: {why}", why=why), title=why)]
    kind = {"ok": "hd-o", "warn": "hd-w", "breach": "hd-b", "none": "hd-o"}[bars.state_of(headroom)]
    chips.append(html.Strong(verdict.headroom_text(headroom.headroom_ratio), className=kind))
    if headroom.crosses_at_s is not None and headroom.crosses_at_s > seen.at_s and headroom.headroom_ratio >= 0:
        ahead = quantity.span(headroom.crosses_at_s - seen.at_s)
        chips.append(html.Strong(say("crosses in {span}", span=ahead), className="hd-b"))
    return chips


def _ttft(seen: Seen, slo: Slo, source: Source) -> Drawn:
    begun = seen.refresh
    pool = judge.worst(queries.by_pool(seen.answers["ttft.p95"], begun.view), highest=True)
    requests = journal.exemplars(begun, source, pool)
    answers = {q: seen.answers[f"ttft.{q}"] for q in series.FAN_STYLES}
    return draw_fan(
        TTFT, answers, begun, slo.ttft_p95_s, seen.changes, name_pool=len(seen.pools) > 1, requests=requests
    )


def _waiting(seen: Seen) -> Drawn:
    return _by_pool(WAITING, seen, "waiting", quantity.count, floor_top=4)


def _kv(seen: Seen) -> Drawn:
    sub = chip(say("evicts above {share}", share=quantity.threshold(KV_EVICTS_AT)), "warn")
    return _by_pool(KV, seen, "kv", quantity.percent, axis=chart.PERCENT, limit=KV_EVICTS_AT, sub=sub)


def _preemptions(seen: Seen) -> Drawn:
    return _by_pool(PREEMPTIONS, seen, "preemptions", quantity.count, floor_top=0.1)


def _by_pool(
    panel: Panel,
    seen: Seen,
    name: str,
    write: quantity.Formatter,
    *,
    axis: chart.Axis = chart.PLAIN,
    limit: float | None = None,
    sub: Node = "by pool",
    floor_top: float = 0.0,
) -> Drawn:
    begun, answer = seen.refresh, seen.answers[name]
    rows = queries.by_pool(answer, begun.view)
    if not any(value is not None for row in rows.values() for value in row):
        return empty(panel, begun.clock, [answer], judge.why_empty(answer, rows), sub)
    kept = series.top(rows) if axis.ceiling is None else series.highest(rows)
    figure = series.lines(
        kept, begun.clock, seen.palette, axis, height=panel.height, limit=limit, limit_color=theme.WARN,
        marks=seen.changes, floor_top=floor_top,
    )  # fmt: skip
    table = legend(kept, solid({pool: seen.palette.get(pool, theme.OTHER) for pool in kept}), write)
    return Drawn(figure, sub, table, stale([answer], begun.now_s), texts([answer]))


def _alerts(seen: Seen) -> tuple[Node, Node]:
    held = seen.alerts
    if held.value is None:
        return html.P(
            say("This source has no list of alerts: {why}", why=said_error(held.error or "")), className="none"
        ), None
    active = [alert for alert in held.value if alert.get("state") in ("firing", "pending")]
    firing = sum(alert.get("state") == "firing" for alert in active)
    if not active:
        return html.P("No alert is firing or pending.", className="none"), "none"
    counted = (
        "{firing} firing, {pending} pending" if seen.refresh.window.live else "now: {firing} firing, {pending} pending"
    )
    return tables.alert_rows(active, seen.refresh.now_s), say(counted, firing=firing, pending=len(active) - firing)


def _changes(seen: Seen) -> tuple[Node, Node]:
    begun = seen.refresh
    period = say("last {span}", span=quantity.span(begun.window.span_s)) if begun.window.live else "in this range"
    if not seen.changes:
        return html.P("No deploy, restart, scaling or alert.", className="none"), period
    return tables.change_list(seen.changes, begun.offset_s, begun.now_s), period


PAGE = Page(path="/", title="Overview", icon="gauge", key="o", layout=layout, wire=wire)
