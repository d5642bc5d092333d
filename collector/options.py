"""What several commands of ``loadline collector`` have in common."""

from typing import Annotated, NoReturn

import typer

from collector.model.errors import CollectorError

SOURCE = "http://127.0.0.1:9190"

Source = Annotated[
    str,
    typer.Option(
        "--source",
        "--url",
        help="Prometheus-compatible server.",
        envvar=["LOADLINE_COLLECTOR_SOURCE", "LOADLINE_COLLECTOR_URL"],
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]


def refuse(error: CollectorError) -> NoReturn:
    """End with exit code 2 and the error's one line."""
    typer.echo(str(error), err=True)
    raise typer.Exit(2) from error
