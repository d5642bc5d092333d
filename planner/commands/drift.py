"""``loadline plan drift``: whether an engine still does what its twin says, told back to its source."""

import time
from pathlib import Path
from typing import Annotated

import typer

from planner.commands import options as opt


def drift(
    model: opt.ModelPath,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Runs, for steps and waits for first tokens; saved /steps answers. In the order of time."),
    ] = None,
    steps: opt.Steps = None,
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
    replicas: opt.Replicas = 1,
    num_blocks: opt.NumBlocks = None,
    seed: opt.Seed = 0,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Hold an engine's steps, and its clients' waits, against its model; exit code 1 when steps left its band."""
    with opt.one_line_errors():
        from collector.client import Client
        from planner.answers.drift import drift_report, drift_series
        from planner.commands.calibrate import evidence, run_of
        from planner.errors import ModelError, RunError
        from planner.steps.calibrate import from_engine, merge
        from planner.steps.drift import watch
        from planner.steps.first_tokens import watch_first_tokens
        from planner.steps.fit import fit
        from planner.steps.latency import read_model

        fitted = read_model(model)
        runs = {path: run for path in files or [] if (run := run_of(path)) is not None}
        parts = [evidence(path) for path in files or [] if path not in runs or runs[path].observations]
        if steps is not None:
            parts.append(from_engine(steps))
        if not parts and not runs:
            raise ModelError("nothing to hold the model against: give a run, a saved /steps answer or --steps")
        left_out = list(opt.warned(run.doubt(path.name) for path, run in runs.items()))
        waits = {}
        for path, run in runs.items():
            try:
                twin = opt.fleet(fitted, replicas, "least_load", True, opt.limits(num_blocks, None, None, None, None))
                waits[path.name] = watch_first_tokens(run, twin, path.name, seed=seed)
            except (RunError, ModelError) as error:
                left_out.append(f"waits for first tokens are not judged: {error}")
        seen = merge(parts) if parts else None
        found = None if seen is None else watch(fitted, seen.observations)
        if found is None and not waits:
            raise ModelError("; ".join(left_out))
        again = None
        if recalibrate is not None and seen is not None and found is not None and found.drifting:
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
                client.write(drift_series(found, waits, pool or fitted.engine.get("model", ""), time.time(), again))
        source = ", ".join(map(str, files or [])) if seen is None else seen.source
        report = drift_report(fitted, found, waits, source, again, left_out)
        opt.deliver(report, as_json=as_json, html=html)
        if report.result["drifting"]:
            raise typer.Exit(1)
