"""``loadline replay``: play a request trace against a server, report on runs, compare two; traces themselves."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.commands.options import AsJson, HtmlPath, deliver, note, one_line_errors
from planner.commands.trace import convert, inspect
from planner.commands.trace_options import takes_traces
from planner.errors import ReplayError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from planner.replay.significance import Shift
    from planner.result import Run
    from planner.traces.loading import Wanted


def _env(name: str) -> str:
    return f"LOADLINE_REPLAY_{name}"


FailIf = Annotated[
    list[str] | None,
    typer.Option(help="Exit with 1 if so: ttft_p99>10%, e2e_p95>2s, goodput<0.95.", envvar=_env("FAIL_IF")),
]
Runs = Annotated[Path | None, typer.Option(help="Folder of the runs; data/runs by default.", envvar=_env("RUNS"))]

app = typer.Typer(no_args_is_help=True, help="Play a request trace against a server; inspect traces; compare runs.")

app.command()(inspect)
app.command()(convert)


@app.command()
@takes_traces
def run(
    wanted: "Wanted",
    target: Annotated[
        str,
        typer.Option(
            help="Address of an OpenAI-compatible server, engine:MODEL (started for it) or twin:MODEL.JSON.",
            envvar=_env("TARGET"),
        ),
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None, typer.Option(help="Served model; the first one by default.", envvar=_env("MODEL"))
    ] = None,
    endpoint: Annotated[str, typer.Option(help="completions or chat.", envvar=_env("ENDPOINT"))] = "completions",
    prompts: Annotated[
        str | None, typer.Option(help="ids or text; ids for completions, text for chat.", envvar=_env("PROMPTS"))
    ] = None,
    sessions: Annotated[
        str,
        typer.Option(
            help="Turns go out by the trace's clock (open), or hold the answer before and wait for it (closed).",
            envvar=_env("SESSIONS"),
        ),
    ] = "open",
    ignore_eos: Annotated[
        bool, typer.Option(help="Ask for answers of exactly the trace's lengths.", envvar=_env("IGNORE_EOS"))
    ] = True,
    slo: Annotated[
        Path | None, typer.Option(help="TOML file with the promises, for goodput.", envvar=_env("SLO"))
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.001, help="Give a request up after this many seconds.", envvar=_env("TIMEOUT_S"))
    ] = 600.0,
    processes: Annotated[
        int, typer.Option(min=1, max=256, help="Processes that play, on one clock.", envvar=_env("PROCESSES"))
    ] = 1,
    warm_up_s: Annotated[
        float,
        typer.Option("--warm-up", min=0, help="Play the first seconds, but leave them out.", envvar=_env("WARM_UP")),
    ] = 0.0,
    max_duration_s: Annotated[
        float | None,
        typer.Option(
            "--max-duration", min=0.001, help="Send nothing after so many seconds.", envvar=_env("MAX_DURATION")
        ),
    ] = None,
    max_errors: Annotated[
        int | None, typer.Option(min=1, help="Stop when so many requests have failed.", envvar=_env("MAX_ERRORS"))
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Result file, instead of a folder among the runs.", envvar=_env("OUT"))
    ] = None,
    runs: Runs = None,
    run_id: Annotated[
        str | None, typer.Option("--id", help="Name of the run; its time by default.", envvar=_env("ID"))
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run, which was interrupted.", envvar=_env("RESUME"))
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the server's bearer token.", envvar=_env("TOKEN_FILE"))
    ] = None,
    fail_if: FailIf = None,
    forever: Annotated[
        bool, typer.Option("--forever", help="Play over and over until stopped; no file.", envvar=_env("FOREVER"))
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play traces open loop: every request at its time, whatever became of those before it.

    Prompts as text are counted by --tokenizer, or by the server's /tokenize.

    The run is kept in a folder of its own under --runs, where `replay list` and the dashboard find it. Ctrl-C writes
    what there is; --resume goes on from there.
    """
    with one_line_errors():
        from planner.replay.gate import parse_gate
        from planner.replay.perform import Keeping, perform, read_token
        from planner.replay.playing import Playing
        from planner.slo import Slo, load_slo
        from planner.traces.loading import load_whole

        for text in fail_if or ():
            parse_gate(text)
        playing = Playing(
            url=target.rstrip("/"),
            model=model,
            shaping=wanted.shaping,
            seed=wanted.shaping.seed,
            slo=load_slo(slo) if slo else Slo(),
            token=read_token(token_file),
            timeout_s=timeout_s,
            watch_server=not forever,
            endpoint=_one_of("--endpoint", endpoint, ("completions", "chat")),
            prompts=_one_of("--prompts", prompts, ("ids", "text")),
            sessions=_one_of("--sessions", sessions, ("open", "closed")),
            tokenizer=wanted.tokenizer,
            ignore_eos=ignore_eos,
            processes=processes,
            warm_up_s=warm_up_s,
            max_duration_s=max_duration_s,
            max_errors=max_errors,
        )
        keep = not forever and (out is None or runs is not None or resume is not None)
        names = ", ".join(str(path) for path in wanted.paths)
        with Keeping(runs, run_id, resume, keep).recorder(names, playing) as recorder:
            result, stopped = perform(load_whole(wanted, note), playing, recorder, forever=forever)
            if recorder is not None:
                note(f"wrote {recorder.finished(result, stopped=stopped)}")
        if not forever:
            _finish(result, out, as_json=as_json)
            _judge(fail_if, result)
    raise typer.Exit(1 if stopped and not forever else 0)


@app.command("list")
def list_runs(runs: Runs = None, as_json: AsJson = False) -> None:
    """The runs that are kept, newest first: those under way, those that ended, and how."""
    from planner.replay.runs import DEFAULT_RUNS, RunStore

    found = RunStore(runs or DEFAULT_RUNS).list()
    if as_json:
        print(json.dumps([meta.model_dump(mode="json") for meta in found]))
        return
    from rich.console import Console

    from planner.replay.show import listed

    Console().print(listed(found))


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run: its file, or its name among the runs.")],
    runs: Runs = None,
    html: HtmlPath = None,
    csv: Annotated[Path | None, typer.Option(help="Write one row per request as CSV.", envvar=_env("CSV"))] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="The same as Parquet; needs pyarrow.", envvar=_env("PARQUET"))
    ] = None,
    fail_if: FailIf = None,
    as_json: AsJson = False,
) -> None:
    """A run in figures with their intervals: Markdown or JSON on stdout, a page, tables of its requests."""
    with one_line_errors():
        from planner.replay.report import run_report
        from planner.replay.runs import DEFAULT_RUNS, RunStore, find_run, run_name
        from planner.replay.tables import write_csv, write_parquet

        found = find_run(name, RunStore(runs or DEFAULT_RUNS))
        for path, write in ((csv, write_csv), (parquet, write_parquet)):
            if path is not None:
                write(found, path)
                note(f"wrote {path}")
        deliver(run_report(found, run_name(name)), as_json=as_json, html=html)
        _judge(fail_if, found)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="Run to compare against: its file, or its name among the runs.")],
    b: Annotated[str, typer.Argument(help="Run whose change is wanted.")],
    runs: Runs = None,
    html: HtmlPath = None,
    fail_if: FailIf = None,
    as_json: AsJson = False,
) -> None:
    """Two runs side by side: what changed, and whether by more than chance.

    Requests of one trace are joined one by one. With --fail-if, exit code 1 says that B is worse than allowed.
    """
    with one_line_errors():
        from planner.compare import compare as join
        from planner.replay.report import comparison_report
        from planner.replay.runs import DEFAULT_RUNS, RunStore, find_run, run_name
        from planner.replay.significance import shifts

        store = RunStore(runs or DEFAULT_RUNS)
        one, other = find_run(a, store), find_run(b, store)
        comparison, changed = join(one, other), shifts(one, other)
        names = (run_name(a), run_name(b))
        deliver(comparison_report(comparison, changed, (one, other), names), as_json=as_json, html=html)
        _judge(fail_if, other, changed)


@app.command("join")
def join_spans(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Run: its file, or its name among the runs.")],
    source: Annotated[
        str, typer.Option(help="Address of the collector that keeps the server's spans.", envvar=_env("SOURCE"))
    ] = "http://127.0.0.1:9190",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the collector's bearer token.", envvar=_env("SOURCE_TOKEN_FILE"))
    ] = None,
    runs: Runs = None,
    min_share: Annotated[
        float, typer.Option(min=0, max=1, help="Exit with 1 when a smaller share joins.", envvar=_env("MIN_SHARE"))
    ] = 0.0,
    wait_s: Annotated[
        float, typer.Option("--wait", min=0, help="Wait so long for spans under way.", envvar=_env("WAIT"))
    ] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Join a run with the server's spans by request id: what of the TTFT was client, network, queue and prefill.

    The server's figures are written into the run's file.
    """
    with one_line_errors():
        from collector.client import Client
        from planner.replay.join import as_mapping, join, spans_of
        from planner.replay.perform import read_token
        from planner.replay.runs import DEFAULT_RUNS, RunStore, file_of
        from planner.replay.show import joined as as_table
        from planner.result import read_run

        path = file_of(name, RunStore(runs or DEFAULT_RUNS))
        found = read_run(path)
        client = Client(source, token=read_token(token_file))
        until_s = time.monotonic() + wait_s
        filled, told = join(found, spans_of(found, client))
        while told.joined < told.requests and time.monotonic() < until_s:
            time.sleep(1.0)
            filled, told = join(found, spans_of(found, client))
        filled.write(path)
        client.close()
    if as_json:
        print(json.dumps(as_mapping(told)))
    else:
        from rich.console import Console

        Console().print(as_table(told))
    raise typer.Exit(1 if told.share < min_share else 0)


def _judge(conditions: list[str] | None, run: "Run", changed: "Mapping[str, Shift] | None" = None) -> None:
    """Exit with 1 and tell why when a condition of ``--fail-if`` holds."""
    from planner.replay.gate import parse_gate, violations

    broken = violations([parse_gate(text) for text in conditions or ()], run, changed)
    for words in broken:
        note(f"FAILED {words}")
    if broken:
        raise typer.Exit(1)


def _one_of(option: str, value: Any, allowed: tuple[str, ...]) -> Any:
    if value is not None and value not in allowed:
        raise ReplayError(f"{option} {value!r}: must be {' or '.join(allowed)}")
    return value


def _finish(result: "Run", out: Path | None, *, as_json: bool) -> None:
    from planner.replay.show import as_json as to_json
    from planner.replay.show import as_table

    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        result.write(out)
    if as_json:
        print(json.dumps(to_json(result)))
    else:
        from rich.console import Console

        Console().print(as_table(result))
    if out is not None:
        note(f"wrote {out}")
