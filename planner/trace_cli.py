"""``loadline replay inspect``: describe a trace."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from planner.options import AsJson, TracePath, one_line_errors, read_told
from planner.options import shaping as shaping_of

Window = Annotated[
    str | None, typer.Option(help="Only arrivals in START:END seconds of the trace.", envvar="LOADLINE_REPLAY_WINDOW")
]
Speed = Annotated[float, typer.Option(help="Play this many times as fast.", envvar="LOADLINE_REPLAY_SPEED")]
TokenScale = Annotated[
    float, typer.Option(help="Factor on prompt and output lengths.", envvar="LOADLINE_REPLAY_TOKEN_SCALE")
]
MaxRequests = Annotated[
    int | None, typer.Option(help="Only the first N requests.", envvar="LOADLINE_REPLAY_MAX_REQUESTS")
]


def inspect(
    trace: TracePath,
    window: Window = None,
    speed: Speed = 1.0,
    token_scale: TokenScale = 1.0,
    max_requests: MaxRequests = None,
    as_json: AsJson = False,
) -> None:
    """Describe a trace: rates, burstiness, lengths."""
    with one_line_errors():
        from planner.workload import stats

        found = asdict(stats(shaping_of(window, speed, token_scale, max_requests).apply(read_told(trace))))
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("", "value")
    for name, value in found.items():
        if isinstance(value, dict):
            table.add_row(name, "  ".join(f"{key} {number:g}" for key, number in value.items()))
        else:
            table.add_row(name, f"{value:g}" if isinstance(value, float) else str(value))
    Console().print(table)
