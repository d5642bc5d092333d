"""Serves the application until it is told to stop: tokens from files, a port of its own, signals."""

import logging
import signal
import socket
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from flask import Flask, Response
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import ValidationError
from waitress import create_server

from collector.client import Client
from collector.model.errors import CollectorError
from collector.model.listening import listen
from dashboard.access import Access
from dashboard.alerting import Alerting
from dashboard.app import create_app
from dashboard.errors import SettingsError
from dashboard.jobs import Jobs
from dashboard.parts.shell import Grafana
from dashboard.prices import load as load_prices
from dashboard.replays import Replays
from dashboard.security import MAX_BODY_BYTES
from dashboard.services import Services
from dashboard.settings import DashboardSettings
from dashboard.source import Source, Warnings
from dashboard.twin import Twin
from planner.errors import SloError
from planner.replay.runs import RunStore
from planner.slo import Slo, first_fault, load_slo

SOURCE_TIMEOUT_S = 10.0

SHARE_S = 1.0
"""For so long one answer serves all who look at the same; browsers ask every 5 s at most."""


def serve(settings: DashboardSettings, promise: dict[str, float], said: TextIO = sys.stderr) -> None:
    """Serve until SIGINT or SIGTERM. ``promise`` overrides single fields of the SLO. Raises SettingsError."""
    access = read_access(settings)
    if not _is_loopback(settings.host) and access.open:
        raise SettingsError(
            f"--host is {settings.host}; beyond loopback the dashboard needs --auth-token-file or --trusted-proxy"
        )
    source_token = read_token("--source-token-file", settings.source_token_file)
    slo = read_slo(settings.slo, promise)
    prices = load_prices(settings.prices, settings.catalog)
    alerts_token = read_token("--alerts-token-file", settings.alerts_token_file)
    listener = _listen(settings.host, settings.port)
    services = Services(
        Alerting(settings.alerts, alerts_token) if settings.alerts else None, Jobs(), replays_of(settings), prices,
        source_token,
    )  # fmt: skip
    twin = Twin(settings.source, source_token)
    warnings = Warnings()
    client = Client(settings.source, token=source_token, timeout_s=SOURCE_TIMEOUT_S, on_warning=warnings.__setitem__)
    source = Source(client, twin.headroom, warnings=warnings)
    try:
        grafana = Grafana(settings.grafana_url, settings.grafana_datasource)
        app = create_app(
            source, slo, path_prefix=settings.path_prefix, access=access, grafana=grafana, services=services,
            share_s=SHARE_S,
        )  # fmt: skip
        add_metrics(app.server, settings.path_prefix)
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        server = create_server(
            app.server, sockets=[listener], threads=settings.threads, ident="loadline",
            max_request_body_size=settings.max_upload_mb * 1_000_000 + MAX_BODY_BYTES,
        )  # fmt: skip
        signal.signal(signal.SIGTERM, _stop)
        signal.signal(signal.SIGINT, _stop)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        port = listener.getsockname()[1]
        print(f"listening on http://{host}:{port}{settings.path_prefix.rstrip('/')}", file=said, flush=True)
        server.run()
    except SystemExit:
        return
    finally:
        listener.close()
        services.close()
        twin.close()
        source.close()


def read_access(settings: DashboardSettings) -> Access:
    """Who may reach the dashboard, and as what. Raises SettingsError."""
    return Access(
        read_token("--auth-token-file", settings.auth_token_file),
        read_token("--operator-token-file", settings.operator_token_file),
        tuple(ip_network(network) for network in settings.trusted_proxy),
        settings.user_header,
        frozenset(settings.operators),
    )


def replays_of(settings: DashboardSettings) -> Replays:
    """Runs, traces and targets as the settings name them."""
    folders = tuple(settings.traces)
    return Replays(
        RunStore(settings.runs), folders, settings.uploads, settings.replay_targets, settings.max_upload_mb * 1_000_000
    )


def add_metrics(app: Flask, path_prefix: str) -> None:
    """``/metrics``: what the process itself uses, and when it began."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    app.add_url_rule(
        f"{path_prefix}metrics",
        "metrics",
        lambda: Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4),
    )


def read_slo(path: Path | None, promise: dict[str, float]) -> Slo:
    """The promise of a file, or the default one, with single fields replaced. Raises SettingsError."""
    try:
        base = load_slo(path) if path is not None else Slo()
        return Slo.model_validate(base.model_dump() | promise)
    except SloError as error:
        raise SettingsError(f"--slo: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"the promise cannot be used: {first_fault(error)}") from error


def read_token(flag: str, path: Path | None) -> str | None:
    """The token in a file, less the white space around it; None without a file. Raises SettingsError."""
    if path is None:
        return None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{flag}: {path} cannot be read: {error}") from error
    if not token:
        raise SettingsError(f"{flag}: {path} is empty")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except CollectorError as error:
        raise SettingsError(str(error)) from error


def _stop(signum: int, frame: FrameType | None) -> Any:
    raise SystemExit(0)
