"""The verdict as a band across the page, the same height whatever it says."""

from collections.abc import Sequence

from dash import html

from dashboard.parts.icon import Node, hyphened, icon
from dashboard.parts.state import ICONS
from dashboard.verdict import Verdict


def band(verdict: Verdict, actions: Sequence[tuple[str, str]] = ()) -> Node:
    """``actions`` are (text, address) pairs, the last one the main one."""
    links = [
        html.A(text, href=href, className="btn btn-p" if index == len(actions) - 1 else "btn", **hyphened(data_nav="1"))
        for index, (text, href) in enumerate(actions)
    ]
    return html.Div(
        [
            html.Div(icon(ICONS[verdict.state], 22), className="v-i"),
            html.Div(
                [
                    html.Div([html.B(verdict.lead), verdict.rest], className="v-1"),
                    html.Div([_piece(text, style) for text, style in verdict.detail], className="v-2"),
                ],
                className="v-t",
            ),
            html.Div(links, className="v-a") if links else None,
        ],
        className=f"verdict v-{verdict.state}",
        role="status",
    )


def _piece(text: str, style: str) -> Node:
    return {"b": html.B, "code": html.Code}[style](text) if style else text
