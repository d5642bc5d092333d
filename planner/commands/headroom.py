"""``loadline plan headroom``: how much more each pool can take, once or every minute, told back to its source."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from planner.commands import options as opt

if TYPE_CHECKING:
    from collector.client import Client
    from planner.room.headroom import PoolHeadroom
    from planner.slo import Slo

WATCH_NICENESS = 10
"""The watch shares a machine with what it watches: it takes the time that is left over."""


def headroom(
    source: Annotated[
        str, typer.Option(help="Prometheus-compatible server to read from.", envvar="LOADLINE_PLAN_SOURCE")
    ] = "http://127.0.0.1:9190",
    source_token_file: Annotated[
        Path | None,
        typer.Option(help="File with the bearer token of the source.", envvar="LOADLINE_PLAN_SOURCE_TOKEN_FILE"),
    ] = None,
    write: Annotated[
        str | None,
        typer.Option(
            help="Server that takes the series by Prometheus's remote write; with --watch the source if absent.",
            envvar="LOADLINE_PLAN_WRITE",
        ),
    ] = None,
    write_token_file: Annotated[
        Path | None,
        typer.Option(help="File with its bearer token (that of the source).", envvar="LOADLINE_PLAN_WRITE_TOKEN_FILE"),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on until stopped, every --interval.", envvar="LOADLINE_PLAN_WATCH")
    ] = False,
    interval: Annotated[
        str, typer.Option(help="With --watch: time between two rounds.", envvar="LOADLINE_PLAN_INTERVAL")
    ] = "60s",
    look_back: Annotated[
        str,
        typer.Option(help="How far back step times and lengths are taken from.", envvar="LOADLINE_PLAN_LOOK_BACK"),
    ] = "15m",
    slo: opt.SloPath = None,
    ttft_p95: opt.TtftP95 = None,
    itl_p95: opt.ItlP95 = None,
    e2e_p95: opt.E2eP95 = None,
    success: opt.Success = None,
    goodput: opt.Goodput = None,
    as_json: opt.AsJson = False,
    html: opt.HtmlPath = None,
) -> None:
    """Find the load line of each pool from its telemetry; exit code 1 when a pool is beyond it.

    With ``--write`` or ``--watch`` the figures are written back: loadline_headroom_ratio, by failures 0 and 2,
    loadline_load_line_requests_per_second, when the load reaches it, and the error of the model.
    """
    with opt.one_line_errors():
        from collector.client import Client
        from planner.answers.headroom import headroom_report, headroom_series

        interval_s, window_s = _seconds("--interval", interval), _seconds("--look-back", look_back)
        promise = opt.promise(slo, **opt.slo_limits(ttft_p95, itl_p95, e2e_p95, success, goodput))
        token = _token(source_token_file)
        with (
            Client(source, token=token, timeout_s=30.0) as client,
            Client(write or source, token=_token(write_token_file) or token) as sink,
        ):
            if watch:
                _watch(client, sink, promise, interval_s, window_s)
            now_s = time.time()
            found = _ask(client, promise, now_s, window_s)
            if write is not None:
                sink.write(headroom_series(found, now_s))
        opt.deliver(headroom_report(found, source, promise, now_s), as_json=as_json, html=html)
        if any(pool.headroom_ratio is not None and pool.headroom_ratio < 0 for pool in found):
            raise typer.Exit(1)


def _ask(client: "Client", promise: "Slo", now_s: float, window_s: float) -> "Sequence[PoolHeadroom]":
    from collector.signals import detect
    from planner.room.headroom import live_headroom

    return live_headroom(client, detect(client.metric_names()), promise, now_s, window_s=window_s)


def _watch(client: "Client", sink: "Client", promise: "Slo", interval_s: float, window_s: float) -> None:
    """Rounds until SIGINT or SIGTERM, which end the process with exit code 0 even in the middle of one."""
    from planner.room.headroom_watch import Watch, run

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(0))
    os.nice(WATCH_NICENESS)
    opt.note(f"headroom of {client.base_url} every {interval_s:g} s, written to {sink.base_url}")
    watch = Watch(lambda now_s: _ask(client, promise, now_s, window_s), sink.write, opt.note)
    run(watch, time.time, time.sleep, interval_s)


def _token(path: Path | None) -> str | None:
    from planner.errors import CapacityError

    try:
        return None if path is None else path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CapacityError(f"{path}: cannot be read: {error.strerror}") from error


def _seconds(option: str, text: str) -> float:
    from collector.model.durations import SHAPE, parse_duration_ms
    from planner.errors import CapacityError

    found = parse_duration_ms(text)
    if not found:
        raise CapacityError(f"{option} is {text!r}; {SHAPE}")
    return found / 1000
