"""Charts whose horizontal axis is no time: a quantity against load, bills against volume, bars of swings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Any

from dashboard import theme
from dashboard.figures import chart
from dashboard.figures.chart import Axis, Figure, Layout
from dashboard.words import say


@dataclass(frozen=True, slots=True)
class Cross:
    """A line up the chart at ``x``, with its words."""

    x: float
    text: str
    color: str
    dash: str = ""


def layout(axis: Axis, *, height: int, x_title: str, log: bool = False, left: int = 56) -> Layout:
    """Axes in the manner of the time charts; neither can be dragged, since neither is time."""
    common = {"zeroline": False, "linecolor": theme.LINE, "tickfont": {"size": 11}, "automargin": False}
    kind = {"type": "log"} if log else {}
    title = {"text": x_title, "font": {"size": 11, "color": theme.INK}, "standoff": 4}
    return {
        "height": height, "margin": {"l": left, "r": 14, "t": 8, "b": 38}, "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "hovermode": "closest",
        "font": {"family": theme.FONT_FAMILY, "size": 12}, "dragmode": False, "shapes": [], "annotations": [],
        "xaxis": {
            **common, **kind, "showgrid": False, "ticks": "outside", "ticklen": 3, "nticks": 7, "tickangle": 0,
            "fixedrange": True, "showline": True, "tickcolor": theme.LINE, "title": title,
        },
        "yaxis": {
            **common, **kind, "gridcolor": theme.GRID, "rangemode": "tozero", "nticks": 6, "fixedrange": True,
            "ticksuffix": axis.suffix, "showline": True,
        },
    }  # fmt: skip


def against_load(
    loads: Sequence[float],
    middle: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    axis: Axis,
    height: int,
    limit: float,
    crosses: Sequence[Cross],
) -> Figure:
    """A latency against load with its band, the limit across and lines of load up the chart."""
    drawn = layout(axis, height=height, x_title=say("requests per second"))
    top = min(max([*high, limit], default=limit) * 1.1, limit * 2.5)
    chart.span_y(drawn, top)
    right = max([*loads, *(cross.x for cross in crosses)], default=1.0) * 1.04
    drawn["xaxis"]["range"] = [0, right]
    chart.tint_above(drawn, limit)
    chart.threshold(drawn, limit)
    for number, cross in enumerate(crosses):
        up(drawn, cross, level=number, right=right)
    edge = {"type": "scatter", "mode": "lines", "x": list(loads), "line": {"width": 0}, "hoverinfo": "skip"}
    return {
        "data": [
            {**edge, "y": chart.rounded(high)},
            {**edge, "y": chart.rounded(low), "fill": "tonexty", "fillcolor": theme.BAND},
            {
                "type": "scatter", "mode": "lines+markers", "name": "p95", "x": list(loads), "y": chart.rounded(middle),
                "line": {"color": theme.BLUE, "width": 2.4}, "marker": {"size": 5, "color": theme.BLUE},
                "hovertemplate": f"%{{x:.3~g}} req/s: {axis.hover}<extra></extra>",
            },
        ],
        "layout": drawn,
    }  # fmt: skip


def up(drawn: Layout, cross: Cross, *, level: int = 0, right: float | None = None) -> None:
    """Draw ``cross``; its words stand ``level`` rows from the top, on the side that has room."""
    line: dict[str, Any] = {"color": cross.color, "width": 1.6} | ({"dash": cross.dash} if cross.dash else {})
    drawn["shapes"].append(
        {"type": "line", "x0": cross.x, "x1": cross.x, "yref": "paper", "y0": 0, "y1": 1, "line": line}
    )
    side = "right" if right is not None and cross.x > 0.6 * right else "left"
    shift = -4 if side == "right" else 4
    place = {"yref": "paper", "yanchor": "top", "yshift": -15 * level, "xshift": shift, "xanchor": side}
    drawn["annotations"].append(chart.label(cross.x, 1, cross.text, cross.color, **place))


def bills(
    volumes: Sequence[float], rows: Mapping[str, Sequence[float]], *, height: int, crosses: Sequence[Cross]
) -> Figure:
    """Monthly bills of several plans against daily tokens, both on log axes."""
    axis = Axis(hover="$%{y:,.0f}")
    drawn = layout(axis, height=height, x_title=say("tokens per day"), log=True)
    drawn["yaxis"] |= {"tickprefix": "$", "tickformat": "~s", "rangemode": "normal"}
    drawn["xaxis"] |= {"tickformat": "~s", "dtick": 1}
    drawn["yaxis"]["dtick"] = 1
    for number, cross in enumerate(crosses):
        up(drawn, cross, level=number)
        drawn["annotations"][-1]["x"] = log10(cross.x)
    return {
        "data": [
            {
                "type": "scatter", "mode": "lines", "name": say("{plan}", plan=name),
                "x": list(volumes), "y": chart.rounded(values),
                "line": {"color": theme.SERIES[index % len(theme.SERIES)], "width": 2},
                "hovertemplate": f"{axis.hover}<extra>%{{fullData.name}}</extra>",
            }
            for index, (name, values) in enumerate(rows.items())
        ],
        "layout": drawn,
    }  # fmt: skip


def tornado(rows: Sequence[tuple[str, float, float]], middle: float, *, height: int) -> Figure:
    """(what, low, high) as bars of tokens per day around ``middle``, widest on top."""
    drawn = layout(chart.PLAIN, height=height, x_title=say("tokens per day"), left=60)
    drawn["xaxis"] |= {"tickformat": "~s", "nticks": 5}
    drawn["yaxis"] |= {"autorange": "reversed", "rangemode": "normal", "type": "category", "automargin": True}
    drawn["bargap"] = 0.4
    up(drawn, Cross(middle, "", theme.INK))
    names = [what for what, _, _ in rows]
    return {
        "data": [
            {
                "type": "bar", "orientation": "h", "y": names, "x": [max(a, b) - min(a, b) for _, a, b in rows],
                "base": [min(a, b) for _, a, b in rows], "marker": {"color": theme.BLUE},
                "customdata": [[low, high] for _, low, high in rows],
                "hovertemplate": say("{low} to {high}", low="%{customdata[0]:.3s}", high="%{customdata[1]:.3s}")
                + "<extra></extra>",
            }
        ],
        "layout": drawn,
    }  # fmt: skip


def empty(*, height: int) -> Figure:
    """Axes without anything."""
    drawn = layout(chart.PLAIN, height=height, x_title="")
    for axis in ("xaxis", "yaxis"):
        drawn[axis] |= {"showticklabels": False, "range": [0, 1], "autorange": False}
    return {"data": [], "layout": drawn}
