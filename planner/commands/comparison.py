"""``loadline plan compare``: two reports beside each other."""

from pathlib import Path
from typing import Annotated

import typer

from planner.commands import options as opt


def compare(
    first: Annotated[Path, typer.Argument(help="Report as --json printed it.")],
    second: Annotated[Path, typer.Argument(help="Another of the same kind.")],
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Say what two plans ask differently and what they find differently; exit code 1 when they differ."""
    with opt.one_line_errors():
        from planner.answers.comparison import comparison_report, read_report

        report = comparison_report(read_report(first), read_report(second), (first.name, second.name))
        opt.deliver(report, as_json=as_json, html=html)
        if not report.result["same"]:
            raise typer.Exit(1)
