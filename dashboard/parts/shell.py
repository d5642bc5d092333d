"""The frame around every page: header with range, pools, freshness and theme; navigation; skip link.

Its controls carry no state of their own: ``assets/10-view.js`` reads the address, writes it, and paints them.
"""

from collections.abc import Sequence

from dash import dcc, html

from dashboard.page import Page
from dashboard.parts.icon import Node, hyphened, icon
from dashboard.view import RANGES

REFRESH = (("5", "5 s"), ("10", "10 s"), ("30", "30 s"), ("0", "Pause"))


def shell(pages: Sequence[Page], prefix: str) -> Node:
    """The whole document; ``prefix`` begins and ends with a slash."""
    return html.Div(
        [
            html.A("Skip to content", href="#main", className="skip"),
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="tick"),
            _header(prefix),
            html.Div([_navigation(pages, prefix), html.Main(id="main", tabIndex=-1)], className="cols"),
            html.Div(id="said", className="said", role="status", **hyphened(aria_live="polite")),
        ],
        className="shell",
    )


def _header(prefix: str) -> Node:
    mark = html.Span(className="mark", **hyphened(aria_hidden="true"))
    pools = html.Details(
        [
            html.Summary(
                [html.Span("All pools", id="pools-text"), icon("chevron-down", 14)],
                title="Pools shown",
            ),
            html.Div(html.Div(id="pools-list", role="group", **hyphened(aria_label="Pools")), className="menu"),
        ],
        className="pick",
        id="pools",
    )
    return html.Header(
        [
            html.A([mark, "Loadline"], href=prefix, className="brand", **hyphened(data_nav="1")),
            pools,
            html.Div(className="grow"),
            _range_bar(),
            _freshness(),
            _button("link", "share", "Copy link to this view"),
            _button("moon", "theme", "Switch between light and dark"),
        ],
        className="top",
    )


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
    return html.Div(
        [_button("chevron-left", "earlier", "Earlier"), group, fixed, _button("chevron-right", "later", "Later")],
        className="tr",
    )


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


def _navigation(pages: Sequence[Page], prefix: str) -> Node:
    links = [
        html.A(
            [icon(page.icon, 18), html.Span(page.title)],
            href=prefix + page.path.lstrip("/"),
            className="n",
            **hyphened(data_nav="1", data_path=prefix + page.path.lstrip("/"), data_key=page.key),
        )
        for page in pages
    ]
    return html.Nav(links, className="side", **hyphened(aria_label="Pages"))
