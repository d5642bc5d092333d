"""``loadline plan forecast``: where a load is going in the coming weeks, and when it crosses the load line."""

import time
from pathlib import Path
from typing import Annotated

import typer

from planner.commands import options as opt


def forecast(
    series: Annotated[
        Path | None, typer.Argument(help="CSV of time (Unix seconds or ISO 8601) and requests/s, hourly or finer.")
    ] = None,
    source: opt.Source = None,
    pool: opt.Pool = None,
    line: Annotated[
        float | None,
        typer.Option(min=0, help="Load line, requests/s (plan capacity finds it).", envvar="LOADLINE_PLAN_LINE"),
    ] = None,
    weeks: Annotated[int, typer.Option(min=1, max=52, help="Weeks to look ahead.", envvar="LOADLINE_PLAN_WEEKS")] = 2,
    history_weeks: Annotated[
        int, typer.Option(min=4, help="With --source: weeks of history.", envvar="LOADLINE_PLAN_HISTORY_WEEKS")
    ] = 12,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Continue a load by hour of the week, with measured coverage, and date the crossing of the line as a range.

    Exit code 1 when the peak of the horizon, at 95%, is above the line.
    """
    with opt.one_line_errors():
        from planner.answers.season import season_report
        from planner.errors import CapacityError
        from planner.room.history import HOUR_S, hourly_from_csv, hourly_from_source
        from planner.room.season import WEEK, season_forecast

        if series is not None:
            start_s, values = hourly_from_csv(series)
            told = series.name
        elif source is not None:
            start_s, values = hourly_from_source(source, pool, time.time(), history_weeks * WEEK)
            told = source if pool is None else f"{source} {pool}"
        else:
            raise CapacityError("nothing to forecast: give a CSV file or --source")
        found = season_forecast(values, weeks * WEEK)
        now_s = start_s + len(values) * HOUR_S
        opt.deliver(season_report(found, told, now_s, values, line), as_json=as_json, html=html)
        if line is not None and found.peak > line:
            raise typer.Exit(1)
