"""A histogram over time: which latencies requests had, as a heat map of its buckets."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dashboard import quantity
from dashboard.figures import chart
from dashboard.figures.chart import Clock, Figure, Mark
from dashboard.words import say

MAX_ROWS = 24
NEGLIGIBLE = 1e-5
"""Rows at the ends that never hold more than this share of the busiest cell are rounding, not requests."""
SCALE = [
    [0, "rgba(47,111,222,0)"],
    [0.02, "rgba(47,111,222,.14)"],
    [0.3, "rgba(47,111,222,.5)"],
    [1, "rgba(47,111,222,1)"],
]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Observations per second that fell into each bucket: ``bounds_s`` ascending (the last may be infinite),
    ``rates`` one row of steps per bound."""

    bounds_s: tuple[float, ...]
    rates: tuple[tuple[float | None, ...], ...]


def apart(cumulative: Mapping[float, Sequence[float | None]]) -> Buckets:
    """Cumulative buckets by upper bound as separate ones; the empty ones at both ends are dropped."""
    bounds = sorted(cumulative)
    rates: list[tuple[float | None, ...]] = []
    below: Sequence[float | None] | None = None
    for bound in bounds:
        row = cumulative[bound]
        rates.append(
            tuple(row) if below is None else tuple(_minus(high, low) for high, low in zip(row, below, strict=True))
        )
        below = row
    busiest = [max((value for value in row if value is not None), default=0.0) for row in rates]
    used = [index for index, value in enumerate(busiest) if value > NEGLIGIBLE * max(busiest)]
    if not used:
        return Buckets((), ())
    kept = slice(used[0], used[-1] + 1)
    return merged(Buckets(tuple(bounds[kept]), tuple(rates[kept])))


def _minus(high: float | None, low: float | None) -> float | None:
    return None if high is None or low is None else max(0.0, high - low)


def merged(buckets: Buckets) -> Buckets:
    """Neighbouring buckets taken together until at most 24 rows are left."""
    size = -(-len(buckets.bounds_s) // MAX_ROWS)
    if size <= 1:
        return buckets
    starts = range(0, len(buckets.bounds_s), size)
    bounds = tuple(buckets.bounds_s[min(start + size, len(buckets.bounds_s)) - 1] for start in starts)
    rates = tuple(
        tuple(_sum(step) for step in zip(*buckets.rates[start : start + size], strict=True)) for start in starts
    )
    return Buckets(bounds, rates)


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def place(bounds_s: Sequence[float], value_s: float) -> float | None:
    """Height of ``value_s`` where bucket ``i`` covers ``i`` to ``i + 1``; None beyond the last finite bound."""
    low = 0.0
    for index, high in enumerate(bounds_s):
        if value_s <= high:
            return index + (value_s - low) / (high - low) if math.isfinite(high) else None
        low = high
    return None


def heat(buckets: Buckets, clock: Clock, *, height: int, limit: float | None, marks: Sequence[Mark] = ()) -> Figure:
    """Requests per second by bucket and step; the threshold is drawn across at its place between the bounds."""
    drawn = chart.layout(clock, height=height, left=58)
    rows = len(buckets.bounds_s)
    every = max(1, -(-rows // 8))
    ticks = [index + 1 for index in range(rows) if (rows - 1 - index) % every == 0]
    drawn["yaxis"] |= {
        "range": [0, rows], "autorange": False, "showgrid": False, "tickmode": "array", "tickvals": ticks,
        "ticktext": [_bound(buckets.bounds_s[index - 1]) for index in ticks],
    }  # fmt: skip
    trace = {
        "type": "heatmap", "x0": clock.ms(clock.window.start_s), "dx": clock.window.step_s * 1000, "y0": 0.5, "dy": 1,
        "z": [chart.rounded(row) for row in buckets.rates], "colorscale": SCALE, "showscale": False, "zmin": 0,
        "hoverongaps": False, "ygap": 1,
        "meta": [f"≤ {_bound(bound)}" if math.isfinite(bound) else say("more") for bound in buckets.bounds_s],
        "hovertemplate": "%{z:.3~g} req/s<extra></extra>",
    }  # fmt: skip
    if limit is not None and (height_of := place(buckets.bounds_s, limit)) is not None:
        chart.threshold(drawn, height_of)
    chart.mark(drawn, clock, marks)
    return {"data": [trace], "layout": drawn}


def _bound(bound_s: float) -> str:
    return quantity.threshold_s(bound_s) if math.isfinite(bound_s) else say("more")
