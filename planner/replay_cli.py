"""``loadline replay``: play a request trace against a server, describe a trace, compare two runs."""

import asyncio
import itertools
import json
import signal
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.errors import RunError
from planner.options import AsJson, TracePath, one_line_errors, read_told
from planner.options import shaping as shaping_of
from planner.trace_cli import convert, inspect
from planner.trace_options import MaxRequests, Speed, TokenScale, Window

if TYPE_CHECKING:
    from planner.replay.recorder import Recorder
    from planner.replay.session import Playing
    from planner.result import Run
    from planner.trace import Trace

Runs = Annotated[
    Path | None, typer.Option(help="Folder of the runs; data/runs by default.", envvar="LOADLINE_REPLAY_RUNS")
]

app = typer.Typer(no_args_is_help=True, help="Play a request trace against a server; inspect traces; compare runs.")

app.command()(inspect)
app.command()(convert)


@app.command()
def run(
    trace: TracePath,
    target: Annotated[
        str, typer.Option(help="Base address of an OpenAI-compatible server.", envvar="LOADLINE_REPLAY_TARGET")
    ] = "http://127.0.0.1:8000",
    model: Annotated[
        str | None, typer.Option(help="Served model; the first one by default.", envvar="LOADLINE_REPLAY_MODEL")
    ] = None,
    window: Window = None,
    speed: Speed = 1.0,
    token_scale: TokenScale = 1.0,
    max_requests: MaxRequests = None,
    seed: Annotated[int, typer.Option(help="Seed of the prompts.", envvar="LOADLINE_REPLAY_SEED")] = 0,
    slo: Annotated[
        Path | None, typer.Option(help="TOML file with the promises, for goodput.", envvar="LOADLINE_REPLAY_SLO")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(help="Give a request up after this many seconds.", envvar="LOADLINE_REPLAY_TIMEOUT_S")
    ] = 600.0,
    out: Annotated[
        Path | None,
        typer.Option(help="Result file, instead of a folder among the runs.", envvar="LOADLINE_REPLAY_OUT"),
    ] = None,
    runs: Runs = None,
    run_id: Annotated[
        str | None,
        typer.Option("--id", help="Name of the run; its time by default.", envvar="LOADLINE_REPLAY_ID"),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the server's bearer token.", envvar="LOADLINE_REPLAY_TOKEN_FILE")
    ] = None,
    forever: Annotated[
        bool,
        typer.Option("--forever", help="Play over and over until stopped; no file.", envvar="LOADLINE_REPLAY_FOREVER"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play a trace open loop: every request at its time, whatever became of those before it.

    The run is kept in a folder of its own under --runs, where `replay list` and the dashboard find it.
    """
    with one_line_errors():
        from planner.replay.session import Playing
        from planner.slo import Slo, load_slo

        shaping = shaping_of(window, speed, token_scale, max_requests)
        playing = Playing(
            url=target.rstrip("/"),
            model=model,
            shaping=shaping,
            seed=seed,
            slo=load_slo(slo) if slo else Slo(),
            token=_token(token_file),
            timeout_s=timeout_s,
            watch_server=not forever,
        )
        with _recorder(
            trace, playing, runs, run_id, keep=not forever and (out is None or runs is not None)
        ) as recorder:
            shaped = shaping.apply(read_told(trace))
            result, stopped = _play(shaped, playing, recorder, forever=forever)
            if recorder is not None:
                print(f"wrote {recorder.finished(result, stopped=stopped)}", file=sys.stderr)
        if not forever:
            _finish(result, out, as_json=as_json)
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
def compare(
    a: Annotated[str, typer.Argument(help="Run to compare against: its file, or its name among the runs.")],
    b: Annotated[str, typer.Argument(help="Run whose error is wanted.")],
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Join two runs of one trace request by request and print the second's error per percentile."""
    with one_line_errors():
        from planner.compare import compare as join
        from planner.replay.runs import DEFAULT_RUNS, RunStore, find_run

        store = RunStore(runs or DEFAULT_RUNS)
        comparison = join(find_run(a, store), find_run(b, store))
    if as_json:
        print(json.dumps(asdict(comparison)))
        return
    from rich.console import Console

    from planner.replay.show import compared

    Console().print(compared(comparison, (Path(a).stem, Path(b).stem)))


def _token(path: Path | None) -> str | None:
    from planner.errors import ReplayError

    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}") from error


def _recorder(
    trace: Path, playing: "Playing", runs: Path | None, run_id: str | None, *, keep: bool
) -> "AbstractContextManager[Recorder | None]":
    """What writes the run's folder: one that ``RunStore.start`` made, or a new one."""
    from planner.replay.recorder import Recorder
    from planner.replay.runs import DEFAULT_RUNS, META, RunStore

    if not keep:
        return nullcontext()
    store = RunStore(runs or DEFAULT_RUNS)
    if run_id is not None and (store.folder(run_id) / META).exists():
        if (meta := store.meta(run_id)).state != "preparing":
            raise RunError(f"{store.folder(run_id)}: there is a run of this name")
    else:
        meta = store.create(str(trace), playing.url, playing.told(), run_id)
    return Recorder(store, meta)


def _play(trace: "Trace", playing: "Playing", recorder: "Recorder | None", *, forever: bool) -> tuple["Run", bool]:
    from planner.replay.narrator import Narrator
    from planner.replay.session import replay

    async def rounds() -> tuple["Run", bool]:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for seed in itertools.count(playing.seed):  # new prompts each round, or the prefix cache would serve them all
            with Narrator(recorder, quiet=forever) as narrator:
                result = await replay(trace, replace(playing, seed=seed), narrator, stop)
            if stop.is_set() or not forever:
                break
        return result, stop.is_set()

    return asyncio.run(rounds())


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
        print(f"wrote {out}", file=sys.stderr)
