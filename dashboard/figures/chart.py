"""What all time charts share: axes, lines, thresholds, bands and event marks, as plain dicts.

Time is ``x0`` and ``dx`` in Unix milliseconds: Plotly writes numbers on a date axis in the browser's own time zone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np

from dashboard import theme
from dashboard.view import Window
from dashboard.words import say

Figure = dict[str, Any]
Layout = dict[str, Any]

CONFIG: Any = {
    "displayModeBar": False,
    "displaylogo": False,
    "responsive": True,
    "doubleClick": False,
    "showTips": False,
}
"""Options of every graph; a double click is answered by the page (back to the range before the zoom)."""


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a chart lies in time; ``since_s`` is when measurements began, where that may lie within."""

    window: Window
    since_s: float | None = None

    def ms(self, time_s: float) -> int:
        """A moment in the chart's coordinates."""
        return round(time_s * 1000)


SIGNIFICANT = 5
MOST_DIGITS = 300
"""After the point; a smaller number is nothing."""

ROOM_FOR_WORDS = 0.4
"""Share of the window that the words over an unmeasured stretch need."""

COLORS = {
    "alert": theme.BREACH, "target": theme.BREACH, "scale": theme.BLUE, "deploy": theme.EVENT, "restart": theme.WARN,
    "back": theme.OK, "resolved": theme.OK,
}  # fmt: skip
"""What happened, by the colour of its hairline: failures red, ends of failures green."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened: a hairline on every chart. ``kind`` is one of ``COLORS``."""

    time_s: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """How a chart's values are written: ``suffix`` on its ticks, ``hover`` format, ``ceiling`` of a ratio."""

    suffix: str = ""
    tick_format: str = ""
    hover: str = "%{y:.3~g}"
    ceiling: float | None = None


SECONDS = Axis(suffix=" s", hover="%{y:.3f} s")
MILLISECONDS = Axis(suffix=" ms", hover="%{y:.1f} ms")
PERCENT = Axis(tick_format=".0%", hover="%{y:.1%}", ceiling=1.05)
PLAIN = Axis()


def layout(clock: Clock, axis: Axis = PLAIN, *, height: int, left: int = 46, right: int = 10) -> Layout:
    """Axes and margins of a time chart ``height`` pixels high."""
    common = {"zeroline": False, "linecolor": theme.LINE, "tickfont": {"size": 11}, "automargin": False}
    y: dict[str, Any] = {
        **common, "gridcolor": theme.GRID, "rangemode": "tozero", "nticks": 5, "fixedrange": True,
        "ticksuffix": axis.suffix, "showline": True,
    }  # fmt: skip
    if axis.tick_format:
        y["tickformat"] = axis.tick_format
    if axis.ceiling is not None:
        y |= {"range": [0, axis.ceiling], "autorange": False}
    x: dict[str, Any] = {
        **common, "type": "date", "showgrid": False, "ticks": "outside", "ticklen": 3, "nticks": 5, "tickangle": 0,
        "tickformat": _tick_format(clock.window.span_s), "hoverformat": say("%d %b %H:%M:%S"), "showline": True,
        "range": [clock.ms(clock.window.start_s), clock.ms(clock.window.end_s)], "tickcolor": theme.LINE,
    }  # fmt: skip
    return {
        "height": height, "margin": {"l": left, "r": right, "t": 8, "b": 22},
        "font": {"family": theme.FONT_FAMILY, "size": 11, "color": theme.INK},
        "hoverlabel": {"font": {"family": theme.FONT_FAMILY, "size": 11}},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "showlegend": False,
        "hovermode": "x", "hoverdistance": 40, "dragmode": "zoom", "selectdirection": "h",
        "xaxis": x, "yaxis": y, "shapes": list(_unmeasured(clock)), "annotations": [],
    }  # fmt: skip


def _unmeasured(clock: Clock) -> Iterable[dict[str, Any]]:
    """A shade over the time before measurements began, so that it does not pass for idleness."""
    window = clock.window
    if clock.since_s is None or clock.since_s <= window.start_s + max(0.04 * window.span_s, 2 * window.step_s):
        return
    wide = clock.since_s - window.start_s > ROOM_FOR_WORDS * window.span_s
    words = {"text": say("not measured yet"), "font": {"size": 10, "color": theme.INK}} if wide else {}
    yield {
        "type": "rect", "x0": clock.ms(window.start_s), "x1": clock.ms(min(clock.since_s, window.end_s)),
        "yref": "paper", "y0": 0, "y1": 1, "fillcolor": theme.GRID, "opacity": 0.6, "line": {"width": 0},
        "layer": "below", "label": words,
    }  # fmt: skip


def _tick_format(span_s: int) -> str:
    if span_s <= 900:
        return "%H:%M"
    return "%H:%M" if span_s <= 36 * 3600 else say("%d %b")


def line(
    clock: Clock, name: str, values: Sequence[float | None], color: str, axis: Axis = PLAIN, **more: Any
) -> Figure:
    """One series as a scatter trace; ``width`` and ``dash`` style it, gaps stay gaps."""
    style = {"color": color, "width": more.pop("width", 1.6)}
    if dash := more.pop("dash", None):
        style["dash"] = dash
    return {
        "type": "scatter", "mode": "lines", "name": name, "x0": clock.ms(clock.window.start_s),
        "dx": clock.window.step_s * 1000, "y": rounded(values), "line": style,
        "hovertemplate": f"{axis.hover}<extra>%{{fullData.name}}</extra>", **more,
    }  # fmt: skip


def rounded(values: Iterable[float | None]) -> list[float | None]:
    """Values to five significant digits, which no screen exceeds and which halve the bytes; None where not finite."""
    found = np.array(list(values), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        magnitude = np.floor(np.log10(np.abs(found)))
        digits = np.where(found == 0, 0.0, np.minimum(SIGNIFICANT - 1 - magnitude, MOST_DIGITS))
        # powers of ten above one are exact, their reciprocals are not
        up, down = 10.0 ** np.maximum(digits, 0), 10.0 ** np.maximum(-digits, 0)
        row: list[float] = (np.rint(found * up / down) * down / up).tolist()
    return [*row] if np.isfinite(row).all() else [value if isfinite(value) else None for value in row]


def threshold(drawn: Layout, y: float, color: str = theme.BREACH, *, dash: str = "4px 3px", width: float = 1.4) -> None:
    """A line across the plot; its words belong in the panel's header, where they hide no data."""
    line_style = {"color": color, "width": width} | ({"dash": dash} if dash else {})
    drawn["shapes"].append(
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y, "line": line_style}
    )


def tint_above(drawn: Layout, y: float, color: str = theme.BREACH) -> None:
    """A faint tint over everything beyond a limit."""
    drawn["shapes"].append(
        {
            "type": "rect",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "yref": "y",
            "y0": y,
            "y1": 1e9,
            "fillcolor": color,
            "opacity": 0.07,
            "line": {"width": 0},
            "layer": "below",
        }
    )


def span_y(drawn: Layout, top: float) -> None:
    """Fix the value axis from zero to ``top``: shapes that reach beyond it do not stretch it."""
    drawn["yaxis"] |= {"range": [0, top], "autorange": False}


def mark(drawn: Layout, clock: Clock, marks: Sequence[Mark], *, words: bool = False) -> None:
    """Dotted hairlines where something happened within the window, which say what when pointed at; with ``words`` on
    the one chart that has room."""
    for one in marks:
        if not clock.window.start_s <= one.time_s <= clock.window.end_s:
            continue
        x, color = clock.ms(one.time_s), COLORS.get(one.kind, theme.EVENT)
        drawn["shapes"].append(
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": color, "width": 1, "dash": "1px 2px"},
            }
        )
        tip = {"hovertext": one.text, "captureevents": True, "bgcolor": "rgba(0,0,0,0)", "xanchor": "center"}
        drawn["annotations"].append(label(x, 1, "▾", color, yref="paper", yanchor="top", **tip))
        if words and one.kind == "deploy":
            drawn["annotations"].append(
                label(x, 1, one.text, theme.EVENT, yref="paper", yanchor="top", xshift=3, size=10)
            )


def label(x: float, y: float, text: str, color: str, **more: Any) -> dict[str, Any]:
    """Words beside a point of the plot, to its right."""
    size = more.pop("size", 11)
    return {
        "x": x, "y": y, "xanchor": "left", "showarrow": False, "text": text, "borderpad": 1, "bgcolor": "#fff",
        "font": {"size": size, "color": color}, **more,
    }  # fmt: skip


def top_of(rows: Iterable[Sequence[float | None]], *at_least: float, room: float = 1.08) -> float:
    """Where a value axis that begins at zero should end: above all values and the limits that must be seen; at one
    where all are zero."""
    values = [value for row in rows for value in row if value is not None]
    highest = max([*values, *at_least], default=0.0)
    return highest * room if highest > 0 else 1.0


def blank(clock: Clock, axis: Axis = PLAIN, *, height: int) -> Figure:
    """A chart without series: the axes stay, so that nothing moves when data come."""
    drawn = layout(Clock(clock.window), axis, height=height)
    span_y(drawn, axis.ceiling or 1)
    drawn["yaxis"]["showticklabels"] = False
    return {"data": [], "layout": drawn}
