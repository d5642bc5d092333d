"""``loadline replay inspect`` and ``convert``: describe traces, and write them in another form."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner import trace_options as opt
from planner.options import AsJson, HtmlPath, note, one_line_errors

if TYPE_CHECKING:
    from planner.loading import Loading, Wanted
    from planner.workload import Shaping


def inspect(
    traces: opt.Traces,
    kind: opt.Format = None,
    window: opt.Window = None,
    model: opt.Models = None,
    tenant: opt.Tenants = None,
    share: opt.Share = 1.0,
    dequantise: opt.Dequantise = False,
    rate: opt.Rate = 1.0,
    arrivals: opt.Arrivals = None,
    requests: opt.Requests = None,
    max_requests: opt.MaxRequests = None,
    speed: opt.Speed = 1.0,
    token_scale: opt.TokenScale = 1.0,
    seed: opt.Seed = 0,
    align: opt.Align = "start",
    lengths_from: opt.LengthsFrom = None,
    tokenizer: opt.Tokenizer = None,
    quarantine: opt.Quarantine = None,
    strict: opt.Strict = False,
    max_bad: opt.MaxBad = 1.0,
    html: HtmlPath = None,
    as_json: AsJson = False,
) -> None:
    """Describe traces: rates, burstiness, lengths, shared prefixes, sessions; and where every line went."""
    with one_line_errors():
        wanted = _wanted(locals())
        from planner.inspection import document, inspected, report
        from planner.loading import load
        from planner.options import write_page
        from planner.profile import Profiler

        profiler = Profiler()

        def take(loading: "Loading") -> None:
            profiler.__init__()  # type: ignore[misc]
            for piece in loading.pieces():
                profiler.add(piece)

        loading = load(wanted, take, note)
        what = "; ".join(dict.fromkeys(stream.kind.what for stream in loading.streams))
        accounts = [(stream.path.name, stream.account().counts) for stream in loading.streams]
        found = inspected(profiler, loading.header(), what, accounts)
        if html is not None:
            write_page(report(found), html)
    if as_json:
        print(json.dumps(document(found)))
        return
    from rich.console import Console

    from planner.trace_show import shown

    Console().print(shown(found))


def convert(
    traces: opt.Traces,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write; .gz and .zst pack it.", envvar="LOADLINE_REPLAY_CONVERT_OUT"),
    ],
    to: Annotated[
        str, typer.Option(help="loadline (everything) or mooncake.", envvar="LOADLINE_REPLAY_TO")
    ] = "loadline",
    kind: opt.Format = None,
    window: opt.Window = None,
    model: opt.Models = None,
    tenant: opt.Tenants = None,
    share: opt.Share = 1.0,
    dequantise: opt.Dequantise = False,
    rate: opt.Rate = 1.0,
    arrivals: opt.Arrivals = None,
    requests: opt.Requests = None,
    max_requests: opt.MaxRequests = None,
    speed: opt.Speed = 1.0,
    token_scale: opt.TokenScale = 1.0,
    seed: opt.Seed = 0,
    align: opt.Align = "start",
    lengths_from: opt.LengthsFrom = None,
    tokenizer: opt.Tokenizer = None,
    quarantine: opt.Quarantine = None,
    strict: opt.Strict = False,
    max_bad: opt.MaxBad = 1.0,
) -> None:
    """Write traces, shaped, as Loadline's own JSONL or as Mooncake's."""
    with one_line_errors():
        wanted = _wanted(locals())
        from planner.errors import TraceError
        from planner.export import Export
        from planner.loading import load

        if out.resolve() in [path.resolve() for path in traces]:
            raise TraceError(f"{out}: is one of the traces that are read; choose another --out")
        export = Export(out, to)
        try:
            loading = load(wanted, lambda loading: export.write(loading.pieces()), note)
            written = export.finish(loading.header())
        finally:
            export.abandon()
        for column, count in written.left_out.items():
            note(f"{out}: {column} of {count} requests has no place in this format and is left out")
        for remark, count in written.remarks.items():
            note(f"{out}: {remark} ({count} requests)")
    note(f"wrote {written.requests} requests to {out}")


def _wanted(given: dict[str, Any]) -> "Wanted":
    """The options as a value. Raises PlannerError."""
    from planner.errors import TraceError
    from planner.loading import Wanted

    if given["align"] not in ("start", "clock"):
        raise TraceError(f"align {given['align']!r}: must be start or clock")
    if not 0 <= given["max_bad"] <= 1:
        raise TraceError(f"max bad {given['max_bad']:g}: must be a share from 0 to 1")
    return Wanted(
        paths=tuple(given["traces"]),
        shaping=_shaping(given),
        kind=given["kind"],
        strict=given["strict"],
        quarantine=given["quarantine"],
        max_bad=given["max_bad"],
        by_clock=given["align"] == "clock",
        lengths=given["lengths_from"],
        tokenizer=given["tokenizer"],
    )


def _shaping(given: dict[str, Any]) -> "Shaping":
    from pydantic import ValidationError

    from planner.errors import WorkloadError
    from planner.slo import first_fault
    from planner.workload import Shaping, parse_window

    start_s, end_s = parse_window(given["window"]) if given["window"] else (None, None)
    plain = ("share", "dequantise", "rate", "arrivals", "requests", "max_requests", "speed", "token_scale", "seed")
    try:
        return Shaping(
            window_start_s=start_s,
            window_end_s=end_s,
            models=tuple(given["model"] or ()),
            tenants=tuple(given["tenant"] or ()),
            **{name: given[name] for name in plain},
        )
    except ValidationError as error:
        raise WorkloadError(first_fault(error)) from error
