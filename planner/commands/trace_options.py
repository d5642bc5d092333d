"""Options of the commands that read and shape traces: they stand once, as the parameters of ``wanted_traces``."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.commands.options import one_line_errors

if TYPE_CHECKING:
    from planner.traces.loading import Wanted
    from planner.traces.workload import Shaping


def _env(name: str) -> str:
    return f"LOADLINE_REPLAY_{name}"


def wanted_traces(
    traces: Annotated[list[Path], typer.Argument(help="Trace files, told by their content; several are merged.")],
    kind: Annotated[
        str | None, typer.Option("--format", help="Format of the files, instead of telling it.", envvar=_env("FORMAT"))
    ] = None,
    window: Annotated[
        str | None, typer.Option(help="Only arrivals in START:END seconds of the trace.", envvar=_env("WINDOW"))
    ] = None,
    models: Annotated[
        list[str] | None, typer.Option("--only-model", help="Only requests for this model.", envvar=_env("ONLY_MODEL"))
    ] = None,
    tenants: Annotated[
        list[str] | None, typer.Option("--tenant", help="Only requests of this tenant.", envvar=_env("TENANT"))
    ] = None,
    share: Annotated[float, typer.Option(help="Keep each session with this probability.", envvar=_env("SHARE"))] = 1.0,
    dequantise: Annotated[
        bool, typer.Option("--dequantise", help="Spread requests that share a tick over it.", envvar=_env("DEQUANTISE"))
    ] = False,
    rate: Annotated[
        float, typer.Option(help="Times as many requests in the same time, bursts kept.", envvar=_env("RATE"))
    ] = 1.0,
    arrivals: Annotated[
        str | None,
        typer.Option(help="poisson, gamma, weibull or diurnal, fitted or :RATE:CV.", envvar=_env("ARRIVALS")),
    ] = None,
    requests: Annotated[
        int | None,
        typer.Option(help="Make this many requests: a bootstrap, or with --arrivals.", envvar=_env("REQUESTS")),
    ] = None,
    max_requests: Annotated[
        int | None, typer.Option(help="Only the first N requests.", envvar=_env("MAX_REQUESTS"))
    ] = None,
    speed: Annotated[float, typer.Option(help="Play this many times as fast.", envvar=_env("SPEED"))] = 1.0,
    token_scale: Annotated[
        float, typer.Option(help="Factor on prompt and output lengths.", envvar=_env("TOKEN_SCALE"))
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of every random choice.", envvar=_env("SEED"))] = 0,
    align: Annotated[
        str, typer.Option(help="Merged traces begin together (start) or by date (clock).", envvar=_env("ALIGN"))
    ] = "start",
    lengths_from: Annotated[
        Path | None, typer.Option(help="Trace to draw lengths from, as for access logs.", envvar=_env("LENGTHS_FROM"))
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="A tokenizer.json, to count and write texts.", envvar=_env("TOKENIZER"))
    ] = None,
    quarantine: Annotated[
        Path | None, typer.Option(help="File that gets every row that is set aside.", envvar=_env("QUARANTINE"))
    ] = None,
    strict: Annotated[
        bool, typer.Option(help="Stop at the first row that cannot be used.", envvar=_env("STRICT"))
    ] = False,
    max_bad: Annotated[
        float, typer.Option(help="Share of lines that may be set aside, 0 to 1.", envvar=_env("MAX_BAD"))
    ] = 1.0,
) -> "Wanted":
    """What the options ask for. Raises PlannerError."""
    from planner.errors import TraceError
    from planner.traces.loading import Wanted
    from planner.traces.workload import parse_window

    if align not in ("start", "clock"):
        raise TraceError(f"align {align!r}: must be start or clock")
    if not 0 <= max_bad <= 1:
        raise TraceError(f"max bad {max_bad:g}: must be a share from 0 to 1")
    start_s, end_s = parse_window(window) if window else (None, None)
    shaping = _shaping(
        window_start_s=start_s,
        window_end_s=end_s,
        models=tuple(models or ()),
        tenants=tuple(tenants or ()),
        share=share,
        dequantise=dequantise,
        rate=rate,
        arrivals=arrivals,
        requests=requests,
        max_requests=max_requests,
        speed=speed,
        token_scale=token_scale,
        seed=seed,
    )
    return Wanted(
        paths=tuple(traces),
        shaping=shaping,
        kind=kind,
        strict=strict,
        quarantine=quarantine,
        max_bad=max_bad,
        by_clock=align == "clock",
        lengths=lengths_from,
        tokenizer=tokenizer,
    )


def _shaping(**given: Any) -> "Shaping":
    from pydantic import ValidationError

    from planner.errors import WorkloadError
    from planner.slo import first_fault
    from planner.traces.workload import Shaping

    try:
        return Shaping(**given)
    except ValidationError as error:
        raise WorkloadError(first_fault(error)) from error


def takes_traces(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``wanted_traces``; it is called with what they ask for as ``wanted``."""
    traces, *others = signature(wanted_traces).parameters.values()
    own = [one for one in signature(command).parameters.values() if one.name != "wanted"]

    @wraps(command)
    def called(**given: Any) -> None:
        with one_line_errors():
            wanted = wanted_traces(**{one.name: given.pop(one.name) for one in (traces, *others)})
        command(wanted=wanted, **given)

    together = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in (traces, *own, *others)]
    called.__signature__ = Signature(together)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in together}
    return called
