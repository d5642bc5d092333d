"""An SLO as a tile: value, state, sparkline with the limit, what is left of the budget."""

from base64 import b64encode
from collections.abc import Sequence

from dash import html

from dashboard import quantity
from dashboard.judge import Promise
from dashboard.parts.icon import Node, hyphened
from dashboard.parts.state import tag
from dashboard.words import say

WIDTH, HEIGHT = 120, 30
MAX_POINTS = 80

BOUND = (
    "a bound: histograms do not say which requests missed, so the misses may all fall on different ones, or on the same"
)


def tile(promise: Promise, href: str, period: str, *, several: bool) -> Node:
    """``period`` is the stretch of time of the budget; with ``several`` pools, the tile names the one it shows."""
    number, unit = _value(promise)
    label = [promise.title] + ([html.Span(promise.pool, className="t-p")] if several and promise.pool else [])
    left = (
        say("budget {share} left", share=quantity.percent(promise.budget_left))
        if promise.budget_left is not None and promise.budget_left >= 0
        else say("budget spent {times}×", times=quantity.significant(1 - promise.budget_left))
        if promise.budget_left is not None
        else ""
    )
    if promise.key == "goodput":
        left = "meet every SLO"
    if promise.value is None:
        left = ""
    word = None if promise.value is not None or not promise.values else "Idle"
    bound = [html.Span(promise.bound, className="t-ge")] if promise.bound else []
    return html.A(
        [
            html.Div(
                [html.Span(label, className="t-l"), tag(promise.state if promise.value is not None else "none", word)],
                className="t-h",
            ),
            html.Div([*bound, html.Span(number, className="t-v"), html.Span(unit, className="t-u")], className="t-b"),
            spark(promise.values, promise.limit),
            html.Div([html.Span(_limit(promise)), html.Span(left)], className="t-f"),
        ],
        href=href,
        className=f"tile tile-{promise.state}",
        title=promise.why or (BOUND if promise.bound else say("error budget over {span}", span=period)),
        **hyphened(data_nav="1"),
    )


def _value(promise: Promise) -> tuple[str, str]:
    return quantity.share_parts(promise.value) if promise.is_share else quantity.duration_parts(promise.value)


def _limit(promise: Promise) -> str:
    if promise.key == "goodput":
        return say("target {limit}", limit=quantity.threshold(promise.limit))
    return f"SLO {quantity.threshold(promise.limit) if promise.is_share else quantity.threshold_s(promise.limit)}"


def spark(values: Sequence[float | None], limit: float) -> Node:
    """A sparkline as a mask over the brand colour, and the limit as a dashed line; gaps stay gaps."""
    known = [value for value in values if value is not None]
    if not known:
        return html.Div(className="spkw", **hyphened(aria_hidden="true"))
    low, high = _scale(known, limit)
    paths = " ".join(_path(run, len(values), low, high) for run in _runs(_thinned(values)))
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">'
        f'<path d="{paths}" fill="none" stroke="black" stroke-width="1.6" stroke-linejoin="round" '
        'vector-effect="non-scaling-stroke"/></svg>'
    )
    mask = f"url(data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"
    line = html.Span(className="spk-slo", style={"bottom": f"{(limit - low) / (high - low) * 100:.1f}%"})
    return html.Div(
        [html.Span(className="spk", style={"--ic": mask}), line], className="spkw", **hyphened(aria_hidden="true")
    )


def _scale(known: Sequence[float], limit: float) -> tuple[float, float]:
    """From zero, unless all values lie in the upper half, as shares do."""
    top, bottom = max(*known, limit), min(*known, limit)
    if bottom > 0.5 * top:
        room = (top - bottom) * 0.15 or 1e-6
        return bottom - room, top + room
    return 0.0, top * 1.08 or 1.0


def _thinned(values: Sequence[float | None]) -> list[tuple[int, float | None]]:
    every = max(1, len(values) // MAX_POINTS)
    return [(at, value) for at, value in enumerate(values) if at % every == 0 or at == len(values) - 1]


def _runs(points: Sequence[tuple[int, float | None]]) -> list[list[tuple[int, float]]]:
    runs: list[list[tuple[int, float]]] = [[]]
    for at, value in points:
        if value is None:
            runs.append([])
        else:
            runs[-1].append((at, value))
    return [run for run in runs if run]


def _path(run: Sequence[tuple[int, float]], count: int, low: float, high: float) -> str:
    def x(at: int) -> float:
        return at / max(count - 1, 1) * WIDTH

    def y(value: float) -> float:
        return HEIGHT - 1 - (value - low) / (high - low) * (HEIGHT - 2)

    first, *rest = [f"{x(at):.1f} {y(value):.1f}" for at, value in run]
    return f"M{first}" + ("".join(f"L{point}" for point in rest) if rest else "h1")
