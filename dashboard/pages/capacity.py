"""Capacity: how far the load line is now, and what would happen if something were changed, asked of the twin."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate
from flask import Response, abort

from collector.model.errors import SourceError
from dashboard import quantity, theme
from dashboard.access import Person, Role
from dashboard.actions import Fields, add_action
from dashboard.board import stamped, told
from dashboard.cache import Held, Late
from dashboard.errors import ActionRefused, ViewError
from dashboard.figures import curve
from dashboard.figures.curve import Cross
from dashboard.jobs import Job, Jobs
from dashboard.page import Page
from dashboard.pages.fan import scale
from dashboard.parts import section
from dashboard.parts.bars import bars, by_risk
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.parts.panel import chip
from dashboard.parts.tables import clock_text, simple_table
from dashboard.parts.twin_error import twin_errors
from dashboard.parts.whatif import Found, answered
from dashboard.pricing import Offer, against, offer_of
from dashboard.refresh import Refresh, begin
from dashboard.site import Site
from dashboard.view import parse, replaced
from dashboard.whatif import WhatIfAsked, question, read_whatif
from dashboard.words import said_error, said_reason, say
from planner.report import Report, to_html
from planner.room.headroom import PoolHeadroom

BOXES = ("ca-note", "ca-live", "ca-live-sub", "ca-of", "ca-state", "ca-facts", "ca-facts-sub", "ca-even", "ca-even-sub",
         "ca-loads", "ca-loads-sub")  # fmt: skip
CURVES = ("ca-ttft", "ca-itl")
HEIGHT = 240


def layout() -> Node:
    """The page before its data."""
    return html.Div(
        [
            html.H1("Capacity", className="vh"),
            dcc.Store(id="ca-stamp"),
            html.Div(id="ca-note"),
            html.Div(
                [
                    section.box("ca-live", "Headroom now", 6),
                    section.box("", "What if", 6, body=_form()),
                    section.box("ca-facts", "Answer", 6),
                    section.box("ca-even", "Break-even with an API", 6),
                    section.plot("ca-ttft", "TTFT p95 against load", "", 6, HEIGHT),
                    section.plot("ca-itl", "ITL p95 against load", "", 6, HEIGHT),
                    section.box("ca-loads", "Loads simulated", 12),
                ],
                className="grid",
            ),
        ],
        className="page",
    )


def _form() -> Node:
    factor = {"step": 0.05, "least": 0.05}
    load = dcc.Input(id="param-load", type="range", min=0.1, max=4, step=0.05, value=1, className="in ca-load")
    fields = [
        html.Label(["Pool", html.Div(id="ca-of")], className="fd"),
        html.Label(
            [html.Span(["Load, times now: ", html.Output("1")]), load], className="fd", **hyphened(data_usual="1")
        ),
        section.field("Replicas", section.number("replicas", step=1, least=1, hint="as now")),
        section.field("TTFT p95, ms", section.number("ttft", least=1, hint="as promised")),
        section.field("ITL p95, ms", section.number("itl", least=1, hint="as promised")),
        section.field("E2E p95, s", section.number("e2e", least=0.1, hint="as promised")),
        section.field("Prompts, times as long", section.number("prompt", hint="1", **factor)),
        section.field("Outputs, times as long", section.number("output", hint="1", **factor)),
        section.field("Prompt tokens cached, %", section.number("cached", least=0, hint="as now")),
        section.field("Tokens a step, at most", section.number("batch", step=1, least=1, hint="as now")),
        section.field("Sequences, at most", section.number("seqs", step=1, least=1, hint="as now")),
        section.field("KV blocks", section.number("blocks", step=1, least=2, hint="as now")),
    ]
    run = section.button("Run", "player-play", kind="btn btn-p", data_post="whatif")
    buttons = html.Div([run, html.P(className="act-why", role="alert")], className="fm-b")
    return html.Div([html.Div(fields, className="fm"), html.Div(buttons, className="dl"), html.Div(id="ca-state")],
                    **hyphened(data_form="1"))  # fmt: skip


def wire(app: Dash, site: Site) -> None:
    """Register the page's callback, its buttons and its downloads."""
    outputs = [Output(box, "children") for box in BOXES]
    for name in CURVES:
        outputs += [
            Output(f"{name}-graph", "figure"),
            Output(f"{name}-sub", "children"),
            Output(f"{name}-note", "children"),
        ]

    @app.callback([*outputs, Output("ca-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, site.source)
        return answer(begun, site)

    stamped(app, "ca-stamp")
    add_action(app.server, site.prefix, "whatif", Role.VIEWER, lambda fields, person: start(fields, site, renew=True))
    add_action(app.server, site.prefix, "whatif-again", Role.VIEWER, lambda fields, person: start(fields, site))
    add_action(
        app.server, site.prefix, "whatif-cancel", Role.VIEWER, lambda fields, person: cancel(fields, person, site)
    )
    app.server.add_url_rule(
        f"{site.prefix}data/whatif/<key>.<kind>", "whatif-report", lambda key, kind: download(key, kind, site)
    )


def start(fields: Fields, site: Site, *, renew: bool = False) -> Mapping[str, Any]:
    """Start the what-if that the address asks for; with ``renew``, at this moment. Raises ActionRefused."""
    jobs = jobs_of(site)
    search = str(fields.get("search", ""))
    if renew:
        search = replaced(search, at=str(int(site.source.clock())))
    asked = read(search, site)
    if not asked.pool or asked.at_s is None:
        raise ActionRefused("no pool is measured: there is nothing to ask about")
    job = jobs.start(asked.key, question(asked, site.source, site.services.source_token))
    return {"said": "Computing" if job.going else "", "search": search}


def cancel(fields: Fields, person: Person, site: Site) -> Mapping[str, Any]:
    """Cancel the what-if of the address."""
    jobs_of(site).cancel(read(str(fields.get("search", "")), site).key)
    return {"said": "Cancelled"}


def jobs_of(site: Site) -> Jobs:
    """The job table. Raises ActionRefused where there is none."""
    if site.services.jobs is None:
        raise ActionRefused("this dashboard is served without a job table", 503)
    return site.services.jobs


def read(search: str, site: Site) -> WhatIfAsked:
    """The what-if of an address. Raises ViewError, and ActionRefused while the source is away."""
    try:
        view = parse(search)
        vocabulary = site.source.vocabulary_of(view.engines)
        pools = site.source.scope(vocabulary, view.window(site.source.clock())).pools
        return read_whatif(view, pools, site.slo)
    except SourceError as error:
        raise ActionRefused(say("the source does not answer: {why}", why=said_error(error)), 502) from error


def download(key: str, kind: str, site: Site) -> Response:
    """The report on a finished what-if as HTML or JSON."""
    job = site.services.jobs.get(key) if site.services.jobs is not None else None
    if job is None or job.result is None or kind not in ("html", "json"):
        abort(404)
    report = Report.model_validate(job.result)
    named = {"Content-Disposition": f'attachment; filename="whatif-{key}.{kind}"'}
    if kind == "html":
        return Response(to_html(report), 200, named, mimetype="text/html")
    return Response(report.to_json(), 200, named, mimetype="application/json")


def answer(begun: Refresh, site: Site) -> list[Any]:
    """All outputs of one refresh."""
    held = site.source.headroom(site.slo, begun.window)
    pools = by_risk(held.value or ())
    live = _live(held, pools, begun, site)
    names = tuple(pool.pool for pool in pools) or begun.scope.pools
    try:
        asked = read_whatif(begun.view, names, site.slo)
    except ViewError as error:
        said = say("The address was not understood: {why}.", why=said_error(error))
        note = html.P(said, className="note", role="alert")
        return [note, *live, _chooser(names, ""), None, *_nothing("the address was not understood"), begun.stamp()]
    jobs = site.services.jobs
    job = jobs.get(asked.key) if jobs is not None and asked.at_s is not None else None
    soon = isinstance(held.error, Late) or (job is not None and job.going)
    chooser = _chooser(names, asked.pool)
    if job is None or job.state != "done" or job.result is None:
        state, why = _state(job, asked, site)
        rest = [state, *_nothing(why)]
    else:
        rest = [None, *_answered(job, asked, pools, begun, site)]
    return [told(begun), *live, chooser, *rest, begun.stamp(soon=soon)]


def _live(held: Held, pools: Sequence[PoolHeadroom], begun: Refresh, site: Site) -> tuple[Node, Node]:
    if pools:
        found = [bars(pools, begun.view, site.prefix), twin_errors(site.source, begun.window.end_s)]
        return found, "of the load line, sorted by risk"
    if isinstance(held.error, Late):
        return section.none("The twin is being calibrated."), None
    why = said_error(held.error) if held.error is not None else begun.error or "no pool is measured"
    return section.none(say("No load line: {why}.", why=why)), None


def _chooser(names: Sequence[str], chosen: str) -> Node:
    """The pools as a choice that writes the address."""
    options = [html.Option(name, value=name) for name in names] or [html.Option("none measured", value="")]
    return html.Select(options, id="param-of", className="in", **hyphened(aria_label="Pool"))


def _state(job: Job | None, asked: WhatIfAsked, site: Site) -> tuple[Node, str]:
    """Where the what-if stands, and why there is no answer yet."""
    if site.services.jobs is None:
        return None, "this dashboard is served without a job table"
    if not asked.pool:
        return None, "no pool is measured: there is nothing to ask about"
    if asked.at_s is None:
        return None, "change something and press Run: the twin is calibrated on the last 15 minutes"
    if job is None:
        return html.Div(html.Div(**hyphened(data_auto="whatif-again")), className="pg-r"), "not computed here yet"
    if job.going:
        stop = section.button("Cancel", "x", kind="btn btn-s", data_post="whatif-cancel")
        return section.progress(job, stop), "it is being computed"
    again = section.button("Compute again", "refresh", kind="btn btn-s", data_post="whatif-again")
    why = "cancelled" if job.state == "cancelled" else said_reason(job.error)
    told = say("Cancelled.") if job.state == "cancelled" else say("The what-if failed: {why}.", why=why)
    return html.Div(
        [icon("alert-triangle", 16), html.Span(told, className="pg-w"), again], className="pg-r", role="alert"
    ), why


def _nothing(why: str) -> list[Any]:
    blank = section.none(say("No answer: {why}.", why=why))
    empty = [curve.empty(height=HEIGHT), None, html.Div(html.Span(why), className="n-msg")]
    return [
        blank,
        None,
        section.none("Run a what-if first."),
        None,
        section.none(say("No answer: {why}.", why=why)),
        None,
        *empty,
        *empty,
    ]


def _answered(job: Job, asked: WhatIfAsked, pools: Sequence[PoolHeadroom], begun: Refresh, site: Site) -> list[Any]:
    report = job.result or {}
    found: Found = report["result"]
    now = next((pool for pool in pools if pool.pool == asked.pool), None)
    moment = clock_text(asked.at_s or 0, begun.offset_s, begun.now_s)
    return [
        [answered(found, now, report), _downloads(job.key, site)],
        say("{pool}, as seen at {time}", pool=asked.pool, time=moment),
        *_even(found, begun, site),
        _loads(report),
        say("{n} loads, three simulations each", n=len(found["points"])),
        *_curve(found, "ttft", asked.slo.ttft_p95_s),
        *_curve(found, "itl", asked.slo.itl_p95_s),
    ]


def _downloads(key: str, site: Site) -> Node:
    links = [
        html.A(
            [icon("download", 15), text],
            href=site.href(f"data/whatif/{key}.{kind}"),
            className="btn btn-s",
            download="",
        )
        for kind, text in (("html", "Report, HTML"), ("json", "Report, JSON"))
    ]
    return html.Div(links, className="dl")


def _loads(report: Mapping[str, Any]) -> Node:
    table = report["tables"][0]
    rows = [
        [*(_seconds(column, cell) for column, cell in zip(table["columns"], row, strict=True))] for row in table["rows"]
    ]
    note = html.P(table["note"], className="none")
    headings = [column.removesuffix(" s") for column in table["columns"]]  # the cells have their units
    return [simple_table("Loads simulated", headings, rows, range(len(table["columns"]))), note]


def _seconds(column: str, cell: Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if column == "requests/s":
        return quantity.count(cell)
    return quantity.percent(cell) if column == "KV peak" else quantity.duration(cell)


def _curve(found: Found, name: str, limit_s: float) -> list[Any]:
    points = [
        one
        for one in found["points"]
        if None not in (one[f"{name}_p95_s"], one[f"{name}_low_s"], one[f"{name}_high_s"])
    ]
    if not points:
        return [
            curve.empty(height=HEIGHT),
            None,
            html.Div(html.Span("no request ended at any of the loads"), className="n-msg"),
        ]
    middle, low, high = ([one[f"{name}_{part}_s"] for one in points] for part in ("p95", "low", "high"))
    factor, axis = scale(max(limit_s * 2.5, 0))
    load, line, n2 = found["load_req_per_s"], found["line_req_per_s"], found["n2_line_req_per_s"]
    crosses = [
        Cross(load, say("load {rate}", rate=quantity.count(load)), theme.BLUE, "3px 3px"),
        Cross(line, say("load line {rate}", rate=quantity.count(line)), theme.BREACH),
    ]
    if n2:
        crosses.append(Cross(n2, say("N+2 line {rate}", rate=quantity.count(n2)), theme.WARN, "5px 4px"))
    figure = curve.against_load(
        [one["requests_per_s"] for one in points],
        [value * factor for value in middle],
        [value * factor for value in low],
        [value * factor for value in high],
        axis=axis,
        height=HEIGHT,
        limit=limit_s * factor,
        crosses=crosses,
    )
    return [
        figure,
        [
            html.Span("band: the model's error", className="chip-pool"),
            chip(f"SLO {quantity.threshold_s(limit_s)}", "bad"),
        ],
        None,
    ]


def _even(found: Found, begun: Refresh, site: Site) -> tuple[Node, Node]:
    """From which volume the pool, as changed, costs less than an API for the same mix."""
    offer = offer_of(begun.view.own, found["pool"], site.services.prices)
    controls = html.Div(
        [
            section.field("Replica, $ an hour", section.number("usd", least=0, hint="as listed")),
            section.api_choice(site.services.prices),
        ],
        className="fm",
    )
    if isinstance(offer, str):
        return [controls, section.none(offer)], None
    return [controls, _even_facts(found, offer)], say("prices of {date}", date=offer.as_of)


def _even_facts(found: Found, offer: Offer) -> Node:
    per_replica = found["line_req_per_s"] / found["replicas"]
    told = against(offer, per_replica, found["prompt_tokens"], found["output_tokens"], found["cached_ratio"])
    day = Fraction(86_400)
    volume = found["load_req_per_s"] * (found["prompt_tokens"] + found["output_tokens"]) * float(day)
    own, bill = found["replicas"] * offer.usd_per_hour, told.api_usd_per_token * volume / 24
    price = quantity.money(offer.usd_per_hour)
    return section.facts(
        {
            "Break-even": told.words,
            "Tokens a day at this load": quantity.count(volume),
            "Own, a month": quantity.money(own * told.hours_per_month),
            say("{api}, a month", api=offer.api.name): quantity.money(bill * told.hours_per_month),
            "Replica": say("{usd} an hour, {source}", usd=price, source=offer.source),
        }
    )


PAGE = Page(path="/capacity", title="Capacity", icon="adjustments", key="c", layout=layout, wire=wire)
