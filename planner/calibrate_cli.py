"""``loadline plan calibrate``: a step-time model from what an engine was seen to do."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner import options as opt

if TYPE_CHECKING:
    from planner.calibrate import Evidence
    from planner.result import Run


def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Runs with server observations, engine profiles, saved /steps answers.")
    ] = None,
    source: opt.Source = None,
    steps: opt.Steps = None,
    pool: opt.Pool = None,
    minutes: Annotated[float, typer.Option(help="With --source: how far back.", envvar="LOADLINE_PLAN_MINUTES")] = 60.0,
    step_s: Annotated[
        float, typer.Option(help="With --source: length of an interval.", envvar="LOADLINE_PLAN_STEP_S")
    ] = 15.0,
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
        from planner.calibrate import from_engine, merge
        from planner.errors import ModelError
        from planner.fit import FORMS

        if form not in ("auto", *FORMS):
            raise ModelError(f"form {form!r}: must be auto, {', '.join(FORMS)}")
        parts = [evidence(path) for path in files or []]
        if source is not None:
            parts.append(history(source, pool, minutes, step_s))
        if steps is not None:
            parts.append(from_engine(steps))
        if not parts:
            raise ModelError("nothing to calibrate from: give a run or profile file, --source or --steps")
        model = merge(parts).fit(form)
        doubts = opt.warned(run_doubt(path) for path in files or [])
        model = model.model_copy(update={"notes": (*model.notes, *doubts)})
        model.write(out)
        opt.note(f"wrote {out}")
        opt.deliver(calibration_report(model), as_json=as_json, html=html)


def evidence(path: Path) -> "Evidence":
    """What a file tells: a run, a profile or saved steps, told apart by content."""
    from planner.calibrate import from_file, from_run

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


def history(source: str, pool: str | None, minutes: float, step_s: float) -> "Evidence":
    """What a source's history tells of the last minutes."""
    from collector.client import Client
    from collector.signals import detect
    from planner.calibrate import from_history

    with Client(source) as client:
        now_s = time.time()
        return from_history(client, detect(client.metric_names()), now_s - minutes * 60, now_s, step_s, pool)
