"""Run the server as a process: load, serve, stop."""

import asyncio
import socket
import sys
from importlib import metadata

import uvicorn

from probe_engine.model.loading import model_name
from probe_engine.runtime.build import build_engine, model_shape
from probe_engine.server.address import in_url
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.exporter import QuietExporter
from probe_engine.telemetry.metrics import EngineMetrics
from probe_engine.telemetry.tracing import RequestTracer

GRACE_S = 1  # what streams in flight get to end by themselves at shutdown
KEEP_ALIVE_S = 75  # longer than any usual scrape interval, so that no client meets a closing connection
SWITCH_INTERVAL_S = 0.0005  # how long the event loop may keep the interpreter from the engine's thread


def serve(settings: EngineSettings, token: str | None, listener: socket.socket) -> int:
    """Serve on ``listener`` until SIGINT or SIGTERM; the exit code. Closes it.

    Prints ``listening on ...`` to stderr once requests are served. Raises ``ModelError`` or ``SettingsError`` for a
    model that cannot be loaded.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        return asyncio.run(_serve(settings, token, listener))
    finally:
        listener.close()


async def _serve(settings: EngineSettings, token: str | None, listener: socket.socket) -> int:
    name = settings.served_model_name or model_name(settings.model)
    metrics = EngineMetrics(name)
    tracer = None if settings.otlp_endpoint is None else RequestTracer(name, QuietExporter(settings.otlp_endpoint))
    deployment = Deployment(
        name, metrics, version=metadata.version("loadline"), max_queue=settings.max_queue, listener=tracer
    )
    app = create_app(deployment, token=token)
    server = _Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            log_config=None,  # its lines take the form of ours
            timeout_graceful_shutdown=GRACE_S + 1,
            timeout_keep_alive=KEEP_ALIVE_S,
            ws="none",
        ),
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
        print(f"listening on http://{in_url(host)}:{port}", file=sys.stderr, flush=True)  # noqa: T201

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
