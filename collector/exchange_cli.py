"""``loadline collector export`` and ``import``."""

import json
import sys
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from collector.model.errors import CollectorError
from collector.options import SOURCE, Json, Source, refuse

MAX_FAULTS = 100
"""Refused lines of an import that are told one by one."""


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    app.command(name="export")(export_samples)
    app.command(name="import")(import_samples)


def export_samples(
    file: Annotated[
        Path, typer.Argument(help="File to write; packed if it ends in .gz or .zst; - for standard output.")
    ],
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="Series selector; may be repeated (everything).",
            envvar="LOADLINE_COLLECTOR_EXPORT_MATCH",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Data directory to read, in use or not.", envvar="LOADLINE_COLLECTOR_EXPORT_DATA"),
    ] = None,
    source: Source = SOURCE,
    start: Annotated[
        str | None,
        typer.Option(help="Begin, in Unix seconds or RFC 3339 (an hour ago).", envvar="LOADLINE_COLLECTOR_START"),
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="End, in Unix seconds or RFC 3339 (now).", envvar="LOADLINE_COLLECTOR_END")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write samples as OpenMetrics text, which `import` and `promtool tsdb create-blocks-from openmetrics` read."""
    from collector import asking, compressed
    from collector.exporting import export

    try:
        start_ms, end_ms = asking.time_range(start, end)
        with asking.source(source, data) as asked, compressed.writing(file) as out:
            done = export(asked, match or (), start_ms, end_ms, out)
    except CollectorError as error:
        refuse(error)
    if as_json:
        print(json.dumps(asdict(done)), file=sys.stderr if file == compressed.PLAIN else sys.stdout)
        return
    print(f"{done.series:,} series, {done.samples:,} samples", file=sys.stderr)
    if done.stale_markers:
        print(f"left out: {done.stale_markers:,} stale markers, which OpenMetrics cannot say", file=sys.stderr)


def import_samples(
    file: Annotated[Path, typer.Argument(help="OpenMetrics file, packed if it ends in .gz or .zst; - for input.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data directory to write to, made if absent; not one in use.", envvar="LOADLINE_COLLECTOR_IMPORT_DATA"
        ),
    ] = None,
    source: Source = SOURCE,
    as_json: Json = False,
) -> None:
    """Read OpenMetrics text into a data directory or a server; exit code 1 if some of it was refused."""
    from collector import asking, compressed
    from collector.importing import import_lines

    told = count(1)

    def tell(fault: str) -> None:
        if next(told) <= MAX_FAULTS:
            print(f"{file}: {fault}", file=sys.stderr)

    try:
        with compressed.reading(file) as lines, asking.sink(source, data) as sink:
            done = import_lines(lines, sink, tell)
    except CollectorError as error:
        refuse(error)
    if (more := next(told) - 1 - MAX_FAULTS) > 0:
        print(f"{file}: and {more} more", file=sys.stderr)
    if as_json:
        print(json.dumps(asdict(done)))
    else:
        print(f"{done.samples:,} samples stored, {done.known:,} known already", file=sys.stderr)
    if done.bad_lines or done.refused:
        raise typer.Exit(1)
