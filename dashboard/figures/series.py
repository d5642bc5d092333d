"""Lines by pool, and the percentile fan of one pool."""

from collections.abc import Mapping, Sequence

from dashboard import theme
from dashboard.figures import chart
from dashboard.figures.chart import Axis, Clock, Figure, Mark

MAX_SERIES = 6
OTHER = "other"

Rows = Mapping[str, Sequence[float | None]]


def colors(names: Sequence[str]) -> dict[str, str]:
    """Colour of each pool by its place among all pools, so that a pool keeps it on every panel."""
    return {name: theme.SERIES[index] if index < MAX_SERIES else theme.OTHER for index, name in enumerate(names)} | {
        OTHER: theme.OTHER
    }


def top(rows: Rows) -> dict[str, list[float | None]]:
    """At most six rows: all, or the five that end highest and the sum of the rest as ``other``."""
    if len(rows) <= MAX_SERIES:
        return {name: list(values) for name, values in rows.items()}
    ranked = sorted(rows, key=lambda name: -_weight(rows[name]))
    kept = ranked[: MAX_SERIES - 1]
    rest = [rows[name] for name in ranked[MAX_SERIES - 1 :]]
    other = [_total(values) for values in zip(*rest, strict=True)]
    return {name: list(rows[name]) for name in rows if name in kept} | {OTHER: other}


def highest(rows: Rows) -> dict[str, list[float | None]]:
    """At most six rows, those that end highest: for quantiles, whose sum or mean means nothing."""
    kept = sorted(rows, key=lambda name: -_weight(rows[name]))[:MAX_SERIES]
    return {name: list(rows[name]) for name in rows if name in kept}


def _weight(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return known[-1] if known else float("-inf")


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def lines(
    rows: Rows,
    clock: Clock,
    palette: Mapping[str, str],
    axis: Axis = chart.PLAIN,
    *,
    height: int,
    limit: float | None = None,
    limit_color: str = theme.BREACH,
    tint: bool = False,
    marks: Sequence[Mark] = (),
    floor_top: float = 0.0,
) -> Figure:
    """One line per pool, the first heavier; ``limit`` is drawn across, ``floor_top`` is the least top of the axis."""
    drawn = chart.layout(clock, axis, height=height)
    if axis.ceiling is None:
        chart.span_y(drawn, chart.top_of(rows.values(), floor_top))
    if limit is not None:
        if tint:
            chart.tint_above(drawn, limit)
        chart.threshold(drawn, limit, limit_color)
    chart.mark(drawn, clock, marks)
    traces = [
        chart.line(clock, name, values, palette.get(name, theme.OTHER), axis, width=2 if index == 0 else 1.4)
        for index, (name, values) in enumerate(rows.items())
    ]
    return {"data": traces, "layout": drawn}


FAN_STYLES = {"p50": ("1px solid", 1.2, None), "p95": ("3px solid", 2.6, None), "p99": ("2px dotted", 1.2, "1.5px 2px")}


def fan(
    percentiles: Rows, clock: Clock, axis: Axis, *, height: int, limit: float | None, marks: Sequence[Mark] = ()
) -> Figure:
    """p50, p95 and p99 of one pool in one hue: p50 thin, p95 heavy, p99 dotted, a band from p50 to p99."""
    drawn = chart.layout(clock, axis, height=height)
    values = percentiles.values()
    chart.span_y(drawn, chart.top_of(values, limit or 0, room=1.15))
    traces: list[Figure] = []
    for name in ("p50", "p99", "p95"):
        if name in percentiles:
            _, width, dash = FAN_STYLES[name]
            fill = {"fill": "tonexty", "fillcolor": theme.BAND} if name == "p99" and traces else {}
            traces.append(chart.line(clock, name, percentiles[name], theme.BLUE, axis, width=width, dash=dash, **fill))
    if limit is not None:
        chart.tint_above(drawn, limit)
        chart.threshold(drawn, limit)
    chart.mark(drawn, clock, marks)
    return {"data": traces, "layout": drawn}


def scaled(rows: Rows, factor: float) -> dict[str, list[float | None]]:
    """Rows in another unit."""
    return {name: [None if value is None else value * factor for value in row] for name, row in rows.items()}
