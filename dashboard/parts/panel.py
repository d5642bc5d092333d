"""One panel: a titled chart with its menu, legend table and the five states a chart can be in.

Loading (first time only), data, stale with its age, empty with the reason, error with the message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dash import Output, dcc, html

from dashboard import quantity
from dashboard.figures import chart
from dashboard.figures.chart import Clock, Figure
from dashboard.parts.built import Built
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.source import Answer
from dashboard.view import Window
from dashboard.words import say

PARTS = (
    ("graph", "figure"),
    ("sub", "children"),
    ("legend", "children"),
    ("note", "children"),
    ("queries", "children"),
)


@dataclass(frozen=True, slots=True)
class Panel:
    """A place for a chart: ``key`` is unique on the page, ``span`` of 12 columns, chart ``height`` in pixels."""

    key: str
    title: str
    unit: str = ""
    span: int = 3
    height: int = 168
    legend: bool = True

    def outputs(self) -> list[Output]:
        """What one refresh sets, in the order of ``Drawn.values``."""
        return [Output(f"{self.key}-{part}", prop) for part, prop in PARTS]

    def layout(self) -> Node:
        """The panel before its first data: a skeleton of the final height."""
        window = Window(0, 60, 1)
        figure = chart.blank(Clock(window), height=self.height)
        figure["layout"]["xaxis"]["showticklabels"] = False
        body = [
            html.Div(
                dcc.Graph(id=f"{self.key}-graph", figure=figure, config=chart.CONFIG, style={"height": self.height}),
                className="p-g",
                role="img",
                **hyphened(aria_label=say("{title}, chart over time; the menu shows it as a table", title=self.title)),
            ),
            html.Div(
                className="p-t",
                tabIndex=0,
                role="region",
                **hyphened(aria_label=say("{title} as a table", title=self.title)),
            ),
            html.Div(loading(), id=f"{self.key}-note", className="p-n"),
        ]
        legend = html.Div(id=f"{self.key}-legend", className="p-l" if self.legend else "p-l p-l0")
        return html.Section(
            [self._head(), html.Div(body, className="p-b"), legend],
            className=f"panel c{self.span}",
            **hyphened(aria_label=self.title),
        )

    def _head(self) -> Node:
        title: Node = [self.title, html.Span(self.unit, className="p-u")] if self.unit else [self.title]
        menu = html.Details(
            [
                html.Summary(icon("dots"), **hyphened(aria_label=say("{title}: panel menu", title=self.title))),
                html.Div(
                    [
                        html.Button([icon("table", 15), "View as table"], **hyphened(data_act="table"), type="button"),
                        html.Button(
                            [icon("download", 15), "Download as CSV"], **hyphened(data_act="csv"), type="button"
                        ),
                        html.Div(id=f"{self.key}-queries"),
                    ],
                    className="menu",
                ),
            ],
            className="p-m",
        )
        return html.Header([html.H2(title), html.Div(id=f"{self.key}-sub", className="p-s"), menu], className="p-h")


@dataclass(frozen=True, slots=True)
class Drawn:
    """What one refresh puts into a panel."""

    figure: Figure
    sub: Node = None
    legend: Node = None
    note: Node = None
    queries: Sequence[str] = field(default_factory=tuple)

    def values(self) -> list[Any]:
        """In the order of ``Panel.outputs``."""
        return [self.figure, self.sub, self.legend, self.note, query_list(self.queries)]


def empty(panel: Panel, clock: Clock, answers: Sequence[Answer], why: str, sub: Node = None) -> Drawn:
    """A panel that has nothing to draw: the message of the query that failed, or the reason."""
    figure = chart.blank(clock, height=panel.height)
    failed = next((answer.error for answer in answers if answer.error and not answer.lines), "")
    note = error(failed) if failed else nothing(why)
    return Drawn(figure, sub, None, note, texts(answers))


def texts(answers: Sequence[Answer]) -> tuple[str, ...]:
    """The PromQL behind a panel."""
    return tuple(dict.fromkeys(answer.text for answer in answers if answer.text))


def loading() -> Node:
    """The skeleton of the first load."""
    return html.Div(html.Span("Loading", className="vh"), className="n-load")


def nothing(why: str) -> Node:
    """Why there is nothing to draw."""
    return html.Div([icon("circle-dashed", 18), html.Span(why)], className="n-msg")


def error(message: str) -> Node:
    """A query failed and there is nothing older to show."""
    return html.Div([icon("alert-triangle", 18), html.Span(message)], className="n-msg n-err", role="alert")


def stale(answers: Sequence[Answer], now_s: float) -> Node:
    """How old the oldest of the answers shown is, where a refresh failed; None where all are fresh."""
    late = [answer for answer in answers if answer.stale]
    if not late:
        return None
    oldest = min(late, key=lambda answer: answer.fetched_s or now_s)
    age = quantity.span(now_s - (oldest.fetched_s or now_s))
    return html.Div([icon("alert-triangle", 13), say("stale {age}", age=age)], className="n-stale", title=oldest.error)


def query_list(queries: Sequence[str]) -> Node:
    """PromQL, one row each; the browser puts the buttons beside it when the menu opens."""
    return Built("Queries", texts=list(queries))


def chip(text: str, kind: str) -> Node:
    """The words of a threshold, in the header, where they hide no data; ``kind`` is bad or warn."""
    return html.Span([html.I(), text], className=f"chip chip-{kind}")


def legend(
    rows: Mapping[str, Sequence[float | None]], swatches: Mapping[str, dict[str, str]], write: quantity.Formatter
) -> Node:
    """The table under a chart: series, its last value and its greatest."""
    lines = []
    for name, values in rows.items():
        known = [value for value in values if value is not None]
        newest = known[-1] if known else None
        told = write(newest), write(max(known, default=None))
        lines.append([name, say("{name}", name=name), swatches.get(name, {}), *told])
    return Built("Legend", rows=lines)


def solid(colors: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Swatches of plain colour."""
    return {name: {"background": color} for name, color in colors.items()}
