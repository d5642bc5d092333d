"""Parts that are no time chart: a titled box, a chart against something else, a form, a progress bar, facts."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import dcc, html

from dashboard import quantity
from dashboard.figures import chart, curve
from dashboard.jobs import Job
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.parts.panel import loading
from dashboard.prices import Prices
from dashboard.words import said_reason, say


def box(key: str, title: str, span: int = 12, *, body: Node = None) -> Node:
    """A titled box: a callback sets its content as ``key``, its header as ``key-sub``; or it has a fixed ``body``."""
    inside = body if body is not None else html.Div(html.Div(loading(), className="x-load"), id=key, className="p-x")
    return html.Section([head(key, title), inside], className=f"panel c{span}", **hyphened(aria_label=title))


def head(key: str, title: Node) -> Node:
    """The header of a box: its title, and words that a callback sets as ``key-sub``."""
    return html.Header([html.H2(title), html.Div(id=f"{key}-sub", className="p-s")], className="p-h")


def plot(key: str, title: str, unit: str, span: int, height: int) -> Node:
    """A chart that is not over time: figure ``key-graph``, header ``key-sub``, note ``key-note``."""
    name: Node = [title, html.Span(unit, className="p-u")] if unit else title
    graph = dcc.Graph(
        id=f"{key}-graph", figure=curve.empty(height=height), config=chart.CONFIG, style={"height": height}
    )
    drawn = html.Div(
        graph,
        className="p-g",
        role="img",
        **hyphened(aria_label=say("{title}; its values are in a table", title=title)),
    )
    body = html.Div([drawn, html.Div(id=f"{key}-note", className="p-n")], className="p-b")
    return html.Section([head(key, name), body], className=f"panel c{span}", **hyphened(aria_label=title))


def field(text: str, control: Node, *, usual: str = "", note: str = "") -> Node:
    """A labelled control; ``usual`` is its value where the address is silent."""
    more = [html.Small(note)] if note else []
    return html.Label([html.Span(text), control, *more], className="fd", **hyphened(data_usual=usual))


def number(name: str, *, step: float | str = "any", least: float | None = None, hint: str = "") -> Node:
    """A number that writes the address's parameter ``name``."""
    more: dict[str, Any] = {} if least is None else {"min": least}
    return dcc.Input(id=f"param-{name}", type="number", step=step, className="in", placeholder=hint, **more)


def choice(name: str, options: Sequence[tuple[str, str]]) -> Node:
    """A choice that writes the address's parameter ``name``: (value, text) each."""
    return html.Select([html.Option(text, value=value) for value, text in options], id=f"param-{name}", className="in")


def api_choice(prices: Prices) -> Node:
    """The catalogue's APIs as a choice that writes the address."""
    options = [(api.name, api.name) for api in prices.catalog.apis]
    return field("API", choice("api", options), usual=prices.api().name)


def button(text: str, symbol: str = "", *, kind: str = "btn", **attributes: str) -> Node:
    """A button; ``attributes`` such as ``data_post`` say what it does, see ``assets/40-act.js``."""
    inside = [icon(symbol, 15), html.Span(text)] if symbol else [html.Span(text)]
    return html.Button(inside, type="button", className=kind, **hyphened(**attributes))


def progress(job: Job, cancel: Node = None) -> Node:
    """A bar that fills, with what is done now."""
    share = job.done / job.total if job.total else 0.0
    return bar(share, "waiting for its turn" if job.state == "waiting" else said_reason(job.words), cancel)


def bar(share: float, words: str, beside: Node = None) -> Node:
    """A bar filled to ``share``, with words."""
    filled = html.Span(style={"width": f"{min(max(share, 0), 1) * 100:.1f}%"})
    spoken = {"aria_valuenow": f"{share * 100:.0f}", "aria_valuemin": "0", "aria_valuemax": "100"}
    track = html.Div(filled, className="pg", role="progressbar", **hyphened(**spoken, aria_label=words or "progress"))
    return html.Div(
        [track, html.Span(quantity.percent(share), className="pg-n"), html.Span(words, className="pg-w"), beside],
        className="pg-r",
    )


def facts(rows: Mapping[str, Node]) -> Node:
    """Names and values, one row each."""
    return html.Dl([part for name, value in rows.items() for part in (html.Dt(name), html.Dd(value))], className="ft")


def none(text: Node) -> Node:
    """Why there is nothing."""
    return html.P(text, className="none")


def wrong(text: str) -> Node:
    """What failed."""
    return html.P(text, className="none tb-e", role="alert")
