"""The frame around every page: header with range, pools, freshness and theme; navigation; skip link.

Its controls carry no state of their own: ``assets/10-view.js`` reads the address, writes it, and paints them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dash import dcc, html

from dashboard.parts.icon import Node, hyphened, icon
from dashboard.registry import Group
from dashboard.view import RANGES

REFRESH = (("5", "5 s"), ("10", "10 s"), ("30", "30 s"), ("60", "1 m"), ("0", "Paused"))
FILTERS = (("engine", "Engine"), ("replica", "Replica"), ("tenant", "Tenant"))
KEYS = (
    ("g, then a letter", "open a page"), ("t", "time range"), ("f", "filters"), ("r", "refresh now"),
    ("p", "pause or go on"), ("[ and ]", "earlier, later"), ("Esc", "close a menu"), ("?", "this list"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Grafana:
    """Where queries can be opened too: address of a Grafana, and the uid of its data source (its default if empty)."""

    url: str = ""
    datasource: str = ""


def shell(groups: Sequence[Group], prefix: str, grafana: Grafana) -> Node:
    """The whole document; ``prefix`` begins and ends with a slash."""
    beside = {"data_prefix": prefix}
    if grafana.url:
        beside |= {"data_grafana": grafana.url.rstrip("/"), "data_datasource": grafana.datasource}
    return html.Div(
        [
            html.A("Skip to content", href="#main", className="skip"),
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="tick"),
            _header(prefix),
            html.Div([_navigation(groups, prefix), html.Main(id="main", tabIndex=-1)], className="cols"),
            html.Div(id="said", className="said", role="status", **hyphened(aria_live="polite")),
            _help(groups),
        ],
        className="shell",
        id="shell",
        **hyphened(**beside),
    )


def _header(prefix: str) -> Node:
    mark = html.Span(className="mark", **hyphened(aria_hidden="true"))
    pools = _picker("pools", "All pools", "Pools shown", [_choices("pool", "Pools")])
    filters = _picker("filters", "Filter", "Engines, replicas and tenants shown", [
        html.Fieldset([html.Legend(title), _choices(name, title)], hidden=True, id=f"{name}-set")
        for name, title in FILTERS
    ])  # fmt: skip
    return html.Header(
        [
            html.A([mark, "Loadline"], href=prefix, className="brand", **hyphened(data_nav="1")),
            pools,
            filters,
            html.Div(className="grow"),
            _range_bar(),
            _freshness(),
            _button("link", "share", "Copy link to this view"),
            # in Chinese, both texts are those that lead back to English
            html.Button(
                "中文", type="button", className="ib lang", title="Show this in Chinese",
                **hyphened(data_act="language"),
            ),
            _button("moon", "theme", "Switch between light and dark"),
        ],
        className="top",
    )  # fmt: skip


def _picker(key: str, text: str, title: str, children: Sequence[Node]) -> Node:
    summary = html.Summary([html.Span(text, id=f"{key}-text"), icon("chevron-down", 14)], title=title)
    return html.Details([summary, html.Div(children, className="menu")], className="pick", id=key)


def _choices(name: str, title: str) -> Node:
    """Filled by the browser from what an answer's stamp lists."""
    return html.Div(id=f"{name}-list", role="group", **hyphened(aria_label=title, data_filter=name))


def _help(groups: Sequence[Group]) -> Node:
    pages = [(f"g {page.key}", page.title) for group in groups for page in group.pages]
    rows = [html.Tr([html.Th(html.Kbd(keys), scope="row"), html.Td(what)]) for keys, what in (*KEYS, *pages)]
    close = _button("x", "help", "Close")
    return html.Div(
        html.Div([html.H2("Keys"), close, html.Table(html.Tbody(rows))], className="hp-b"),
        id="help", className="hp", hidden=True, role="dialog", **hyphened(aria_label="Keys", aria_modal="true"),
    )  # fmt: skip


def _range_bar() -> Node:
    ranges = [html.Button(text, type="button", **hyphened(data_range=text, aria_pressed="false")) for text in RANGES]
    fixed = html.Button(
        [html.Span(id="fixed-text"), icon("x", 13)],
        id="fixed",
        type="button",
        className="fixed",
        hidden=True,
        **hyphened(data_act="live", aria_label="Fixed range; back to the last relative one"),
    )
    group = html.Div(ranges, className="seg", role="group", **hyphened(aria_label="Time range"))
    earlier, later = _button("chevron-left", "earlier", "Earlier"), _button("chevron-right", "later", "Later")
    return html.Div([earlier, group, fixed, _absolute(), later], className="tr")


def _absolute() -> Node:
    """A menu for any range; the browser fills it, since only it knows the viewer's clock."""
    summary = html.Summary(icon("calendar", 17), title="Any range", **hyphened(aria_label="Any range"))
    return html.Details([summary, html.Div(id="abs-form", className="menu")], className="abs", id="absolute")


def _freshness() -> Node:
    options = [html.Option(text, value=value) for value, text in REFRESH]
    return html.Div(
        [
            html.Span(className="fresh", id="fresh-dot", **hyphened(aria_hidden="true")),
            html.Span("loading", id="fresh", title="age of the newest sample"),
            html.Span(html.Select(options, id="refresh", **hyphened(aria_label="Refresh interval")), className="sel-w"),
        ],
        className="rf",
    )


def _button(name: str, act: str, label: str) -> Node:
    return html.Button(
        icon(name, 17), type="button", className="ib", title=label, **hyphened(data_act=act, aria_label=label)
    )


def _navigation(groups: Sequence[Group], prefix: str) -> Node:
    beside = {"/alerts": (html.Span(id="firing", className="n-c"),)}
    parts: list[Node] = []
    for group in groups:
        parts.append(html.Div(group.title, className="n-g", **hyphened(aria_hidden="true")))
        parts += [
            html.A(
                [icon(page.icon, 18), html.Span(page.title), *beside.get(page.path, ())],
                href=prefix + page.path.lstrip("/"),
                className="n",
                **hyphened(data_nav="1", data_path=prefix + page.path.lstrip("/"), data_key=page.key),
            )
            for page in group.pages
        ]
    return html.Nav(parts, className="side", **hyphened(aria_label="Pages"))
