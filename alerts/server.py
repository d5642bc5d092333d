"""``loadline alerts serve``: puts the parts together, listens, and stops cleanly."""

import logging
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette

from alerts.alert import Alert
from alerts.api import create_app
from alerts.evaluation import Outside
from alerts.group import Group
from alerts.mail import Mail
from alerts.manager import Manager
from alerts.message import Links, Receiver
from alerts.muting import NotifyConfig, Silences, read_notify_config
from alerts.notify import Notifier
from alerts.responses.catalogue import read_catalogue
from alerts.responses.gateway import GatewayAdmin
from alerts.responses.journal import Journal, open_journal
from alerts.responses.responder import Responder
from alerts.rule import AlertRule, RuleGroup
from alerts.rulefile import load_rule_file, packs
from alerts.settings import AlertsSettings
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback
from collector.client import Client
from collector.model.errors import ConfigError
from collector.model.listening import listen

_log = logging.getLogger(__name__)

NOTIFY_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 75
"""Longer than any usual scrape interval, so that no client meets a closing connection."""


def serve(settings: AlertsSettings) -> None:
    """Evaluate rules and answer over HTTP until SIGINT or SIGTERM.

    Raises ConfigError, AlertsError or SourceError where it cannot start.
    """
    token = _token(settings.auth_token_file)
    if token is None and not _is_loopback(settings.host):
        raise ConfigError(f"host is {settings.host}, which others can reach; --auth-token-file must name a token then")
    local = {"all://127.0.0.1": None, "all://localhost": None}
    with ExitStack() as parts:
        listener = parts.enter_context(listen(settings.host, settings.port))
        client = parts.enter_context(Client(settings.source, token=_token(settings.source_token_file)))
        http = parts.enter_context(httpx.Client(timeout=NOTIFY_TIMEOUT_S, mounts=local))
        state = parts.enter_context(closing(State(settings.state)))
        journal = parts.enter_context(open_journal(settings.journal))
        service = create_service(settings, client, state, http, journal)
        manager = service.manager
        manager.restore()
        parts.callback(manager.stop)
        manager.start()
        app = create_app(
            manager,
            token,
            service.silences,
            responder=service.responder,
            operator_token=_token(settings.operator_token_file),
            query_range=client.query_range,
        )
        _run(app, listener)


@dataclass(frozen=True, slots=True)
class Service:
    """The parts that ``serve`` runs."""

    manager: Manager
    silences: Silences
    responder: Responder


def create_service(
    settings: AlertsSettings, client: Client, state: State, http: httpx.Client, journal: Journal | None = None
) -> Service:
    """Read the rule files and put the parts together. Raises RuleFileError, ConfigError, StateError."""
    telemetry = Telemetry()
    writeback = Writeback(client.write)
    config = _notify_config(settings.notify_config)
    silences = Silences(state, time.time)
    groups: list[Group] = []

    def muted(alert: Alert, now_s: float) -> bool:
        if silences.mutes(alert, now_s):
            return True
        if not config.inhibit_rules:
            return False
        firing = [one for group in groups for status in group.status.rules for one in status.alerts.values()]
        firing = [one for one in firing if one.state == "firing"]
        return any(rule.mutes(alert, firing) for rule in config.inhibit_rules)

    responder = Responder(
        read_catalogue(settings.responses),
        _gateway(settings, http),
        state,
        (lambda _: None) if journal is None else journal.write,
        time.time,
        muted,
        telemetry.responded,
    )
    outside = Outside(settings.external_url)
    for path in settings.rules or packs():
        for group in _read(path):
            groups.append(Group(group, client, writeback, interval_s=settings.interval_s, outside=outside))
    mail = _mail(settings)
    manager = Manager(
        groups,
        state=state,
        notifiers=[Notifier(receiver, state, telemetry, http, mail) for receiver in _receivers(settings, mail)],
        telemetry=telemetry,
        writeback=writeback,
        links=Links(settings.source, settings.external_url),
        pace=config.pace,
        muted=muted,
        responder=responder,
    )
    _warn_of_unknown_responses(groups, responder)
    return Service(manager, silences, responder)


def _gateway(settings: AlertsSettings, http: httpx.Client) -> GatewayAdmin | None:
    token = _token(settings.gateway_token_file)
    return None if settings.gateway is None or token is None else GatewayAdmin(http, settings.gateway, token)


def _warn_of_unknown_responses(groups: Sequence[Group], responder: Responder) -> None:
    for group in groups:
        for rule in group.group.rules:
            wanted = dict(rule.annotations).get("response") if isinstance(rule, AlertRule) else None
            if wanted is not None and wanted not in responder.catalogue:
                known = ", ".join(responder.catalogue)
                _log.warning("%s: alert %s: response is %s; there are %s", group.key, rule.name, wanted, known)


def _receivers(settings: AlertsSettings, mail: Mail | None) -> list[Receiver]:
    receivers = [Receiver("webhook", url) for url in settings.webhook]
    receivers += [Receiver("alertmanager", url) for url in settings.alertmanager]
    if slack := _token(settings.slack_url_file):
        if not slack.startswith(("http://", "https://")):
            raise ConfigError(f"{settings.slack_url_file}: holds no address that begins with https://")
        receivers.append(Receiver("slack", "incoming webhook", slack))
    if key := _token(settings.pagerduty_key_file):
        receivers.append(Receiver("pagerduty", settings.pagerduty_url, key))
    if mail is not None:
        receivers.append(Receiver("email", f"{settings.smtp} to {', '.join(mail.recipients)}"))
    return receivers


def _mail(settings: AlertsSettings) -> Mail | None:
    if not settings.email_to:
        return None
    host, _, port = settings.smtp.rpartition(":")
    password = _token(settings.smtp_password_file) or ""
    return Mail(host, int(port), settings.email_from, settings.email_to, settings.smtp_user, password)


def _notify_config(path: Path | None) -> NotifyConfig:
    if path is None:
        return NotifyConfig()
    try:
        return read_notify_config(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


def _read(path: Path) -> tuple[RuleGroup, ...]:
    """Groups of a file under its whole path: what is remembered of them must not depend on how it was spelled."""
    try:
        read = load_rule_file(path.resolve())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    for warning in read.warnings:
        _log.warning("%s", warning)
    return read.groups


def _run(app: Starlette, listener: socket.socket) -> None:
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=1,
        timeout_keep_alive=KEEP_ALIVE_S,
        lifespan="off",
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    sys.stderr.write(f"listening on http://{shown}:{port}\n")
    sys.stderr.flush()
    uvicorn.Server(config).run(sockets=[listener])


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the token cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"{path}: holds no token")
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
