"""``loadline replay inspect`` and ``convert``: describe traces, and write them in another form."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.commands.options import AsJson, HtmlPath, note, one_line_errors
from planner.commands.trace_options import takes_traces

if TYPE_CHECKING:
    from planner.traces.loading import Loading, Wanted


@takes_traces
def inspect(wanted: "Wanted", html: HtmlPath = None, as_json: AsJson = False) -> None:
    """Describe traces: rates, burstiness, lengths, shared prefixes, sessions; and where every line went."""
    with one_line_errors():
        from planner.commands.options import write_page
        from planner.traces.inspection import document, inspected, report
        from planner.traces.loading import load
        from planner.traces.profile import Profiler

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

    from planner.commands.trace_show import shown

    Console().print(shown(found))


@takes_traces
def convert(
    wanted: "Wanted",
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="File to write; .gz and .zst pack it.", envvar="LOADLINE_REPLAY_CONVERT_OUT"),
    ],
    to: Annotated[
        str, typer.Option(help="loadline (everything) or mooncake.", envvar="LOADLINE_REPLAY_TO")
    ] = "loadline",
) -> None:
    """Write traces, shaped, as Loadline's own JSONL or as Mooncake's."""
    with one_line_errors():
        from planner.errors import TraceError
        from planner.traces.export import Export
        from planner.traces.loading import load

        if out.resolve() in [path.resolve() for path in wanted.paths]:
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
