"""Where a request's time goes: queue, prefill, decode and what none of them explains, stacked."""

from collections.abc import Mapping, Sequence

from dashboard import theme
from dashboard.figures import chart
from dashboard.figures.chart import SECONDS, Axis, Clock, Figure, Mark
from dashboard.words import say

OTHER = say("other")
PHASES = (say("queue"), say("prefill"), say("decode"), OTHER)


def residual(whole: Sequence[float | None], parts: Sequence[Sequence[float | None]]) -> list[float | None]:
    """What of ``whole`` no part explains by step; zero where parts that overlap exceed it, None where any lacks."""
    rest: list[float | None] = []
    for total, *known in zip(whole, *parts, strict=True):
        values = [value for value in known if value is not None]
        rest.append(None if total is None or len(values) < len(known) else max(0.0, total - sum(values)))
    return rest


def phases(
    rows: Mapping[str, Sequence[float | None]], clock: Clock, *, height: int, marks: Sequence[Mark] = ()
) -> Figure:
    """Mean seconds per request by phase, stacked; ``rows`` by name of PHASES, those that are known."""
    present: Mapping[str, Sequence[float | None]] = {name: rows[name] for name in PHASES if name in rows}
    return stacked(present, theme.PHASES, clock, SECONDS, height=height, marks=marks)


def stacked(
    rows: Mapping[str, Sequence[float | None]],
    palette: Mapping[str, str],
    clock: Clock,
    axis: Axis,
    *,
    height: int,
    marks: Sequence[Mark] = (),
) -> Figure:
    """``rows`` upon each other, the first lowest.

    Plotly stacks a gap as zero, so the traces leave out the steps at both ends at which nothing is known.
    """
    drawn = chart.layout(clock, axis, height=height)
    steps = list(zip(*rows.values(), strict=True))
    known = [at for at, step in enumerate(steps) if any(value is not None for value in step)] or [0]
    cut = slice(known[0], known[-1] + 1)
    begin_ms = clock.ms(clock.window.start_s + cut.start * clock.window.step_s)
    totals = [sum(value or 0.0 for value in step) for step in steps]
    chart.span_y(drawn, chart.top_of([totals]))
    traces = [
        chart.line(
            clock, name, values[cut], palette.get(name, theme.OTHER), axis, width=0.8, stackgroup="parts",
            fillcolor=palette.get(name, theme.OTHER) + "99", x0=begin_ms,
        )
        for name, values in rows.items()
    ]  # fmt: skip
    chart.mark(drawn, clock, marks)
    return {"data": traces, "layout": drawn}
