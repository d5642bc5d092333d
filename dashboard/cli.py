"""``loadline dashboard``: serve the web dashboard."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Serve the web dashboard.", no_args_is_help=True, add_completion=False)

PROMISE = ("ttft_p95_s", "itl_p95_s", "e2e_p95_s", "success_ratio", "goodput_ratio")


@app.callback()
def dashboard() -> None:
    """Serve the web dashboard."""


def option(name: str, text: str) -> Any:
    """A typer option with its environment variable."""
    return typer.Option(f"--{name.replace('_', '-')}", help=text, envvar=f"LOADLINE_DASHBOARD_{name.upper()}")


@app.command()
def serve(
    source: Annotated[
        str | None, option("source", "Prometheus-compatible server to read (http://127.0.0.1:9190).")
    ] = None,
    host: Annotated[str | None, option("host", "Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, option("port", "Port to listen on (8050).")] = None,
    slo: Annotated[Path | None, option("slo", "TOML file with the promise, in a table [slo] or at its top.")] = None,
    path_prefix: Annotated[
        str | None, option("path_prefix", "Path under which a proxy serves the dashboard, and which it passes on.")
    ] = None,
    auth_token_file: Annotated[
        Path | None, option("auth_token_file", "File with the token that viewers need; needed beyond loopback.")
    ] = None,
    source_token_file: Annotated[
        Path | None, option("source_token_file", "File with the bearer token of the source.")
    ] = None,
    grafana_url: Annotated[
        str | None, option("grafana_url", "Address of a Grafana; panels then offer to open their queries there.")
    ] = None,
    grafana_datasource: Annotated[
        str | None, option("grafana_datasource", "Uid of Grafana's data source (its default one).")
    ] = None,
    alerts: Annotated[
        str | None, option("alerts", "Address of the alerts process (http://127.0.0.1:9193); none if empty.")
    ] = None,
    alerts_token_file: Annotated[
        Path | None, option("alerts_token_file", "File with the token that the alerts process needs.")
    ] = None,
    operator_token_file: Annotated[
        Path | None,
        option("operator_token_file", "File with the token of operators, who may silence, confirm and replay."),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None, option("trusted_proxy", "Network of a proxy that names its user in a header; repeatable.")
    ] = None,
    user_header: Annotated[
        str | None, option("user_header", "Header in which a trusted proxy names its user (X-Forwarded-User).")
    ] = None,
    operators: Annotated[
        list[str] | None, option("operators", "User of a trusted proxy who is an operator, * for all; repeatable.")
    ] = None,
    prices: Annotated[Path | None, option("prices", "TOML file with what replicas cost an hour.")] = None,
    catalog: Annotated[
        Path | None, option("catalog", "YAML file with own entries for the planner's catalogue.")
    ] = None,
    replay_targets: Annotated[
        list[str] | None, option("replay_targets", "Server that traces may be played against; repeatable.")
    ] = None,
    runs: Annotated[Path | None, option("runs", "Folder of runs (data/runs).")] = None,
    traces: Annotated[
        list[Path] | None, option("traces", "Folder of traces to choose from (samples/traces); repeatable.")
    ] = None,
    uploads: Annotated[Path | None, option("uploads", "Folder for uploaded traces (data/traces).")] = None,
    max_upload_mb: Annotated[int | None, option("max_upload_mb", "Largest trace to upload, MB (2000).")] = None,
    threads: Annotated[int | None, option("threads", "Requests answered at once (8).")] = None,
    ttft_p95_s: Annotated[float | None, option("ttft_p95_s", "SLO: 95th percentile of TTFT, seconds.")] = None,
    itl_p95_s: Annotated[float | None, option("itl_p95_s", "SLO: 95th percentile between tokens, seconds.")] = None,
    e2e_p95_s: Annotated[float | None, option("e2e_p95_s", "SLO: 95th percentile of whole requests, seconds.")] = None,
    success_ratio: Annotated[float | None, option("success_ratio", "SLO: share of requests that succeed.")] = None,
    goodput_ratio: Annotated[
        float | None, option("goodput_ratio", "SLO: share of requests that meet every latency.")
    ] = None,
) -> None:
    """Serve the dashboard over a Prometheus-compatible server."""
    given = {name: value for name, value in locals().items() if value not in (None, [])}
    promise = {name: given.pop(name) for name in PROMISE if name in given}
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from pydantic import ValidationError

    from dashboard.errors import DashboardError
    from dashboard.settings import DashboardSettings

    try:
        settings = DashboardSettings.model_validate(given)
        from dashboard.server import serve as run

        run(settings, promise)
    except ValidationError as error:
        for fault in error.errors():
            flag = "--" + "-".join(str(part).replace("_", "-") for part in fault["loc"])
            message = fault["msg"].removeprefix("Value error, ")
            print(f"{flag} is {fault['input']!r}; {message[0].lower()}{message[1:]}", file=sys.stderr)
        raise typer.Exit(2) from error
    except DashboardError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from error


@app.command()
def export(
    grafana: Annotated[bool, option("grafana", "As Grafana dashboards, the only form there is.")] = False,
    out: Annotated[Path, option("out", "Folder for the files, one a page.")] = Path("grafana"),
    source: Annotated[
        str | None, option("source", "Server whose metrics decide what is asked; without it, --dialect does.")
    ] = None,
    source_token_file: Annotated[
        Path | None, option("source_token_file", "File with the bearer token of the source.")
    ] = None,
    dialect: Annotated[
        list[str] | None, option("dialect", "Engine or exporter to ask for, such as vllm; repeatable (loadline).")
    ] = None,
    slo: Annotated[Path | None, option("slo", "TOML file with the promise, whose limits become thresholds.")] = None,
) -> None:
    """Write the pages as dashboards for Grafana: the same charts over the same PromQL, to import there."""
    from collector.model.errors import SourceError
    from dashboard.errors import DashboardError
    from dashboard.exporting import write_grafana

    if not grafana:
        _refuse("say in which form: --grafana")
    try:
        write_grafana(out, source, source_token_file, tuple(dialect or ()), slo, sys.stdout, sys.stderr)
    except (DashboardError, SourceError, OSError) as error:
        _refuse(str(error))


def _refuse(why: str) -> None:
    typer.echo(f"loadline dashboard export: {why}", err=True)
    raise typer.Exit(2)
