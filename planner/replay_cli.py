"""``loadline replay``: play a request trace against a server, describe a trace, compare two runs."""

import asyncio
import itertools
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from planner.options import AsJson, TracePath, one_line_errors, read_told
from planner.options import shaping as shaping_of
from planner.trace_cli import convert, inspect
from planner.trace_options import MaxRequests, Speed, TokenScale, Window

if TYPE_CHECKING:
    from planner.replay.exchange import Exchange, Planned
    from planner.replay.session import Playing
    from planner.replay.target import Target
    from planner.result import Run
    from planner.trace import Trace

LINE_EVERY_S = 5.0

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
        typer.Option(help="Result file; runs/replay-TIME.json by default.", envvar="LOADLINE_REPLAY_OUT"),
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
    """Play a trace open loop: every request at its time, whatever became of those before it."""
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
        shaped = shaping.apply(read_told(trace))
        result, stopped = _play(shaped, playing, forever=forever)
        if not forever:
            _finish(result, out, as_json=as_json)
    raise typer.Exit(1 if stopped and not forever else 0)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Run file to compare against.")],
    b: Annotated[Path, typer.Argument(help="Run file whose error is wanted.")],
    as_json: AsJson = False,
) -> None:
    """Join two runs of one trace request by request and print the second's error per percentile."""
    with one_line_errors():
        from planner.compare import compare as join
        from planner.result import read_run

        comparison = join(read_run(a), read_run(b))
    if as_json:
        print(json.dumps(asdict(comparison)))
        return
    from rich.console import Console

    from planner.replay.show import compared

    Console().print(compared(comparison, (a.stem, b.stem)))


def _token(path: Path | None) -> str | None:
    from planner.errors import ReplayError

    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ReplayError(f"{path}: cannot be read: {error.strerror}") from error


def _play(trace: "Trace", playing: "Playing", *, forever: bool) -> tuple["Run", bool]:
    from planner.replay.session import replay

    async def rounds() -> tuple["Run", bool]:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        for seed in itertools.count(playing.seed):  # new prompts each round, or the prefix cache would serve them all
            with _Narrator(quiet=forever) as narrator:
                result = await replay(trace, replace(playing, seed=seed), narrator, stop)
            if stop.is_set() or not forever:
                break
        return result, stop.is_set()

    return asyncio.run(rounds())


def _finish(result: "Run", out: Path | None, *, as_json: bool) -> None:
    from planner.replay.show import as_json as to_json
    from planner.replay.show import as_table

    path = out or Path("runs") / time.strftime("replay-%Y%m%dT%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    result.write(path)
    if as_json:
        print(json.dumps(to_json(result)))
    else:
        from rich.console import Console

        Console().print(as_table(result))
    print(f"wrote {path}", file=sys.stderr)


class _Narrator:
    """Progress on stderr: a bar on a terminal, elsewhere a line every few seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._total = self._sent = self._ended = self._failed = 0
        self._last_line = time.monotonic()

    def __enter__(self) -> "_Narrator":
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import Progress, TextColumn, TimeRemainingColumn

            columns = (*Progress.get_default_columns()[:2], TextColumn("{task.fields[told]}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(stderr=True))
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def started(self, target: "Target", plan: "Sequence[Planned]") -> None:
        from planner.replay.session import overlong

        self._total = len(plan)
        duration_s = plan[-1].due_s if plan else 0.0
        print(f"{self._total} requests over {duration_s:.0f} s to {target.model} at {target.url}", file=sys.stderr)
        if count := overlong(plan, target):
            print(
                f"{count} of them ask for more than the model's {target.max_model_len} tokens and will be refused; "
                "--token-scale makes them shorter",
                file=sys.stderr,
            )
        if self._bar is not None:
            self._task = self._bar.add_task("replay", total=self._total, told="")

    def sent(self) -> None:
        self._sent += 1

    def ended(self, exchange: "Exchange") -> None:
        self._ended += 1
        if exchange.status != "ok":
            self._failed += 1
            if self._failed == 1:
                print(f"first failure, request {exchange.row_id}: {exchange.error}", file=sys.stderr)
        told = f"{self._sent} sent, {self._ended} done, {self._failed} failed"
        if self._bar is not None:
            self._bar.update(self._task, completed=self._ended, told=told)
        elif not self._quiet and time.monotonic() - self._last_line >= LINE_EVERY_S:
            self._last_line = time.monotonic()
            print(f"{told} of {self._total}", file=sys.stderr)
