"""``loadline engine experiment``: run one and write its report."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from probe_engine.errors import EngineError, ExperimentError
from probe_engine.experiments.options import Options
from probe_engine.experiments.page import to_html
from probe_engine.experiments.registry import EXPERIMENTS, find, sample
from probe_engine.experiments.report import Report
from probe_engine.experiments.trace import read_trace
from probe_engine.sched import SchedulerError

OUTPUT = Path("data/experiments")


def option(name: str, text: str, flag: str | None = None) -> Any:
    """A typer option with its environment variable."""
    variable = f"LOADLINE_ENGINE_EXPERIMENT_{name.upper()}"
    return typer.Option(flag or f"--{name.replace('_', '-')}", help=text, envvar=variable)


def experiment(
    name: Annotated[str, typer.Argument(help=", ".join(EXPERIMENTS))],
    trace: Annotated[
        Path | None,
        option("trace", "Azure CSV or JSON lines (Mooncake's, or with arrival_s); a sample if absent."),
    ] = None,
    model: Annotated[str, option("model", "'tiny' (built in) or a Hugging Face model directory.")] = "tiny",
    dtype: Annotated[str, option("dtype", "float32, bfloat16 or float16.")] = "float32",
    requests: Annotated[int | None, option("requests", "How many requests of the trace are served.")] = None,
    seed: Annotated[int, option("seed", "Seeds every random choice.")] = 0,
    quick: Annotated[bool, option("quick", "Small, for a first look.")] = False,
    image: Annotated[
        str | None, option("image", "isolation: container image with loadline in it, for docker or podman.")
    ] = None,
    output: Annotated[Path, option("output", "Folder for NAME.html, .md and .json.")] = Path("data/experiments"),
    as_json: Annotated[bool, option("json", "Print the report as JSON.", "--json")] = False,
) -> None:
    """Show what paging, batching, priorities, prefix routing and limits do, on a real trace; writes a report.

    Exit code 1: what the experiment is about was not seen.
    """
    try:
        chosen = find(name)
        path = trace or sample(chosen)
        if requests is not None and requests < 1:
            raise ExperimentError(f"--requests is {requests}; it must be at least 1")
        options = Options(read_trace(path), path.name, model, dtype, requests, seed, quick, tell=_progress, image=image)
        report = chosen.run(options)
        _write(report, output)
    except (EngineError, SchedulerError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error
    print(json.dumps(report.to_json()) if as_json else report.to_markdown())
    print(f"written to {output}/{report.name}.html, .md and .json", file=sys.stderr)
    raise typer.Exit(1 if report.holds is False else 0)


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _write(report: Report, folder: Path) -> None:
    faces = {
        "json": json.dumps(report.to_json(), indent=1) + "\n",
        "md": report.to_markdown(),
        "html": to_html(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in faces.items():
            (folder / f"{report.name}.{ending}").write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExperimentError(f"--output is {folder}: {error.strerror or error}") from error
