"""``loadline collector``: serve, query, check, stats, export, import."""

import asyncio
import json
import logging
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from collector import exchange_cli
from collector.model.errors import CollectorError, ConfigError
from collector.options import SOURCE, Json, Source, refuse

if TYPE_CHECKING:
    from collector.checking import Verdict

app = typer.Typer(help="Scrape, store and answer PromQL.", no_args_is_help=True, add_completion=False)
exchange_cli.add_to(app)


@app.callback()
def collector() -> None:
    """Scrape, store and answer PromQL."""


@app.command()
def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (127.0.0.1).", envvar="LOADLINE_COLLECTOR_HOST")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API (9190).", envvar="LOADLINE_COLLECTOR_PORT")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Directory of the data (data/collector).", envvar="LOADLINE_COLLECTOR_DATA"),
    ] = None,
    scrape: Annotated[
        list[str] | None,
        typer.Option(
            help="Address to scrape, with the labels to attach: URL[,job=NAME][,label=value]; may be repeated.",
            envvar="LOADLINE_COLLECTOR_SCRAPE",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="prometheus.yml whose scrape_configs to scrape.", envvar="LOADLINE_COLLECTOR_CONFIG"),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(help="Time between two scrapes of a --scrape target (5s).", envvar="LOADLINE_COLLECTOR_INTERVAL"),
    ] = None,
    timeout: Annotated[
        str | None, typer.Option(help="Longest wait for a scrape (5s).", envvar="LOADLINE_COLLECTOR_TIMEOUT")
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(help="How long samples and spans are kept (15d).", envvar="LOADLINE_COLLECTOR_RETENTION"),
    ] = None,
    retention_bytes: Annotated[
        int | None,
        typer.Option(
            help="Most bytes of samples, spans and logs; the oldest go first (no limit).",
            envvar="LOADLINE_COLLECTOR_RETENTION_BYTES",
        ),
    ] = None,
    downsample_after: Annotated[
        str | None,
        typer.Option(
            help="Age from which about two samples per five minutes are kept, such as 7d (all are kept).",
            envvar="LOADLINE_COLLECTOR_DOWNSAMPLE_AFTER",
        ),
    ] = None,
    out_of_order: Annotated[
        str | None,
        typer.Option(
            help="How far behind its series' latest a pushed sample may be; 0 takes none (10m).",
            envvar="LOADLINE_COLLECTOR_OUT_OF_ORDER",
        ),
    ] = None,
    cache_bytes: Annotated[
        int | None,
        typer.Option(help="Most bytes of decoded samples in memory.", envvar="LOADLINE_COLLECTOR_CACHE_BYTES"),
    ] = None,
    lookback: Annotated[
        str | None,
        typer.Option(help="How old a sample may be to count as current (5m).", envvar="LOADLINE_COLLECTOR_LOOKBACK"),
    ] = None,
    query_timeout: Annotated[
        str | None, typer.Option(help="Longest time for a query (2m).", envvar="LOADLINE_COLLECTOR_QUERY_TIMEOUT")
    ] = None,
    query_max_samples: Annotated[
        int | None,
        typer.Option(help="Most samples that a query may touch.", envvar="LOADLINE_COLLECTOR_QUERY_MAX_SAMPLES"),
    ] = None,
    left_open: Annotated[
        bool | None,
        typer.Option(
            "--left-open/--no-left-open",
            help="Ranges leave out their left end, as in Prometheus 3; without it as in Prometheus 2 (on).",
            envvar="LOADLINE_COLLECTOR_LEFT_OPEN",
        ),
    ] = None,
    delayed_name_removal: Annotated[
        bool | None,
        typer.Option(
            "--delayed-name-removal/--no-delayed-name-removal",
            help="Drop metric names at the end of a query instead of at every step of it (off).",
            envvar="LOADLINE_COLLECTOR_DELAYED_NAME_REMOVAL",
        ),
    ] = None,
    max_body_bytes: Annotated[
        int | None,
        typer.Option(help="Longest pushed body, uncompressed.", envvar="LOADLINE_COLLECTOR_MAX_BODY_BYTES"),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Origin whose pages may read the API, such as https://grafana.example, or *; may be repeated.",
            envvar="LOADLINE_COLLECTOR_CORS_ORIGIN",
        ),
    ] = None,
    alerts_url: Annotated[
        str | None,
        typer.Option(
            help="Alerts process that answers rules and alerts (http://127.0.0.1:9193).",
            envvar="LOADLINE_COLLECTOR_ALERTS_URL",
        ),
    ] = None,
    otlp_port: Annotated[
        int | None,
        typer.Option(help="Port for OTLP/HTTP beside the API's, such as 4318.", envvar="LOADLINE_COLLECTOR_OTLP_PORT"),
    ] = None,
    otlp_grpc_port: Annotated[
        int | None,
        typer.Option(help="Port for OTLP/gRPC, such as 4317.", envvar="LOADLINE_COLLECTOR_OTLP_GRPC_PORT"),
    ] = None,
    span_metrics: Annotated[
        bool | None,
        typer.Option(
            "--span-metrics/--no-span-metrics",
            help="Count calls, errors and durations from the spans that come by (on).",
            envvar="LOADLINE_COLLECTOR_SPAN_METRICS",
        ),
    ] = None,
    forward_remote_write: Annotated[
        list[str] | None,
        typer.Option(
            help="Address to pass samples on to by remote write; may be repeated.",
            envvar="LOADLINE_COLLECTOR_FORWARD_REMOTE_WRITE",
        ),
    ] = None,
    forward_otlp: Annotated[
        list[str] | None,
        typer.Option(
            help="OTLP/HTTP base address to pass spans, metrics and logs on to; may be repeated.",
            envvar="LOADLINE_COLLECTOR_FORWARD_OTLP",
        ),
    ] = None,
    forward_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token for these addresses.", envvar="LOADLINE_COLLECTOR_FORWARD_TOKEN_FILE"
        ),
    ] = None,
    forward_config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with more addresses to pass on to, their limits and relabelling.",
            envvar="LOADLINE_COLLECTOR_FORWARD_CONFIG",
        ),
    ] = None,
    auth_token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token that clients must send; needed beyond loopback.",
            envvar="LOADLINE_COLLECTOR_AUTH_TOKEN_FILE",
        ),
    ] = None,
    telemetry: Annotated[
        bool | None,
        typer.Option(
            "--telemetry/--no-telemetry",
            help="Record this machine's processors, memory and GPUs (on).",
            envvar="LOADLINE_COLLECTOR_TELEMETRY",
        ),
    ] = None,
) -> None:
    """Scrape targets, take pushes, keep everything and answer Prometheus's API."""
    given = {name: value for name, value in locals().items() if value is not None}
    try:
        settings = _settings(given)
        from collector import server

        logging.basicConfig(
            stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        for chatty in ("httpx", "httpcore", "uvicorn.error"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        sys.setswitchinterval(server.SWITCH_S)
        asyncio.run(server.serve(settings, lambda line: print(line, file=sys.stderr, flush=True)))
    except CollectorError as error:
        refuse(error)


@app.command()
def query(
    expr: Annotated[str, typer.Argument(help="PromQL expression.")],
    source: Source = SOURCE,
    data: Annotated[
        Path | None,
        typer.Option(help="Data directory to read instead of asking a server.", envvar="LOADLINE_COLLECTOR_QUERY_DATA"),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(help="Moment, in Unix seconds or RFC 3339 (now).", envvar="LOADLINE_COLLECTOR_QUERY_TIME"),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Begin of a range.", envvar="LOADLINE_COLLECTOR_QUERY_START")
    ] = None,
    end: Annotated[
        str | None, typer.Option(help="End of a range (now).", envvar="LOADLINE_COLLECTOR_QUERY_END")
    ] = None,
    step: Annotated[
        str, typer.Option(help="Distance of the range's points.", envvar="LOADLINE_COLLECTOR_QUERY_STEP")
    ] = "1m",
    as_json: Json = False,
) -> None:
    """Evaluate a PromQL expression at one moment or over a range."""
    from collector import asking

    try:
        with asking.source(source, data) as asked:
            if start is None:
                moments: list[dict[str, Any]] = asking.instant(asked, expr, time)
            else:
                moments = asking.over_range(asked, expr, start, end, step)
    except CollectorError as error:
        refuse(error)
    if as_json:
        print(json.dumps(moments, indent=2))
    else:
        _print_answer(expr, moments)


@app.command()
def check(
    targets: Annotated[
        list[str],
        typer.Argument(help="Addresses of metrics pages, saved ones, or prometheus.yml files.", metavar="TARGET..."),
    ],
    timeout: Annotated[
        float, typer.Option(help="Longest wait for an answer, in seconds.", envvar="LOADLINE_COLLECTOR_CHECK_TIMEOUT")
    ] = 5.0,
    as_json: Json = False,
) -> None:
    """Tell what each target is, which signals it shows, and what cannot be read.

    Exit code 1 where something cannot be read or there are no metrics, 2 where there is nothing at all.
    """
    import httpx

    from collector.checking import check_target

    verdicts, unreadable = [], []
    with httpx.Client(timeout=timeout, trust_env=False, follow_redirects=True) as http:
        for target in targets:
            try:
                verdicts.append(check_target(target, http))
            except CollectorError as error:
                unreadable.append(str(error))
    if as_json:
        print(json.dumps([asdict(verdict) for verdict in verdicts], indent=2))
    else:
        for verdict in verdicts:
            _print_verdict(verdict)
    for line in unreadable:
        print(line, file=sys.stderr)
    if unreadable or any(verdict.faults for verdict in verdicts):
        raise typer.Exit(2 if unreadable else 1)


@app.command()
def stats(
    directory: Annotated[Path, typer.Argument(help="Data directory of a collector, running or not.", metavar="DIR")],
    as_json: Json = False,
) -> None:
    """Tell what a data directory holds."""
    from collector.asking import data_directory
    from collector.store import Store

    try:
        with Store.open(data_directory(directory), read_only=True) as store:
            figures = asdict(store.stats())
    except CollectorError as error:
        refuse(error)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<18} {_figure(name, value)}")


def _settings(given: dict[str, Any]) -> Any:
    from pydantic import ValidationError

    from collector.settings import CollectorSettings

    try:
        return CollectorSettings(**given)
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            option = "--" + str(fault["loc"][0]).replace("_", "-")
            lines.append(f"{option} is {fault['input']}; {fault['msg'].removeprefix('Value error, ')}")
        raise ConfigError("\n".join(lines)) from error


def _print_verdict(verdict: "Verdict") -> None:
    for fault in verdict.faults:
        print(fault)
    print(f"{verdict.target}: {verdict.summary}")
    for one in verdict.speaks:
        print(f"  {one.title}" + (f", version {one.version}" if one.version else ""))
        shown = [f"{signal} (mean alone)" if signal in one.mean_only else signal for signal in one.present]
        if shown:
            print(f"    present: {', '.join(shown)}")
        if one.awaited:
            print(f"    present from the first event on: {', '.join(one.awaited)}")
        for signal, flag in one.switched_off.items():
            print(f"    switched off: {signal}: only with {flag}")
        if one.absent:
            print(f"    not on this page: {', '.join(f'{signal} ({metric})' for signal, metric in one.absent.items())}")
        for signal, reason in one.not_exposed.items():
            print(f"    not exposed: {signal}: {reason}")
        if one.note and one.note not in "".join(verdict.faults):
            print(f"    {one.note}")
    if verdict.unknown:
        print(f"  not known: {', '.join(verdict.unknown)}")


def _print_answer(expr: str, answer: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not answer:
        print(f"no data for {expr}", file=sys.stderr)
        return
    table = Table("series", "time", "value", box=None, pad_edge=False)
    for series in answer:
        for place, (moment_s, value) in enumerate(series["values"]):
            moment = datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="milliseconds")
            table.add_row(series["series"] if place == 0 else "", moment.replace("+00:00", "Z"), value)
    Console(highlight=False, markup=False).print(table)


def _figure(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if name.endswith("_ms"):
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return ", ".join(f"{key} {_figure(key, inner)}" for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return "; ".join(map(str, value)) or "none"
    return f"{value:,.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else f"{value:,}"
