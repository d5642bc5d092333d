"""Explore: any PromQL, as a plot over the range and as a table at its end; mistakes are pointed at."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dash import Dash, Input, Output, dcc, html
from dash.exceptions import PreventUpdate

from collector.model.labels import Labels
from dashboard import quantity, theme
from dashboard.board import stamped, told
from dashboard.figures import chart, series
from dashboard.page import Page
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.panel import Drawn, Panel, empty, legend, solid, stale, texts
from dashboard.parts.tables import simple_table
from dashboard.refresh import Refresh, begin
from dashboard.site import Site
from dashboard.source import Answer, Line, Question
from dashboard.words import say

MAX_DRAWN = 24
MAX_ROWS = 500
PLOT = Panel("ex-plot", "Over time", span=12, height=320)
PLACE = re.compile(r"(?:^|\s)(\d+):(\d+): ")
"""Line and column at which our engine and Prometheus's parser point."""


def layout() -> Node:
    """The page before its data; the browser fills the field from the address."""
    field = dcc.Input(
        id="ex-expr", type="text", className="in ex-in", autoComplete="off", list="ex-names", spellCheck=False,
        placeholder="PromQL, such as rate(loadline_generation_tokens_total[1m])",
    )  # fmt: skip
    form = html.Div(
        [
            html.Label("PromQL", htmlFor="ex-expr", className="vh"),
            field,
            html.Datalist(id="ex-names"),
            html.Button("Run", type="button", className="btn btn-p", **hyphened(data_act="run")),
            html.Button("Copy", type="button", className="btn", id="ex-copy", **hyphened(data_act="copyexpr")),
        ],
        className="ex-f",
    )
    at_end = html.Section(
        [
            html.Header(
                [html.H2("At the end of the range"), html.Div(id="ex-table-sub", className="p-s")], className="p-h"
            ),
            html.Div(id="ex-table", className="p-x"),
        ],
        className="panel c12",
        **hyphened(aria_label="At the end of the range"),
    )
    return html.Div(
        [
            html.H1("Explore", className="vh"),
            dcc.Store(id="ex-stamp"),
            html.Div(id="ex-note"),
            form,
            html.Div(id="ex-recent", className="ex-r", role="group", **hyphened(aria_label="Recent queries")),
            html.Div(id="ex-error"),
            html.Div([PLOT.layout(), at_end], className="grid"),
        ],
        className="page",
    )


def wire(app: Dash, site: Site) -> None:
    """Register the page's one callback."""
    boxes = [Output(box, "children") for box in ("ex-note", "ex-error", "ex-table", "ex-table-sub")]

    @app.callback([*boxes, *PLOT.outputs(), Output("ex-stamp", "data")], Input("tick", "data"))
    def refresh(tick: Mapping[str, Any] | None) -> list[Any]:
        if tick is None:
            raise PreventUpdate
        begun = begin(tick, site.source)
        return [told(begun), *answer(begun, site), begun.stamp()]

    stamped(app, "ex-stamp")


def answer(begun: Refresh, site: Site) -> list[Any]:
    """Error, table, its header, and the plot's parts."""
    expr = begun.view.own.get("expr", "").strip()
    if not expr:
        why = "write a query above; metric names are completed as you type"
        return [None, html.P(why, className="none"), None, *empty(PLOT, begun.clock, (), why).values()]
    over = site.source.ranges({"": Question(expr)}, begun.window)[""]
    now = site.source.instants({"": Question(expr)}, begun.window.end_s)[""]
    failed = over.error if not over.lines else now.error if not now.lines else ""
    return [mistake(expr, failed) if failed else None, *at_end(now), *plot(over, begun).values()]


def mistake(expr: str, message: str) -> Node:
    """The message, and below the line of the query that it names an arrow to the column."""
    found = PLACE.search(message)
    if found is None:
        return html.Div(html.P(message), className="ex-e", role="alert")
    row, column = int(found[1]), int(found[2])
    lines = expr.splitlines()
    text = lines[row - 1] if row <= len(lines) else expr
    arrow = " " * (column - 1) + "^"
    return html.Div([html.P(message[found.start(1) :]), html.Pre(f"{text}\n{arrow}")], className="ex-e", role="alert")


def plot(over: Answer, begun: Refresh) -> Drawn:
    """Every series, at most 24, those that end highest."""
    if not any(value is not None for line in over.lines for value in line.values):
        return empty(PLOT, begun.clock, [over], "no series in this range")
    rows = named(over.lines)
    ranked = sorted(rows, key=lambda name: -max((value for value in rows[name] if value is not None), default=0.0))
    kept = {name: rows[name] for name in rows if name in ranked[:MAX_DRAWN]}
    palette = {name: theme.SERIES[index % series.MAX_SERIES] for index, name in enumerate(kept)}
    figure = spanning(kept, begun, palette)
    sub = counted(len(kept), len(rows))
    table = legend(kept, solid(palette), quantity.count)
    return Drawn(figure, sub, table, stale([over], begun.now_s), texts([over]))


def spanning(rows: Mapping[str, Sequence[float | None]], begun: Refresh, palette: Mapping[str, str]) -> chart.Figure:
    """Lines whose axis spans what they span, below zero too; a second round through the colours is dashed."""
    drawn = chart.layout(begun.clock, height=PLOT.height, left=58)
    if min(value for row in rows.values() for value in row if value is not None) < 0:
        drawn["yaxis"]["rangemode"] = "normal"
    traces = [
        chart.line(
            begun.clock, name, values, palette[name], width=1.5,
            dash="4px 3px" if index >= series.MAX_SERIES else None,
        )
        for index, (name, values) in enumerate(rows.items())
    ]  # fmt: skip
    return {"data": traces, "layout": drawn}


def named(lines: Sequence[Line]) -> dict[str, list[float | None]]:
    """Rows by what tells each series from the others; all labels where there is but one."""
    shared = set.intersection(*(set(line.labels) for line in lines)) if len(lines) > 1 else set()
    return {written(tuple(pair for pair in line.labels if pair not in shared)): line.values for line in lines}


def written(labels: Labels) -> str:
    """Labels as PromQL writes a series."""
    told = dict(labels)
    name = told.pop("__name__", "")
    inside = ", ".join(f'{label}="{value}"' for label, value in told.items())
    return f"{name}{{{inside}}}" if inside else name or "{}"


def at_end(now: Answer) -> tuple[Node, Node]:
    """A row per series, a column per label, the value in full."""
    if not now.lines:
        return html.P("no series at the end of the range", className="none"), None
    columns = sorted({name for line in now.lines for name, _ in line.labels})
    rows = [
        [*(dict(line.labels).get(name, "") for name in columns), _full(line.values[-1])]
        for line in now.lines[:MAX_ROWS]
    ]
    head = counted(len(rows), len(now.lines))
    return simple_table("Series", (*columns, "Value"), rows, (len(columns),)), head


def counted(shown: int, found: int) -> str:
    """How many series there are, and how many of them are shown."""
    return say("{n} series", n=found) if shown == found else say("{shown} of {n} series", shown=shown, n=found)


def _full(value: float | None) -> str:
    return quantity.ABSENT if value is None else repr(value).removesuffix(".0")


PAGE = Page(path="/explore", title="Explore", icon="terminal-2", key="x", layout=layout, wire=wire)
