"""``loadline plan drift``: whether an engine still does what its twin says, told back to its source."""

import time
from pathlib import Path
from typing import Annotated

import typer

from planner import options as opt


def drift(
    model: opt.ModelPath,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Runs with single steps, saved /steps answers; in the order of time.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Engine to take recent steps from.", envvar="LOADLINE_PLAN_STEPS")
    ] = None,
    recalibrate: Annotated[
        Path | None,
        typer.Option(
            help="On an alarm, fit a model on what came since and write it here.",
            envvar="LOADLINE_PLAN_RECALIBRATE",
        ),
    ] = None,
    write_to: Annotated[
        str | None,
        typer.Option(help="Collector to write the twin's error and state to.", envvar="LOADLINE_PLAN_WRITE_TO"),
    ] = None,
    pool: Annotated[str, typer.Option(help="Label pool of what is written.", envvar="LOADLINE_PLAN_POOL")] = "",
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Hold an engine's steps against its model; exit code 1 when they have left its band."""
    with opt.one_line_errors():
        from collector.client import Client
        from planner.answers.drift import drift_report, drift_series
        from planner.calibrate import from_engine, merge
        from planner.calibrate_cli import evidence
        from planner.drift import watch
        from planner.errors import ModelError
        from planner.fit import fit
        from planner.latency import read_model

        fitted = read_model(model)
        parts = [evidence(path) for path in files or []]
        if steps is not None:
            parts.append(from_engine(steps))
        if not parts:
            raise ModelError("nothing to hold the model against: give a run, a saved /steps answer or --steps")
        seen = merge(parts)
        found = watch(fitted, seen.observations)
        again = None
        if recalibrate is not None and found.drifting:
            again = fit(
                found.recent(seen.observations),
                source=f"{seen.source}, since the alarm",
                overhead=fitted.overhead,
                scheduler=fitted.scheduler,
                engine=fitted.engine,
            )
            again.write(recalibrate)
            opt.note(f"wrote {recalibrate}")
        if write_to is not None:
            with Client(write_to) as client:
                client.write(drift_series(found, pool or fitted.engine.get("model", ""), time.time(), again))
        opt.deliver(drift_report(fitted, found, seen.source, again), as_json=as_json, html=html)
        if found.drifting:
            raise typer.Exit(1)
