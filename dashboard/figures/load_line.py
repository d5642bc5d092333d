"""The hero: the load of one pool against its load line, its N+2 line and the forecast."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dashboard import quantity, theme
from dashboard.figures import chart
from dashboard.figures.chart import Axis, Clock, Figure, Mark
from dashboard.words import say
from planner.slo import Slo

if TYPE_CHECKING:
    from planner.room.headroom import Forecast, PoolHeadroom

LOAD = Axis(hover="%{y:.3~g} req/s")
FUTURE_SHARE = 0.4
"""The forecast takes at most this share of the history's length."""


def load_line(
    load: Sequence[float | None],
    headroom: "PoolHeadroom | None",
    clock: Clock,
    slo: Slo,
    *,
    height: int,
    marks: Sequence[Mark] = (),
) -> Figure:
    """``load`` in requests per second on the clock's grid; without ``headroom``, only that is drawn."""
    drawn = chart.layout(clock, LOAD, height=height, right=14)
    drawn["xaxis"]["nticks"] = 9
    traces = [chart.line(clock, say("load"), load, theme.BLUE, LOAD, width=2.2)]
    highest = [value for value in load if value is not None]
    if headroom is not None:
        line_at, n2_at = headroom.load_line_req_per_s, headroom.n2_line_req_per_s
        ahead = _ahead(headroom.forecast, clock) if headroom.forecast is not None else None
        if ahead is not None:
            traces += _forecast(ahead, clock)
            highest += ahead["high"]
            drawn["xaxis"]["range"][1] = clock.ms(ahead["times"][-1])
            _now(drawn, clock)
        if line_at is not None:
            top = max([*highest, line_at], default=1.0) * 1.22
            _line(drawn, line_at, top, words(headroom.bound_by, slo))
            highest.append(top / 1.08)
            if ahead is not None:
                _gap(drawn, clock, load, line_at)
            if ahead is not None and headroom.crosses_at_s is not None:
                traces += _crossing(headroom.crosses_at_s, line_at, clock, ahead["times"][-1])
        if n2_at is not None:
            chart.threshold(drawn, n2_at, theme.WARN, dash="5px 4px")
            text = say("N+2 line {rate}", rate=quantity.per_second(n2_at))
            drawn["annotations"].append(chart.label(0.004, n2_at, text, theme.WARN, xref="paper", yanchor="bottom"))
    chart.span_y(drawn, chart.top_of([highest]))
    chart.mark(drawn, clock, marks, words=True)
    return {"data": traces, "layout": drawn}


def words(bound_by: str, slo: Slo) -> str:
    """What happens at the load line."""
    limits = {"TTFT p95": slo.ttft_p95_s, "ITL p95": slo.itl_p95_s, "E2E p95": slo.e2e_p95_s}
    if bound_by in limits:
        return say("{slo} reaches {limit} here", slo=bound_by, limit=quantity.threshold_s(limits[bound_by]))
    full = {"KV cache": say("the KV cache is full here"), "Compute": say("compute is used up here")}
    return full.get(bound_by, bound_by)


def _ahead(forecast: "Forecast", clock: Clock) -> Mapping[str, list[float]] | None:
    until_s = clock.window.end_s + FUTURE_SHARE * clock.window.span_s
    rows = zip(forecast.times_s, forecast.median, forecast.low, forecast.high, strict=True)
    kept = [row for row in rows if clock.window.end_s <= row[0] <= until_s]
    if len(kept) < 2:
        return None
    times, median, low, high = (list(map(float, column)) for column in zip(*kept, strict=True))
    return {"times": times, "median": median, "low": low, "high": high}


def _forecast(ahead: Mapping[str, list[float]], clock: Clock) -> list[Figure]:
    x = [clock.ms(time_s) for time_s in ahead["times"]]
    edge = {"type": "scatter", "mode": "lines", "x": x, "line": {"width": 0}, "hoverinfo": "skip"}
    band = {"fill": "tonexty", "fillcolor": "rgba(47,111,222,.13)"}
    return [
        {**edge, "y": chart.rounded(ahead["high"])},
        {**edge, "y": chart.rounded(ahead["low"]), **band},
        {
            "type": "scatter", "mode": "lines", "name": say("forecast"), "x": x, "y": chart.rounded(ahead["median"]),
            "line": {"color": theme.BLUE, "width": 2, "dash": "3px 3px"},
            "hovertemplate": f"{LOAD.hover}<extra>%{{fullData.name}}</extra>",
        },
    ]  # fmt: skip


def _line(drawn: chart.Layout, line_at: float, top: float, what: str) -> None:
    drawn["shapes"].append(
        {
            "type": "rect",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": line_at,
            "y1": top * 2,
            "fillcolor": theme.BREACH,
            "opacity": 0.07,
            "line": {"width": 0},
            "layer": "below",
        }
    )
    chart.threshold(drawn, line_at, dash="", width=2)
    text = "<b>" + say("Load line {rate}", rate=quantity.per_second(line_at)) + "</b>  " + what
    drawn["annotations"].append(chart.label(0.004, line_at, text, theme.BREACH, xref="paper", yanchor="bottom"))


def _now(drawn: chart.Layout, clock: Clock) -> None:
    x = clock.ms(clock.window.end_s)
    drawn["shapes"].append(
        {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": theme.NOW, "width": 1}}
    )
    if clock.window.live:
        drawn["annotations"].append(
            chart.label(x, 0.02, say("now"), theme.INK, yref="paper", yanchor="bottom", xshift=4)
        )


def _gap(drawn: chart.Layout, clock: Clock, load: Sequence[float | None], line_at: float) -> None:
    current = next((value for value in reversed(load) if value is not None), None)
    if current is not None:
        x = clock.ms(clock.window.end_s)
        style = {"color": theme.INK, "width": 2}
        drawn["shapes"].append({"type": "line", "x0": x, "x1": x, "y0": current, "y1": line_at, "line": style})


def _crossing(crosses_at_s: float, line_at: float, clock: Clock, until_s: float) -> list[Figure]:
    if not clock.window.end_s <= crosses_at_s <= until_s:
        return []
    marker = {"size": 8, "color": theme.BREACH, "line": {"color": "#fff", "width": 1.5}}
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [clock.ms(crosses_at_s)],
            "y": [line_at],
            "marker": marker,
            "hoverinfo": "skip",
        }
    ]
