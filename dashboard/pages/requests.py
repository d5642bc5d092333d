"""Requests: the slowest first tokens of the range, and one request opened to its tokens."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate

from collector.model.errors import SourceError
from collector.model.spans import Span
from dashboard import quantity
from dashboard.board import stamped
from dashboard.cache import Held
from dashboard.page import Page
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.panel import loading
from dashboard.parts.waterfall import phase_bar, waterfall
from dashboard.refresh import Refresh, begin
from dashboard.served import MODEL, Served, gaps_s, slowest
from dashboard.site import Site
from dashboard.source import Source
from planner.slo import Slo

LIMIT = 500
"""Newest requests of each pool that are looked at."""
SHOWN = 40
TTL_S = 4.0
HEADINGS = ("Time", "Request", "Pool", "TTFT", "Queue", "ITL avg", "E2E", "In", "Out", "Phases", "")
NUMERIC = frozenset({"TTFT", "Queue", "ITL avg", "E2E", "In", "Out"})


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Requests", className="vh"),
            dcc.Store(id="rq-stamp"),
            html.Div(html.Div(className="verdict v-short"), id="rq-verdict"),
            html.Div(
                [
                    html.Section(html.Div(loading(), className="w-blank"), id="rq-trace", className="panel c12"),
                    html.Section(html.Div(loading(), className="w-blank"), id="rq-table", className="panel c12"),
                ],
                className="grid",
            ),
        ],
        className="page",
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's one callback."""
    source, slo, prefix = site.source, site.slo, site.prefix
    boxes = [Output(box, "children") for box in ("rq-verdict", "rq-trace", "rq-table")]

    @app.callback([*boxes, Output("rq-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, source)
        pools = _pools(begun, source)
        held = _requests(begun, source, pools)
        if not held.value:
            return [_band(*_nothing(begun, held)), None, None, begun.stamp(pools)]
        rows = slowest(held.value)
        opened = _opened(rows, begun, source)
        return [
            _band(*_summary(rows, slo)),
            _trace(*opened) if opened is not None else html.P(f"No trace {begun.view.trace}.", className="none"),
            _table(rows, opened[0].trace_id if opened else "", begun, slo, prefix),
            begun.stamp(pools),
        ]

    stamped(app, "rq-stamp")


def _pools(begun: Refresh, source: Source) -> tuple[str, ...]:
    """Pools that the source measures now, which are the models that spans name."""
    vocabulary = begun.vocabulary
    if vocabulary is None or not vocabulary.present("running_requests"):
        return ()

    def load() -> tuple[str, ...]:
        samples = source.client.query(vocabulary.replicas())
        return tuple(sorted({dict(sample.labels).get("pool", "") for sample in samples} - {""}))

    return source.kept("pools", load, TTL_S).value or ()


def _requests(begun: Refresh, source: Source, pools: Sequence[str]) -> Held:
    """Server spans of the range, newest first; without known pools, every span that names a model."""
    wanted = [pool for pool in pools if begun.view.wants(pool)] or list(begun.view.pools)
    window = begun.window

    def load() -> tuple[Span, ...]:
        asked: list[dict[str, str] | None] = [{MODEL: pool} for pool in wanted] or [None]
        found = [
            source.client.spans(start_s=window.start_s, end_s=window.end_s + window.step_s, attributes=one, limit=LIMIT)
            for one in asked
        ]
        return tuple(span for spans in found for span in spans if MODEL in span.attributes)

    return source.kept(f"spans {wanted} {window.start_s} {window.end_s}", load, TTL_S)


def _opened(rows: Sequence[Served], begun: Refresh, source: Source) -> tuple[Served, Sequence[Span]] | None:
    """The request that the address names, or the slowest, with all spans of its trace."""
    trace_id = begun.view.trace or rows[0].trace_id
    held = source.kept(f"trace {trace_id}", lambda: source.client.spans(trace_id=trace_id, limit=LIMIT), TTL_S)
    spans: Sequence[Span] = held.value or ()
    found = slowest(spans)
    return (found[0], spans) if found else None


def _nothing(begun: Refresh, held: Held) -> tuple[str, str]:
    if isinstance(held.error, SourceError) and held.error.kind == "no_spans":
        return "No requests to show.", f" {held.error}."
    if held.error is not None:
        return "Requests cannot be read.", f" {held.error}."
    told = "Engines send theirs with --otlp-endpoint ADDRESS-OF-THE-COLLECTOR."
    return "No request ended in this range.", f" {told}"


def _summary(rows: Sequence[Served], slo: Slo) -> tuple[str, str]:
    late = [one for one in rows if one.ttft_s is not None and one.ttft_s > slo.ttft_p95_s]
    shares = [one.queue_s / one.ttft_s for one in late or rows if one.ttft_s and one.queue_s is not None]
    queue = f" Median queue share of their TTFT: {quantity.percent(median(shares))}." if shares else ""
    total = f"the newest {len(rows)}" if len(rows) >= LIMIT else f"{len(rows)}"
    if not late:
        return "No request above the TTFT SLO", f" of {quantity.threshold_s(slo.ttft_p95_s)}, of {total}."
    pools = [one.pool for one in late]
    worst = max(set(pools), key=pools.count)
    share = f", {quantity.percent(pools.count(worst) / len(late))} of them on {worst}" if len(set(pools)) > 1 else ""
    return f"{len(late)} requests above the TTFT SLO", f" of {total}{share}.{queue}"


def _band(lead: str, rest: str) -> Node:
    kind = "v-ok" if lead.startswith("No request above") else "v-breach-edge" if "above" in lead else "v-none"
    return html.Div(html.Div([html.B(lead), rest], className="v-1"), className=f"verdict v-short {kind}", role="status")


def _trace(one: Served, spans: Sequence[Span]) -> Node:
    facts = [one.pool]
    if one.preemptions:
        facts.append(f"preempted {one.preemptions}×")
    if one.failed:
        facts.append("failed")
    head = html.Header(
        [html.H2(["Trace ", html.Code(one.trace_id[:8])]), html.Div(", ".join(facts), className="p-s")], className="p-h"
    )
    return [head, waterfall(one, gaps_s(spans))]


def _table(rows: Sequence[Served], opened: str, begun: Refresh, slo: Slo, prefix: str) -> Node:
    shown = rows[:SHOWN]
    longest = max((one.e2e_s for one in shown), default=0.0)
    keys = [html.Span([html.I(className=f"w-{name}"), name]) for name in ("queue", "prefill", "decode")]
    head = html.Header([html.H2("Slowest first token"), html.Div(keys, className="p-s phk")], className="p-h")
    columns = [
        html.Th(name or html.Span("flags", className="vh"), scope="col", className="num" if name in NUMERIC else "")
        for name in HEADINGS
    ]
    body = [_row(one, one.trace_id == opened, longest, begun, slo, prefix) for one in shown]
    table = html.Table([html.Thead(html.Tr(columns)), html.Tbody(body)], className="tb")
    region = hyphened(aria_label="Slow requests")
    return [head, html.Div(table, className="ox", tabIndex=0, role="region", **region)]


def _row(one: Served, opened: bool, longest: float, begun: Refresh, slo: Slo, prefix: str) -> Node:
    href = f"{prefix}requests{begun.view.search(trace=one.trace_id)}"
    link = html.A(html.Code(one.trace_id[:8]), href=href, **hyphened(data_nav="1"))
    late = one.ttft_s is not None and one.ttft_s > slo.ttft_p95_s
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
            html.Td(", ".join(flags), className="wn"),
        ],
        className="sel" if opened else "",
    )


PAGE = Page(path="/requests", title="Requests", icon="list-details", key="r", layout=layout, wire=wire)
