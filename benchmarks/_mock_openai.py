"""An OpenAI-compatible server that costs next to nothing, so that what is measured is the client.

It answers completions and chats with as many one-token events as asked for, all at once or one every so often, and
notes when each request had arrived. ``python -m benchmarks._mock_openai --port 0`` prints its address, answers
``GET /arrivals`` with ``[[request id, seconds since the first], ...]`` and ends when its standard input does.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httptools
import orjson

COMPLETION = (
    b'data: {"id":"%b","object":"text_completion","choices":[{"index":0,"text":" x","finish_reason":null}]}\n\n'
)
CHAT = b'data: {"id":"%b","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":" x"}}]}\n\n'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
MODELS = {"object": "list", "data": [{"id": "mock", "object": "model", "max_model_len": 131072}]}


@dataclass
class Mock:
    """How it answers: ``ttft_s`` before the first token, ``gap_s`` between tokens; nothing is answered before
    ``stalled_until`` (monotonic); every ``fail_every``-th request is refused.

    ``arrivals`` is (request id, monotonic seconds) of every completion, in the order in which they were read whole.
    """

    ttft_s: float = 0.0
    gap_s: float = 0.0
    stalled_until: float = 0.0
    fail_every: int = 0
    arrivals: list[tuple[str, float]] = field(default_factory=list)
    open: set[asyncio.Transport] = field(default_factory=set)


class _Connection(asyncio.Protocol):
    def __init__(self, mock: Mock) -> None:
        self._mock = mock
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._url = b""
        self._id = ""
        self._now = 0.0
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Future[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._mock.open.add(transport)

    def connection_lost(self, _: Exception | None) -> None:
        if self._transport is not None:
            self._mock.open.discard(self._transport)
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._now = time.monotonic()
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._body, self._url, self._id = [], b"", ""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-request-id":
            self._id = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0]
        if path in (b"/v1/completions", b"/v1/chat/completions"):
            self._mock.arrivals.append((self._id, self._now))
            answer = self._complete(orjson.loads(b"".join(self._body)), path.endswith(b"chat/completions"))
            task = asyncio.ensure_future(answer)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif path == b"/v1/models":
            self._plain(200, orjson.dumps(MODELS))
        elif path == b"/arrivals":
            begin = self._mock.arrivals[0][1] if self._mock.arrivals else 0.0
            self._plain(200, orjson.dumps([[name, at - begin] for name, at in self._mock.arrivals]))
        else:
            self._plain(200 if path == b"/health" else 404, b"{}")

    def _plain(self, status: int, body: bytes) -> None:
        self._write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
            + body
        )

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _complete(self, asked: dict[str, object], chat: bool) -> None:
        mock = self._mock
        if mock.fail_every and len(mock.arrivals) % mock.fail_every == 0:
            self._plain(500, b'{"error":{"message":"as planned"}}')
            return
        wait_s = max(mock.ttft_s, mock.stalled_until - time.monotonic())
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        count = int(str(asked.get("max_completion_tokens") or asked.get("max_tokens") or 1))
        one = _chunk((CHAT if chat else COMPLETION) % self._id.encode())
        prompt = asked.get("prompt")
        told = {
            "prompt_tokens": len(prompt) if isinstance(prompt, list) else len(str(prompt).split()),
            "completion_tokens": count,
            "total_tokens": count,
        }
        usage = _chunk(b"data: " + orjson.dumps({"id": self._id, "choices": [], "usage": told}) + b"\n\n")
        tail = usage + _chunk(b"data: [DONE]\n\n") + END
        if not asked.get("stream"):
            self._plain(200, orjson.dumps({"choices": [{"text": " x" * count}], "usage": told}))
        elif mock.gap_s <= 0:
            self._write(HEAD + one * count + tail)
        else:
            self._write(HEAD + one)
            for _ in range(count - 1):
                await asyncio.sleep(mock.gap_s)
                self._write(one)
            self._write(tail)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@asynccontextmanager
async def serving(mock: Mock, port: int = 0) -> AsyncIterator[str]:
    """Serve ``mock`` on loopback; its address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(mock), "127.0.0.1", port, backlog=4096)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for transport in list(mock.open):
            transport.abort()
        await asyncio.sleep(0)


async def _serve(mock: Mock, port: int) -> None:
    async with serving(mock, port) as url:
        print(url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ttft-s", type=float, default=0.0)
    parser.add_argument("--gap-s", type=float, default=0.0)
    chosen = parser.parse_args()
    asyncio.run(_serve(Mock(ttft_s=chosen.ttft_s, gap_s=chosen.gap_s), chosen.port))


if __name__ == "__main__":
    main()
