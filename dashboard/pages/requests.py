"""Requests: the slowest first tokens of the range, and one request opened to its tokens."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate

from collector.model.spans import Span
from dashboard import journal, quantity, queries
from dashboard.board import stamped
from dashboard.cache import Held
from dashboard.errors import ViewError
from dashboard.figures.points import points
from dashboard.page import Page
from dashboard.pages.fan import scale
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.panel import Drawn, Panel, chip, empty, loading
from dashboard.parts.waterfall import phase_bar, waterfall
from dashboard.refresh import Refresh, begin
from dashboard.served import Served, gaps_s, slowest
from dashboard.site import Site
from dashboard.source import Source
from dashboard.view import promql_duration
from dashboard.words import counted, joined, said_error, say
from planner.slo import Slo

SHOWN = 40
HEADINGS = ("Time", "Request", "Pool", "TTFT", "Queue", "ITL avg", "E2E", "In", "Out", "Phases", "")
NUMERIC = frozenset({"TTFT", "Queue", "ITL avg", "E2E", "In", "Out"})
POINTS = Panel("rq-points", "First tokens over time", span=12, height=150, legend=False)


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Requests", className="vh"),
            dcc.Store(id="rq-stamp"),
            html.Div(html.Div(className="verdict v-short"), id="rq-verdict"),
            _filters(),
            html.Div(
                [
                    POINTS.layout(),
                    html.Section(html.Div(loading(), className="w-blank"), id="rq-trace", className="panel c12"),
                    html.Section(html.Div(loading(), className="w-blank"), id="rq-table", className="panel c12"),
                ],
                className="grid",
            ),
        ],
        className="page",
    )


def _filters() -> Node:
    """Controls that write the address: ``assets/15-menus.js`` binds whatever is named ``param-NAME``."""
    kinds = [html.Option(text, value=value) for value, (text, _) in journal.KINDS.items()]
    orders = [html.Option(text, value=value) for value, (text, _) in journal.ORDERS.items()]
    slow = dcc.Input(id="param-slow", type="number", min=0, className="in", placeholder="800")
    text = dcc.Input(id="param-q", type="text", className="in", placeholder="4bf92f35")
    return html.Div(
        [
            html.Label(["Show", html.Select(kinds, id="param-only", className="in")]),
            html.Label(["first token after, ms", slow]),
            html.Label(["trace ID begins with", text]),
            html.Label(["sorted by", html.Select(orders, id="param-sort", className="in")]),
            html.Span(id="rq-count", className="f-n"),
        ],
        className="fb",
        role="search",
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's one callback."""
    boxes = [Output(box, "children") for box in ("rq-verdict", "rq-count", "rq-trace", "rq-table")]

    @app.callback([*boxes, *POINTS.outputs(), Output("rq-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, site.source)
        return [*answer(begun, site), begun.stamp()]

    stamped(app, "rq-stamp")


def answer(begun: Refresh, site: Site) -> list[Any]:
    """Verdict, count, opened request, table, and the chart's parts."""
    held = journal.read(begun, site.source)
    if not held.value:
        lead, rest = journal.why_none(held, _ended(begun, site))
        box = html.P([lead, rest], className="none", role="alert" if held.error else None)
        return [
            _band("v-none", lead, rest),
            None,
            _opened_alone(begun, site),
            box,
            *empty(POINTS, begun.clock, (), lead).values(),
        ]
    try:
        sieve, misread = journal.sieve(begun.view.own), ""
    except ViewError as failure:
        sieve, misread = journal.Sieve(), said_error(failure)
    rows = slowest(held.value)
    kept = sieve.apply(rows)
    opened = _opened(kept or rows, begun, site.source)
    count = say("{n} requests", n=len(rows))
    if not sieve.open:
        count = say("{kept} of {n} requests", kept=len(kept), n=len(rows))
    return [
        _band(*_summary(rows, site.slo), _note(held, begun, misread)),
        count,
        _trace(*opened) if opened is not None else _lost(begun),
        _table(kept, opened[0].trace_id if opened else "", begun, site, sieve),
        *_points(kept, opened, begun, site).values(),
    ]


def _ended(begun: Refresh, site: Site) -> float | None:
    """How many requests the engines say ended in the range."""
    if begun.vocabulary is None:
        return None
    vocabulary, over = begun.vocabulary, promql_duration(begun.window.span_s)
    asked = queries.question(lambda: vocabulary.increase("requests", over, by=(), where=begun.view.where))
    found = site.source.instants({"ended": asked}, begun.window.end_s)["ended"]
    return queries.last(found.lines[0].values) if found.lines else None


def _note(held: Held, begun: Refresh, misread: str) -> Node:
    if misread or begun.misread:
        return html.Div(say("The address was not understood: {why}.", why=misread or begun.misread), className="v-2")
    if held.error is None:
        return None
    age = quantity.span(begun.now_s - (held.fetched_s or begun.now_s))
    return html.Div(
        say("Requests cannot be read now: {why}. These are {age} old.", why=said_error(held.error), age=age),
        className="v-2",
    )


def _points(kept: Sequence[Served], opened: tuple[Served, Sequence[Span]] | None, begun: Refresh, site: Site) -> Drawn:
    limit_s = site.slo.ttft_p95_s
    sub = chip(f"SLO {quantity.threshold_s(limit_s)}", "bad")
    if not kept:
        return empty(POINTS, begun.clock, (), "no request passes the filter", sub)
    factor, axis = scale(max(*(one.wait_s for one in kept), limit_s))
    figure = points(
        kept, begun.clock, axis, height=POINTS.height, factor=factor, limit=limit_s * factor,
        opened=opened[0].trace_id if opened is not None else "",
    )  # fmt: skip
    return Drawn(figure, [html.Span("click a point for its trace", className="chip-pool"), sub])


def _opened(rows: Sequence[Served], begun: Refresh, source: Source) -> tuple[Served, Sequence[Span]] | None:
    """The request that the address names, or the first, with all spans of its trace."""
    spans: Sequence[Span] = journal.trace(begun.view.trace or rows[0].trace_id, source).value or ()
    found = slowest(spans)
    return (found[0], spans) if found else None


def _opened_alone(begun: Refresh, site: Site) -> Node:
    """The request that the address names, which may lie outside the range."""
    if not begun.view.trace:
        return html.P("No request is opened.", className="none")
    found = _opened((), begun, site.source)
    return _trace(*found) if found is not None else _lost(begun)


def _lost(begun: Refresh) -> Node:
    return html.P(
        say("No trace {id} is kept: it was never sent, or is older than what is kept.", id=begun.view.trace),
        className="none",
    )


def _summary(rows: Sequence[Served], slo: Slo) -> tuple[str, str, str]:
    """The band's class, lead and rest."""
    late = [one for one in rows if one.ttft_s is not None and one.ttft_s > slo.ttft_p95_s]
    shares = [one.queue_s / one.ttft_s for one in late or rows if one.ttft_s and one.queue_s is not None]
    queue = say(" Median queue share of their TTFT: {share}.", share=quantity.percent(median(shares))) if shares else ""
    total = say("the newest {n}", n=len(rows)) if len(rows) >= journal.LIMIT else str(len(rows))
    if not late:
        rest = say(" of {limit}; {total} were looked at.", limit=quantity.threshold_s(slo.ttft_p95_s), total=total)
        return "v-ok", "No request above the TTFT SLO", rest
    pools = [one.pool for one in late]
    worst = max(set(pools), key=pools.count)
    share = quantity.percent(pools.count(worst) / len(late))
    where = say(", {share} of them on {pool}", share=share, pool=worst) if len(set(pools)) > 1 else ""
    rest = say(", of {total} looked at{where}.{queue}", total=total, where=where, queue=queue)
    lead = counted(len(late), "1 request above the TTFT SLO", "{n} requests above the TTFT SLO")
    return "v-breach-edge", lead, rest


def _band(kind: str, lead: str, rest: str, below: Node = None) -> Node:
    words = html.Div([html.Div([html.B(lead), rest], className="v-1"), below])
    return html.Div(words, className=f"verdict v-short {kind}", role="status")


def _trace(one: Served, spans: Sequence[Span]) -> Node:
    facts = [one.pool]
    if one.preemptions:
        facts.append(say("preempted {n}×", n=one.preemptions))
    if one.failed:
        facts.append("failed")
    head = html.Header(
        [html.H2(["Trace ", html.Code(one.trace_id[:8])]), html.Div(joined(facts), className="p-s")], className="p-h"
    )
    return [head, waterfall(one, gaps_s(spans))]


def _table(rows: Sequence[Served], opened: str, begun: Refresh, site: Site, sieve: journal.Sieve) -> Node:
    shown = rows[:SHOWN]
    longest = max((one.e2e_s for one in shown), default=0.0)
    keys = [html.Span([html.I(className=f"w-{name}"), name]) for name in ("queue", "prefill", "decode")]
    title = journal.ORDERS[sieve.order][0].capitalize()
    head = html.Header([html.H2(title), html.Div(keys, className="p-s phk")], className="p-h")
    if not rows:
        return [head, html.P("No request passes the filter; widen it, or take a longer range.", className="none")]
    columns = [
        html.Th(name or html.Span("flags", className="vh"), scope="col", className="num" if name in NUMERIC else "")
        for name in HEADINGS
    ]
    body = [_row(one, one.trace_id == opened, longest, begun, site) for one in shown]
    table = html.Table([html.Thead(html.Tr(columns)), html.Tbody(body)], className="tb")
    region = hyphened(aria_label="Slow requests")
    return [head, html.Div(table, className="ox", tabIndex=0, role="region", **region)]


def _row(one: Served, opened: bool, longest: float, begun: Refresh, site: Site) -> Node:
    href = site.href("requests", begun.view.search(**begun.view.own, trace=one.trace_id))
    link = html.A(html.Code(one.trace_id[:8]), href=href, **hyphened(data_nav="1"))
    late = one.ttft_s is not None and one.ttft_s > site.slo.ttft_p95_s
    flags = [text for text, on in (("failed", one.failed), ("preempted", one.preemptions > 0)) if on]
    numbers = [
        (quantity.duration(one.ttft_s), "num badn" if late else "num"),
        *((quantity.duration(value), "num") for value in (one.queue_s, one.pace_s, one.e2e_s)),
        *((quantity.ABSENT if value is None else str(value), "num") for value in (one.input_tokens, one.output_tokens)),
    ]
    at = datetime.fromtimestamp(one.at_s + begun.offset_s, UTC)
    return html.Tr(
        [
            html.Td(f"{at:%H:%M:%S}"),
            html.Td(link),
            html.Td(one.pool),
            *(html.Td(text, className=kind) for text, kind in numbers),
            html.Td(phase_bar(one, longest)),
            html.Td(joined(flags), className="wn"),
        ],
        className="sel" if opened else "",
    )


PAGE = Page(path="/requests", title="Requests", icon="list-details", key="r", layout=layout, wire=wire)
