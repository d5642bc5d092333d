"""``loadline plan calibrate``: a step-time model from what an engine was seen to do."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner import options as opt

if TYPE_CHECKING:
    from planner.calibrate import Evidence


def calibrate(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Runs with server observations, engine profiles, saved /steps answers.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(help="Prometheus-compatible server to take history from.", envvar="LOADLINE_PLAN_SOURCE"),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(help="Engine to take recent steps from.", envvar="LOADLINE_PLAN_STEPS")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="With --source: only this pool.", envvar="LOADLINE_PLAN_POOL")
    ] = None,
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
        doubts = tuple(doubt for path in files or [] if (doubt := run_doubt(path)) is not None)
        for doubt in doubts:
            opt.note(f"warning: {doubt}")
        model = model.model_copy(update={"notes": (*model.notes, *doubts)})
        model.write(out)
        opt.note(f"wrote {out}")
        opt.deliver(calibration_report(model), as_json=as_json, html=html)


def evidence(path: Path) -> "Evidence":
    """What a file tells: a run, a profile or saved steps, told apart by content."""
    from planner.calibrate import from_file, from_run
    from planner.result import read_run

    return from_run(read_run(path), str(path)) if _is_run(path) else from_file(path)


def run_doubt(path: Path) -> str | None:
    """Why a file's run should not be trusted, by its own verdict; None where it may be, or where it is no run."""
    from planner.result import read_run

    if not _is_run(path):
        return None
    details = read_run(path).header.details
    if details.get("valid") is not False:
        return None
    reasons = "; ".join(map(str, details.get("reasons", ()))) or "no reason is given"
    return f"{path.name} is not a valid run ({reasons}): what was measured is not what was asked for"


def _is_run(path: Path) -> bool:
    from planner.result import FORMAT

    try:
        with path.open("rb") as file:
            return f'"{FORMAT}"'.encode() in file.read(200)
    except OSError:
        return False


def history(source: str, pool: str | None, minutes: float, step_s: float) -> "Evidence":
    """What a source's history tells of the last minutes."""
    from collector.client import Client
    from collector.signals import detect
    from planner.calibrate import from_history

    with Client(source) as client:
        now_s = time.time()
        return from_history(client, detect(client.metric_names()), now_s - minutes * 60, now_s, step_s, pool)
