"""Lines by pool, and the percentile fan of one pool."""

from collections.abc import Mapping, Sequence

from dashboard import theme
from dashboard.figures import chart
from dashboard.figures.chart import Axis, Clock, Figure, Mark
from dashboard.words import say

MAX_SERIES = 6
OTHER = say("other")

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
    return next((value for value in reversed(values) if value is not None), float("-inf"))


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
    if "p50" in percentiles and "p99" in percentiles:
        traces += _band(percentiles["p50"], percentiles["p99"], clock)
    for name in ("p50", "p99", "p95"):
        if name in percentiles:
            _, width, dash = FAN_STYLES[name]
            traces.append(chart.line(clock, name, percentiles[name], theme.BLUE, axis, width=width, dash=dash))
    if limit is not None:
        chart.tint_above(drawn, limit)
        chart.threshold(drawn, limit)
    chart.mark(drawn, clock, marks)
    return {"data": traces, "layout": drawn}


def _band(low: Sequence[float | None], high: Sequence[float | None], clock: Clock) -> list[Figure]:
    """The area between two rows, run by run: Plotly would fill across a gap."""
    traces: list[Figure] = []
    for begin, end in _runs(low, high):
        at = clock.ms(clock.window.start_s + begin * clock.window.step_s)
        edge = {
            "type": "scatter", "mode": "lines", "x0": at, "dx": clock.window.step_s * 1000, "line": {"width": 0},
            "hoverinfo": "skip",
        }  # fmt: skip
        fill = {"fill": "tonexty", "fillcolor": theme.BAND}
        traces += [{**edge, "y": chart.rounded(low[begin:end])}, {**edge, "y": chart.rounded(high[begin:end]), **fill}]
    return traces


def _runs(low: Sequence[float | None], high: Sequence[float | None]) -> list[tuple[int, int]]:
    """Stretches of at least two steps in which both rows have values."""
    known = [a is not None and b is not None for a, b in zip(low, high, strict=True)]
    borders = [
        step for step in range(len(known) + 1) if (step < len(known) and known[step]) != (step > 0 and known[step - 1])
    ]
    return [(begin, end) for begin, end in zip(borders[::2], borders[1::2], strict=True) if end - begin > 1]


def scaled(rows: Rows, factor: float) -> dict[str, list[float | None]]:
    """Rows in another unit."""
    return {name: [None if value is None else value * factor for value in row] for name, row in rows.items()}
