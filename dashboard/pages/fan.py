"""The percentile fan of the pool that stands worst, as both pages draw it."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from dashboard import judge, quantity, queries, theme
from dashboard.figures import chart, series
from dashboard.figures.chart import Axis, Mark
from dashboard.figures.points import exemplars
from dashboard.parts.panel import Drawn, Panel, chip, empty, legend, stale, texts
from dashboard.refresh import Refresh
from dashboard.served import Served
from dashboard.source import Answer

SWATCHES = {
    name: {"borderTop": f"{border} {theme.BLUE}", "background": "none", "height": "0"}
    for name, (border, _, _) in series.FAN_STYLES.items()
}


def scale(top_s: float) -> tuple[float, Axis]:
    """Factor and axis for latencies up to ``top_s``: milliseconds below a second."""
    return (1e3, chart.MILLISECONDS) if top_s < 1 else (1.0, chart.SECONDS)


def draw_fan(
    panel: Panel,
    answers: Mapping[str, Answer],
    begun: Refresh,
    limit_s: float | None,
    marks: Sequence[Mark],
    *,
    name_pool: bool,
    pool: str | None = None,
    write: quantity.Formatter | None = None,
    requests: Sequence[Served] = (),
) -> Drawn:
    """``answers`` by p50, p95 and p99; of ``pool``, or of the one whose p95 is worst. With ``write``, the values are no
    latencies, and this writes them. ``requests`` are drawn as points that lead to their traces."""
    by_quantile = {name: queries.by_pool(answer, begun.view) for name, answer in answers.items()}
    asked = list(answers.values())
    shown = pool if pool is not None else judge.worst(by_quantile["p95"], highest=True)
    rows = {name: row[shown] for name, row in by_quantile.items() if shown is not None and shown in row}
    known = [value for row in rows.values() for value in row if value is not None]
    sub: list[Any] = [html.Span(shown, className="chip-pool")] if name_pool and shown else []
    if limit_s is not None:
        sub.append(chip(f"SLO p95 {quantity.threshold_s(limit_s)}", "bad"))
    if not known:
        why = judge.why_empty(answers["p95"], by_quantile["p95"], begun.view)
        return empty(panel, begun.clock, asked, why, sub)
    factor, axis = (1.0, chart.PLAIN) if write is not None else scale(max(*known, limit_s or 0.0))
    figure = series.fan(
        series.scaled(rows, factor), begun.clock, axis, height=panel.height,
        limit=None if limit_s is None else limit_s * factor, marks=marks,
    )  # fmt: skip
    figure["data"] += [exemplars(requests, begun.clock, axis, factor)] if requests else []
    if write is None:
        figure["layout"]["meta"] = {"pool": shown}
    return Drawn(
        figure, sub, legend(rows, SWATCHES, write or quantity.duration), stale(asked, begun.now_s), texts(asked)
    )
