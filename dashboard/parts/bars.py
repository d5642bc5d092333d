"""Headroom by pool: a bullet bar each, with the line, the N+2 line and the constraint that binds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dash import html

from dashboard import quantity
from dashboard.judge import State
from dashboard.parts.icon import Node, hyphened
from dashboard.view import View
from dashboard.words import joined, said_reason, say

if TYPE_CHECKING:
    from planner.room.headroom import PoolHeadroom

ROOM = 1.15
"""A bar is this much longer than the load line is far."""
FEW = 4
LEAST_FOR_N2 = 3
AT_RISK = 0.2
"""Headroom below which a pool is at risk, as the rule HeadroomBelowAFifth has it."""


def state_of(pool: "PoolHeadroom") -> State:
    """Breach beyond the load line, at risk beyond the N+2 line or with less left than is warned of."""
    if pool.headroom_ratio is None:
        return "none"
    if pool.headroom_ratio < 0:
        return "breach"
    beyond = pool.n2_line_req_per_s is not None and pool.load_req_per_s > pool.n2_line_req_per_s
    return "warn" if beyond or pool.headroom_ratio < AT_RISK else "ok"


def by_risk(pools: Sequence["PoolHeadroom"]) -> list["PoolHeadroom"]:
    """Least headroom first; those without a line last."""
    return sorted(pools, key=lambda pool: (pool.headroom_ratio is None, pool.headroom_ratio or 0.0, pool.pool))


def bars(pools: Sequence["PoolHeadroom"], view: View, prefix: str) -> Node:
    """The list, by risk."""
    keys = [html.Em("load"), html.Em("N+2", className="k2"), html.Em("load line", className="kc")]
    head = html.Div(
        [html.Span("pool"), html.Span(keys, className="b-k"), html.Span("left"), html.Span("bound by")],
        className="b-r b-hd",
        **hyphened(aria_hidden="true"),
    )
    rows = [_row(pool, f"{prefix}latency{view.search(pool=pool.pool)}") for pool in by_risk(pools)]
    small = [pool for pool in pools if pool.replicas < LEAST_FOR_N2]
    foot = html.Div(_foot(small, len(pools)), className="b-foot") if small else None
    return html.Div([head, *rows, foot], className="bl bl-few" if len(pools) < FEW else "bl")


def _row(pool: "PoolHeadroom", href: str) -> Node:
    name = html.Span(pool.pool, className="b-n", title=pool.pool)
    line = pool.load_line_req_per_s
    if line is None or pool.headroom_ratio is None:
        why = said_reason(pool.reason or "no load line")
        return html.A(
            [name, html.Span(why, className="b-x", title=why)], href=href, className="b-r", **hyphened(data_nav="1")
        )
    n2 = pool.n2_line_req_per_s
    filled = html.Span(className="b-f", style={"width": f"{pool.load_req_per_s / line * 100 / ROOM:.1f}%"})
    marks = [html.Span(className="b-c", style={"left": f"{100 / ROOM:.1f}%"})]
    if n2 is not None:
        marks.append(html.Span(className="b-2", style={"left": f"{n2 / line * 100 / ROOM:.1f}%"}))
    left = quantity.percent(pool.headroom_ratio)
    spoken = say(
        "{pool}: {left} headroom, {load} of {line} requests per second, bound by {constraint}",
        pool=pool.pool, left=left, load=quantity.count(pool.load_req_per_s), line=quantity.count(line),
        constraint=pool.bound_by,
    )  # fmt: skip
    if pool.model_error_ratio is not None:
        spoken += say("; model error {share}", share=quantity.percent(pool.model_error_ratio))
    return html.A(
        [
            name,
            html.Span([filled, *marks], className=f"b-t b-{state_of(pool)}", **hyphened(aria_hidden="true")),
            html.Span([left, html.Span(" headroom, bound by", className="vh")], className="b-h"),
            html.Span(pool.bound_by, className="b-w"),
        ],
        href=href,
        className="b-r",
        title=spoken,
        **hyphened(data_nav="1"),
    )


def _foot(small: Sequence["PoolHeadroom"], total: int) -> str:
    if len(small) == total:
        return say("N+2 (two replicas gone) needs at least {n} replicas.", n=LEAST_FOR_N2)
    names = joined([pool.pool for pool in small])
    return say("N+2 (two replicas gone) needs at least {n} replicas: none for {pools}.", n=LEAST_FOR_N2, pools=names)
