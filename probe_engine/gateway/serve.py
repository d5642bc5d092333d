"""Run the gateway as a process."""

import asyncio
import socket
import sys
from collections.abc import Mapping

import uvicorn

from probe_engine.gateway.app import Gateway
from probe_engine.gateway.settings import GatewaySettings

GRACE_S = 3  # what streams in flight get to end by themselves at shutdown


def serve(settings: GatewaySettings, tokens: Mapping[str, str | None], listener: socket.socket) -> int:
    """Serve on ``listener`` until SIGINT or SIGTERM; the exit code. Closes it."""
    try:
        return asyncio.run(_serve(settings, tokens, listener))
    finally:
        listener.close()


async def _serve(settings: GatewaySettings, tokens: Mapping[str, str | None], listener: socket.socket) -> int:
    config = uvicorn.Config(
        Gateway(settings, tokens=tokens),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        ws="none",
        lifespan="on",
    )
    server = _Server(config)
    await server.serve(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, and say so when it is done."""
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"listening on http://{shown}:{port}", file=sys.stderr, flush=True)  # noqa: T201
