"""``loadline plan calibrate``: a step-time model from what an engine was seen to do."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.commands import options as opt

if TYPE_CHECKING:
    from planner.result import Run
    from planner.steps.calibrate import Evidence
    from planner.steps.telemetry import Seen


def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Runs with server observations, engine profiles, saved /steps answers.")
    ] = None,
    source: opt.Source = None,
    steps: opt.Steps = None,
    pool: opt.Pool = None,
    minutes: Annotated[float, typer.Option(help="With --source: how far back.", envvar="LOADLINE_PLAN_MINUTES")] = 60.0,
    form: Annotated[
        str, typer.Option(help="linear, hinge, bend, or auto for the best one.", envvar="LOADLINE_PLAN_FORM")
    ] = "auto",
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.", envvar="LOADLINE_PLAN_OUT")] = Path(
        "model.json"
    ),
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Fit a step-time model to what an engine was seen to do."""
    with opt.one_line_errors():
        from planner.answers.calibration import calibration_report
        from planner.errors import ModelError
        from planner.steps.calibrate import from_engine, merge
        from planner.steps.fit import FORMS

        if form not in ("auto", *FORMS):
            raise ModelError(f"form {form!r}: must be auto, {', '.join(FORMS)}")
        parts = [evidence(path) for path in files or []]
        seen = None if source is None else history(source, pool, minutes)
        if seen is not None:
            parts.append(seen.evidence)
        if steps is not None:
            parts.append(from_engine(steps))
        if not parts:
            raise ModelError("nothing to calibrate from: give a run or profile file, --source or --steps")
        model = merge(parts).fit(form)
        doubts = opt.warned(run_doubt(path) for path in files or [])
        model = model.model_copy(update={"notes": (*model.notes, *doubts)})
        if seen is not None:
            model = seen.doubted(model)
        model.write(out)
        opt.note(f"wrote {out}")
        opt.deliver(calibration_report(model), as_json=as_json, html=html)


def evidence(path: Path) -> "Evidence":
    """What a file tells: a run, a profile or saved steps, told apart by content."""
    from planner.steps.calibrate import from_file, from_run

    run = run_of(path)
    return from_file(path) if run is None else from_run(run, str(path))


def run_doubt(path: Path) -> str | None:
    """What ``Run.doubt`` says of a file; None where it is no run."""
    run = run_of(path)
    return None if run is None else run.doubt(path.name)


def run_of(path: Path) -> "Run | None":
    """The run in a file; None where it is none, or cannot be opened."""
    from planner.result import FORMAT, read_run

    try:
        with path.open("rb") as file:
            known = f'"{FORMAT}"'.encode() in file.read(200)
    except OSError:
        return None
    return read_run(path) if known else None


def history(source: str, pool: str | None, minutes: float) -> "Seen":
    """What a source's history tells of the last minutes of one pool, the only one where none is named."""
    from collector.client import Client
    from collector.model.labels import get
    from collector.signals import detect
    from planner.errors import ModelError
    from planner.steps.telemetry import steps_seen

    with Client(source) as client:
        now_s, vocabulary = time.time(), detect(client.metric_names())
        seen = [] if pool is not None else client.query(vocabulary.replicas(), now_s)
        pools = [pool] if pool is not None else sorted(get(one.labels, "pool") for one in seen)
        if len(pools) != 1:
            named = f"{', '.join(pools)} report there; choose one with --pool" if pools else "no engine reports there"
            raise ModelError(f"{source}: {named}")
        return steps_seen(client, vocabulary, pools[0], now_s, minutes * 60)
