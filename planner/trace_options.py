"""Options of the commands that read and shape traces."""

from pathlib import Path
from typing import Annotated

import typer


def _env(name: str) -> str:
    return f"LOADLINE_REPLAY_{name}"


Traces = Annotated[list[Path], typer.Argument(help="Trace files, told by their content; several are merged.")]
Window = Annotated[
    str | None, typer.Option(help="Only arrivals in START:END seconds of the trace.", envvar=_env("WINDOW"))
]
Speed = Annotated[float, typer.Option(help="Play this many times as fast.", envvar=_env("SPEED"))]
TokenScale = Annotated[float, typer.Option(help="Factor on prompt and output lengths.", envvar=_env("TOKEN_SCALE"))]
MaxRequests = Annotated[int | None, typer.Option(help="Only the first N requests.", envvar=_env("MAX_REQUESTS"))]
Format = Annotated[
    str | None, typer.Option("--format", help="Format of the files, instead of telling it.", envvar=_env("FORMAT"))
]
Quarantine = Annotated[
    Path | None, typer.Option(help="File that gets every row that is set aside.", envvar=_env("QUARANTINE"))
]
Strict = Annotated[bool, typer.Option(help="Stop at the first row that cannot be used.", envvar=_env("STRICT"))]
MaxBad = Annotated[float, typer.Option(help="Share of lines that may be set aside, 0 to 1.", envvar=_env("MAX_BAD"))]
Align = Annotated[
    str, typer.Option(help="Merged traces begin together (start) or by date (clock).", envvar=_env("ALIGN"))
]
LengthsFrom = Annotated[
    Path | None, typer.Option(help="Trace to draw lengths from, as for access logs.", envvar=_env("LENGTHS_FROM"))
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="A tokenizer.json, to count the tokens of texts.", envvar=_env("TOKENIZER"))
]
Models = Annotated[
    list[str] | None, typer.Option("--model", help="Only requests for this model.", envvar=_env("ONLY_MODEL"))
]
Tenants = Annotated[
    list[str] | None, typer.Option("--tenant", help="Only requests of this tenant.", envvar=_env("TENANT"))
]
Share = Annotated[float, typer.Option(help="Keep each session with this probability.", envvar=_env("SHARE"))]
Dequantise = Annotated[
    bool, typer.Option("--dequantise", help="Spread requests that share a tick over it.", envvar=_env("DEQUANTISE"))
]
Rate = Annotated[float, typer.Option(help="Times as many requests in the same time, bursts kept.", envvar=_env("RATE"))]
Arrivals = Annotated[
    str | None,
    typer.Option(help="poisson, gamma, weibull or diurnal, fitted or :RATE:CV.", envvar=_env("ARRIVALS")),
]
Requests = Annotated[
    int | None, typer.Option(help="Make this many requests: a bootstrap, or with --arrivals.", envvar=_env("REQUESTS"))
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", envvar=_env("SEED"))]
