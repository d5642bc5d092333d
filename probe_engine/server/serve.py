"""Run the server as a process: bind, load, serve, stop."""

import asyncio
import errno
import ipaddress
import signal
import socket
import sys
from importlib import metadata
from pathlib import Path
from types import FrameType

import uvicorn

from probe_engine.errors import SettingsError
from probe_engine.runtime.build import build_engine, model_shape
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.exporter import QuietExporter
from probe_engine.telemetry.metrics import EngineMetrics
from probe_engine.telemetry.tracing import RequestTracer

GRACE_S = 2  # what streams in flight get to end by themselves at shutdown
SWITCH_INTERVAL_S = 0.0005  # how long the event loop may keep the interpreter from the engine's thread
BACKLOG = 2048


def serve(settings: EngineSettings) -> int:
    """Serve until SIGINT or SIGTERM; the exit code.

    Prints ``listening on ...`` to stderr once requests are served. Raises ``SettingsError`` for an address or token
    that cannot be used, ``ModelError`` for a model that cannot be loaded.
    """
    token = read_token(settings)
    listener = bind(settings.host, settings.port)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, _leave)  # uvicorn raises what it caught once more when it has stopped
    try:
        return asyncio.run(_serve(settings, token, listener))
    finally:
        listener.close()


async def _serve(settings: EngineSettings, token: str | None, listener: socket.socket) -> int:
    name = settings.served_model_name or Path(settings.model).resolve().name
    metrics = EngineMetrics(name)
    tracer = None if settings.otlp_endpoint is None else RequestTracer(name, QuietExporter(settings.otlp_endpoint))
    deployment = Deployment(
        name, metrics, version=metadata.version("loadline"), max_queue=settings.max_queue, listener=tracer
    )
    app = create_app(deployment, token=token)
    server = _Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=GRACE_S + 1, ws="none"),
        deployment,
    )

    def load() -> Loaded:
        loaded, engine, phases_s = build_engine(settings, metrics)
        return Loaded(engine, loaded.tokenizer, loaded.dtype, loaded.device, model_shape(loaded), phases_s)

    async def load_and_tell() -> None:
        try:
            await deployment.load(load)
        except BaseException:
            server.should_exit = True
            raise
        host, port = listener.getsockname()[:2]
        print(f"listening on http://{_in_url(host)}:{port}", file=sys.stderr, flush=True)  # noqa: T201

    loading = asyncio.create_task(load_and_tell())
    await server.serve(sockets=[listener])
    if loading.done() and not loading.cancelled():
        loading.result()
    loading.cancel()
    return 0


class _Server(uvicorn.Server):
    """Gives streams in flight ``GRACE_S`` to end by themselves, then ends them with an error."""

    def __init__(self, config: uvicorn.Config, deployment: Deployment) -> None:
        super().__init__(config)
        self._deployment = deployment

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        ending = asyncio.create_task(self._end_streams())
        await super().shutdown(sockets)
        ending.cancel()

    async def _end_streams(self) -> None:
        await asyncio.sleep(GRACE_S)
        await self._deployment.stop()


def bind(host: str, port: int) -> socket.socket:
    """A listening-to-be socket; ``SettingsError`` in one line where the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"{_in_url(host)}:{port} is in use; choose another with --port") from error
        raise SettingsError(f"{_in_url(host)}:{port} cannot be bound: {error.strerror or error}") from error
    return listener


def read_token(settings: EngineSettings) -> str | None:
    """The token that callers must show, None when nobody must; ``SettingsError`` where one is needed and missing."""
    path = settings.auth_token_file
    if path is None:
        if not is_loopback(settings.host):
            raise SettingsError(f"--host {settings.host} is reachable from other machines; give --auth-token-file")
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: the token cannot be read: {error}") from error
    if not token or not token.isascii() or any(character.isspace() for character in token):
        raise SettingsError(f"{path}: holds no token; one line of ASCII without spaces is expected")
    return token


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _leave(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
