"""A forecast of weeks, as a report."""

from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt

from planner.report import Cell, Chart, Mark, Report, Series, Table, shown
from planner.room.history import HOUR_S
from planner.room.season import COVERAGE, DAY, PEAK_CONFIDENCE, WEEK, SeasonForecast
from planner.sim.simulate import versions


def season_report(
    found: SeasonForecast, source: str, now_s: float, history: npt.NDArray[np.float64], line: float | None
) -> Report:
    """The coming weeks' load, its peak, and when it crosses ``line``."""
    findings = [
        f"the peak of the next {len(found.median) / WEEK:.0f} weeks stays under {shown(found.peak)} requests/s with "
        f"{PEAK_CONFIDENCE:.0%} confidence (median {shown(found.peak_median)}); "
        f"growth {found.growth_per_week:+.1%} a week"
    ]
    earliest, median, latest = found.crossing(line) if line is not None else (None, None, None)
    if line is not None:
        findings.append(_crossing(line, now_s, earliest, median, latest))
    covered = "not measured: too short a history" if found.coverage is None else f"{found.coverage:.1%}"
    peaks = "not measured" if found.peak_coverage is None else f"{found.peak_coverage:.1%}"
    notes = (
        f"the band is meant to hold {COVERAGE:.0%} of the hours; made of the earlier half of {found.origins} past "
        f"origins it held of the later half's hours: {covered}, of their peaks (meant {PEAK_CONFIDENCE:.0%}): {peaks}",
    )
    past = history[-2 * WEEK :]
    before = tuple(_stamp(now_s + (index - len(past)) * HOUR_S) for index in range(len(past)))
    ahead = tuple(_stamp(now_s + index * HOUR_S) for index in range(len(found.median)))
    seen = tuple(float(value) if np.isfinite(value) else None for value in past)
    median_y, low, high = (tuple(values.tolist()) for values in (found.median, found.low, found.high))
    chart = Chart(
        title="Load by the hour",
        x_title="",
        y_title="requests per second",
        series=(
            Series(name="seen", x=before, y=seen),
            Series(name="forecast", x=ahead, y=median_y, low=low, high=high),
        ),
        marks=() if line is None else (Mark(axis="y", at=line, text="load line"),),
    )
    bands = (found.low, found.median, found.high)
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (_stamp(now_s + at * HOUR_S)[:10], *(float(part[at : at + DAY].max()) for part in bands))
        for at in range(0, len(found.median), DAY)
    )
    return Report(
        kind="forecast",
        title=f"Load of {source}",
        findings=tuple(findings),
        inputs={"source": source, "hours_of_history": len(history), "load_line": line},
        tables=(Table(title="Busiest hour of each day", columns=("day", "low", "median", "high"), rows=rows),),
        charts=(chart,),
        notes=notes,
        result={
            "peak": found.peak, "peak_median": found.peak_median, "growth_per_week": found.growth_per_week,
            "coverage": found.coverage, "peak_coverage": found.peak_coverage,
            "crosses_at": {
                name: None if hour is None else _stamp(now_s + (hour - 1) * HOUR_S)
                for name, hour in (("earliest", earliest), ("median", median), ("latest", latest))
            },
        },
        versions=versions(),
    )  # fmt: skip


def _crossing(line: float, now_s: float, earliest: int | None, median: int | None, latest: int | None) -> str:
    if earliest is None:
        return f"the load line of {shown(line)} requests/s is not reached"
    first = _stamp(now_s + (earliest - 1) * HOUR_S)
    likely = "likely not within the horizon" if median is None else f"likely {_stamp(now_s + (median - 1) * HOUR_S)}"
    last = "no later bound" if latest is None else f"{_stamp(now_s + (latest - 1) * HOUR_S)} at the latest"
    return f"the load line of {shown(line)} requests/s is reached {first} at the earliest, {likely}, {last}"


def _stamp(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d %H:%M")
