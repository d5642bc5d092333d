"""The collector as one process: scraping, telemetry, upkeep and the API on one event loop, and a clean stop."""

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

import httpx
import uvicorn
from starlette.types import ASGIApp

from collector.api.app import create_app, create_otlp_app
from collector.api.parts import Parts
from collector.forward.forwarding import Forwarding
from collector.forward.settings import ForwardSettings, forward_settings
from collector.gpu.nvml import Nvml
from collector.host.readings import Psutil
from collector.host.telemetry import Telemetry, node_exporter_covers
from collector.ingest.feedback import FeedbackReceiver, Requests
from collector.ingest.feedback_metrics import FeedbackMetrics
from collector.ingest.otlp_receiver import OtlpReceiver
from collector.ingest.remote_write import RemoteWriteReceiver
from collector.ingest.span_metrics import SpanMetrics
from collector.model.errors import ConfigError, StoreError
from collector.model.listening import listen
from collector.promql import Limits
from collector.scrape.access import Clients
from collector.scrape.configuration import Configuration, read_configuration, with_fixed
from collector.scrape.live import LiveConfiguration
from collector.scrape.loop import every
from collector.scrape.scraper import ScrapeSink
from collector.scrape.scraping import Scraping
from collector.scrape.target import parse_target
from collector.settings import CollectorSettings, milliseconds, seconds
from collector.store import LogStore, SpanStore, Store

UPKEEP_INTERVAL_S = 60.0
STOP_GRACE_S = 1.0
"""How long running scrapes and requests may take to end after a stop is asked for."""

KEEP_ALIVE_S = 75
"""Longer than any usual refresh, so that no client meets a closing connection."""

SWITCH_S = 0.001
"""How long a thread may go on while another waits for the interpreter: an append asks for it several times, and queries
that compute in threads would have it wait five times as long with Python's 5 ms."""

_log = logging.getLogger(__name__)


def configuration_of(settings: CollectorSettings) -> Configuration:
    """The configuration file that the settings name, with the targets of the settings themselves.

    ConfigError where the file cannot be used or a target is given twice.
    """
    interval_s, timeout_s = seconds(settings.interval), seconds(settings.timeout)
    targets = tuple(parse_target(text, interval_s=interval_s, timeout_s=timeout_s) for text in settings.scrape)
    for target, count in Counter(targets).items():
        if count > 1:
            raise ConfigError(f"target {target.url} (job {target.job}) is given {count} times")
    read = Configuration() if settings.config is None else read_configuration(settings.config)
    return with_fixed(read, targets)


def forward_of(settings: CollectorSettings, configuration: Configuration) -> ForwardSettings:
    """Where to pass on what is received; ConfigError where it cannot be used."""
    return forward_settings(
        settings.forward_remote_write,
        settings.forward_otlp,
        settings.forward_token_file,
        settings.forward_config,
        configuration.remote_write,
    )


def token_of(settings: CollectorSettings) -> str | None:
    """The bearer token, if one is set; ConfigError where it cannot be read, or is needed and absent."""
    path = settings.auth_token_file
    if path is None:
        if not _is_loopback(settings.host):
            raise ConfigError(f"host is {settings.host}; listening beyond this machine needs --auth-token-file")
        return None
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"auth token file {path}: cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"auth token file {path}: is empty")
    return token


async def serve(settings: CollectorSettings, say: Callable[[str], None]) -> None:
    """Run until SIGINT or SIGTERM; ``say`` is told the address once requests are answered.

    Raises ConfigError or StoreError where it cannot start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    token = token_of(settings)
    forward_of(settings, configuration_of(settings))
    with contextlib.ExitStack() as sockets:
        ports = [(sockets.enter_context(listen(settings.host, settings.port)), create_app)]
        if settings.otlp_port is not None:
            ports.append(
                (sockets.enter_context(listen(settings.host, settings.otlp_port, "--otlp-port")), create_otlp_app)
            )
        async with opened(settings) as (parts, scraping):
            servers = [_Server(create(parts, token, settings.cors_origin), listener) for listener, create in ports]
            with _grpc(settings, parts, token):
                await _run(settings, parts, scraping, servers, stop, say)


@contextlib.asynccontextmanager
async def opened(settings: CollectorSettings) -> AsyncIterator[tuple[Parts, Scraping]]:
    """The collector's parts over an open store; closed when the block ends, after every thread has."""
    limits = Limits(max_samples=settings.query_max_samples, timeout_s=seconds(settings.query_timeout))
    async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as http:
        clients = Clients()
        with (
            _open_store(settings) as store,
            Forwarding(settings.data / "forward", clients.open) as forwarding,
        ):
            sink, spans, logs = forwarding.tee(store), SpanStore(store.database), LogStore(store.database)
            span_metrics = SpanMetrics(sink) if settings.span_metrics else None
            requests = Requests(spans)
            scraping = Scraping(sink, clients)

            async def apply(configuration: Configuration) -> None:
                forward = forward_of(settings, configuration)
                for to in (*forward.remote_write, *forward.otlp):
                    clients.check(to.access)
                await scraping.apply(configuration)
                try:
                    forwarding.apply(forward, configuration.external_labels)
                except StoreError as error:
                    raise ConfigError(str(error)) from error
                for remark in forward.remarks:
                    _log.info("%s", remark)

            configuration = LiveConfiguration(lambda: configuration_of(settings), apply)
            await configuration.load()
            try:
                parts = Parts(
                    store=store,
                    spans=spans,
                    receiver=RemoteWriteReceiver(sink, settings.max_body_bytes),
                    logs=logs,
                    feedback=FeedbackReceiver(requests, logs, FeedbackMetrics(sink), time.time),
                    otlp=OtlpReceiver(sink, spans, logs, span_metrics, forwarding.pass_on, requests),
                    forwarding=forwarding,
                    span_metrics=span_metrics,
                    http=http,
                    pools=scraping.pools,
                    configuration=configuration,
                    flags=settings.as_texts(),
                    alerts_url=settings.alerts_url,
                    limits=limits,
                    lookback_ms=round(seconds(settings.lookback) * 1000),
                    left_open=settings.left_open,
                    delayed_name_removal=settings.delayed_name_removal,
                    max_body_bytes=settings.max_body_bytes,
                )
                yield parts, scraping
            finally:
                await asyncio.get_running_loop().shutdown_default_executor()


def _open_store(settings: CollectorSettings) -> Store:
    downsample_after = settings.downsample_after
    return Store.open(
        settings.data,
        retention_ms=milliseconds(settings.retention),
        retention_bytes=settings.retention_bytes,
        downsample_after_ms=None if downsample_after is None else milliseconds(downsample_after),
        out_of_order_ms=milliseconds(settings.out_of_order),
        cache_bytes=settings.cache_bytes,
    )


async def _run(
    settings: CollectorSettings,
    parts: Parts,
    scraping: Scraping,
    servers: "list[_Server]",
    stop: asyncio.Event,
    say: Callable[[str], None],
) -> None:
    tasks = [asyncio.create_task(work) for work in _works(settings, parts, scraping, stop)]
    serving = [asyncio.create_task(server.serve(stop)) for server in servers]
    started = asyncio.create_task(_announce(servers, say))
    stopped = asyncio.create_task(_wait(stop))
    try:
        await asyncio.wait([stopped, *serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        parts.stopping.set()
        started.cancel()
        _, late = await asyncio.wait([*tasks, *serving], timeout=STOP_GRACE_S)
        for task in late:
            task.cancel()
        ended = await asyncio.gather(*tasks, *serving, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome


async def _announce(servers: "list[_Server]", say: Callable[[str], None]) -> None:
    for server in servers:
        await server.is_up.wait()
    say(f"listening on http://{_address(servers[0].listener)}")


async def _wait(stop: asyncio.Event) -> None:
    await stop.wait()


def _works(
    settings: CollectorSettings, parts: Parts, scraping: Scraping, stop: asyncio.Event
) -> Iterator[Coroutine[object, object, None]]:
    yield scraping.run(stop)
    yield _reload_on_hangup(parts.configuration, stop)
    sink: ScrapeSink = parts.store
    if parts.forwarding is not None:
        sink = parts.forwarding.tee(parts.store)
        yield parts.forwarding.run(stop)
    if parts.span_metrics is not None:
        yield _write_counts(seconds(settings.interval), "span metrics", parts.span_metrics.write, stop)
    yield _write_counts(seconds(settings.interval), "feedback", parts.feedback.metrics.write, stop)
    if settings.telemetry:
        yield _observe_machine(seconds(settings.interval), sink, parts.store, stop)
    yield every(UPKEEP_INTERVAL_S, time.time() % UPKEEP_INTERVAL_S, Upkeep(parts.store).run, stop)


async def _reload_on_hangup(configuration: LiveConfiguration, stop: asyncio.Event) -> None:
    """Read the configuration again at each SIGHUP."""
    asked = asyncio.Queue[None]()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, asked.put_nowait, None)
    stopped = asyncio.create_task(stop.wait())
    try:
        while not stop.is_set():
            hangup = asyncio.create_task(asked.get())
            await asyncio.wait((hangup, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not hangup.done():
                hangup.cancel()
                return
            with contextlib.suppress(ConfigError):
                await configuration.reload()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        stopped.cancel()


@contextlib.contextmanager
def _grpc(settings: CollectorSettings, parts: Parts, token: str | None) -> Iterator[None]:
    """OTLP over gRPC for the length of a block, where a port is set for it."""
    if settings.otlp_grpc_port is None:
        yield
        return
    from collector.ingest.otlp_grpc import OtlpGrpcServer

    server = OtlpGrpcServer(parts.otlp, settings.host, settings.otlp_grpc_port, settings.max_body_bytes, token)
    server.start()
    try:
        yield
    finally:
        server.stop()


async def _write_counts(interval_s: float, what: str, write: Callable[[int], None], stop: asyncio.Event) -> None:
    async def one(timestamp_ms: int) -> None:
        try:
            await asyncio.to_thread(write, timestamp_ms)
        except StoreError as error:
            _log.warning("%s: %s", what, error)

    await every(interval_s, 0.0, one, stop)


async def _observe_machine(interval_s: float, sink: ScrapeSink, store: Store, stop: asyncio.Event) -> None:
    node = socket.gethostname()
    is_covered = node_exporter_covers(store, node)
    telemetry = await asyncio.to_thread(Telemetry, sink, Psutil(), Nvml, node, is_covered)
    try:
        await every(interval_s, 0.0, telemetry.record, stop)
    finally:
        telemetry.close()


class Upkeep:
    """Lets the store cut, retire and tidy; trouble is said when it begins."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._trouble = False

    async def run(self, timestamp_ms: int) -> None:
        """Do it once."""
        try:
            await asyncio.to_thread(self._store.maintain, timestamp_ms)
            self._trouble = False
        except StoreError as error:
            if not self._trouble:
                _log.warning("store upkeep: %s", error)
            self._trouble = True


class _Server(uvicorn.Server):
    """One application on one bound socket; stops with the event, leaves signals alone."""

    def __init__(self, app: ASGIApp, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
                timeout_graceful_shutdown=1,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self.listener = listener
        self.is_up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    async def serve(self, stop: asyncio.Event) -> None:  # type: ignore[override]
        async def follow() -> None:
            await stop.wait()
            self.should_exit = True

        following = asyncio.create_task(follow())
        try:
            await super().serve([self.listener])
        finally:
            following.cancel()


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
