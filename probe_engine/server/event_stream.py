"""An ASGI response that writes tokens as they come and lets go of the request when the client does."""

import asyncio
from collections.abc import MutableMapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from probe_engine.runtime.async_engine import OutputStream
from probe_engine.server.answers import Chunks, error_body, error_code

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def close_on_disconnect(stream: OutputStream, receive: Receive) -> None:
    """Wait until the client is gone, then abort what ``stream`` still waits for."""
    message: MutableMapping[str, object] = {}
    while message.get("type") != "http.disconnect":
        message = await receive()
    stream.close()


class EventStream(Response):
    """Streams ``stream`` as ``chunks``: one write per batch (one engine step), one event per token."""

    def __init__(self, stream: OutputStream, chunks: Chunks) -> None:
        self.status_code = 200
        self.background = None
        self._stream = stream
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run until the last token, the first error, or the client's leaving."""
        watcher = asyncio.create_task(close_on_disconnect(self._stream, receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await self._write(send)
        finally:
            watcher.cancel()
            self._stream.close()

    async def _write(self, send: Send) -> None:
        chunks, index = self._chunks, self._stream.index
        body = chunks.opening(len(index))
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        last = chunks.closing
        async for batch in self._stream:
            failed = next((output for output in batch if output.error is not None), None)
            if failed is not None:
                error = error_body(failed.error or "", "server_error", None, error_code(failed))
                await send({"type": "http.response.body", "body": chunks.failure(error), "more_body": False})
                return
            body = b"".join([chunks.event(index[output.request_id], output) for output in batch])
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": last(), "more_body": False})
