"""Requests as points over time: each leads to its trace."""

from collections.abc import Sequence

from dashboard import theme
from dashboard.figures import chart
from dashboard.figures.chart import Axis, Clock, Figure, Mark
from dashboard.served import Served
from dashboard.words import say

SIZE = 6


def points(
    rows: Sequence[Served], clock: Clock, axis: Axis, *, height: int, factor: float, limit: float | None,
    opened: str = "", marks: Sequence[Mark] = (),
) -> Figure:  # fmt: skip
    """Time to first token over time of arrival; ``factor`` turns seconds into the axis's unit. Failed and preempted
    requests have a shape of their own."""
    drawn = chart.layout(clock, axis, height=height)
    chart.span_y(drawn, chart.top_of([[one.wait_s * factor for one in rows]], limit or 0.0, room=1.12))
    if limit is not None:
        chart.tint_above(drawn, limit)
        chart.threshold(drawn, limit)
    chart.mark(drawn, clock, marks)
    kinds = (
        (say("served"), theme.BLUE, "circle", lambda one: not one.failed and not one.preemptions),
        (say("preempted"), theme.WARN, "diamond", lambda one: bool(one.preemptions) and not one.failed),
        (say("failed"), theme.BREACH, "x", lambda one: one.failed),
    )  # fmt: skip
    traces = [
        _trace(name, [one for one in rows if fits(one)], color, symbol, clock, axis, factor)
        for name, color, symbol, fits in kinds
    ]
    chosen = [one for one in rows if one.trace_id == opened]
    if chosen:
        ring = _trace(say("opened"), chosen, "rgba(0,0,0,0)", "circle", clock, axis, factor)
        ring["marker"] |= {"size": 13, "line": {"color": theme.INK, "width": 2}}
        traces.append(ring)
    return {"data": [one for one in traces if one["x"]], "layout": drawn}


def exemplars(rows: Sequence[Served], clock: Clock, axis: Axis, factor: float) -> Figure:
    """Points upon a latency chart, hollow, so that they are not taken for a series."""
    trace = _trace(say("a request"), rows, "rgba(0,0,0,0)", "diamond", clock, axis, factor)
    trace["marker"] |= {"line": {"color": theme.SERIES[1], "width": 1.4}}
    return trace


def _trace(
    name: str, rows: Sequence[Served], color: str, symbol: str, clock: Clock, axis: Axis, factor: float
) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": [clock.ms(one.at_s) for one in rows],
        "y": chart.rounded(one.wait_s * factor for one in rows), "customdata": [one.trace_id for one in rows],
        "marker": {"size": SIZE, "color": color, "symbol": symbol, "opacity": 0.85},
        "hovertemplate": f"{axis.hover}<extra>" + say("{name}, click for its trace", name=name) + "</extra>",
    }  # fmt: skip
