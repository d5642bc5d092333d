"""Requests over HTTP/1.1, as cheaply as Python does it: one protocol object per connection, no task per request.

A connection that is idle takes the next request at once; where none is, one is opened. httptools reads the answers.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import httptools

from planner.errors import ReplayError
from planner.replay.events import EventReader
from planner.replay.exchange import PATHS, Endpoint, Exchange, Planned, error_message

OnEnd = Callable[[Exchange], None]
REJECTIONS = (429, 503)


class Wire:
    """Connections to one server. ``zero_s`` is the monotonic time that the exchanges' times count from.

    Texts of answers are kept if ``answers``.
    """

    def __init__(
        self,
        url: str,
        endpoint: Endpoint = "completions",
        *,
        token: str | None,
        timeout_s: float,
        answers: bool = False,
    ) -> None:
        split = urlsplit(url)
        if split.scheme not in ("http", "https") or not split.hostname:
            raise ReplayError(f"{url!r}: is no address of a server, such as http://127.0.0.1:8000")
        if token is not None and not (token.isascii() and token.isprintable()):
            raise ReplayError("the token holds characters that no header may hold")
        self.zero_s = 0.0
        self.timeout_s = timeout_s
        self._answers = answers
        self.host = split.hostname
        self.port = split.port or (443 if split.scheme == "https" else 80)
        self._ssl = ssl.create_default_context() if split.scheme == "https" else None
        self._head = (
            f"POST {split.path.rstrip('/')}{PATHS[endpoint]} HTTP/1.1\r\nHost: {split.netloc.rpartition('@')[2]}\r\n"
            + (f"Authorization: Bearer {token}\r\n" if token else "")
            + "Content-Type: application/json\r\nAccept: text/event-stream\r\nX-Request-Id: "
        ).encode()
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening: dict[asyncio.Task[None], Exchange] = {}

    async def open(self, count: int) -> None:
        """Open connections ahead; those that cannot be opened are left to the requests that need them."""
        await asyncio.gather(*(self._connect() for _ in range(count)), return_exceptions=True)

    def start(self, planned: Planned, on_end: OnEnd) -> Exchange:
        """Send a request now. Every failure ends in the exchange's status and error; ``on_end`` is called once."""
        exchange = Exchange(planned.row_id, planned.due_s, answer=[] if self._answers else None)
        head = self._head + f"{planned.request_id}\r\nContent-Length: {len(planned.body)}\r\n\r\n".encode()
        message = head + planned.body
        if self._idle:
            self._idle.pop().send(message, exchange, on_end)
        else:
            self._send_on_new(message, exchange, on_end)
        return exchange

    def cancel(self) -> None:
        """End everything under way as cancelled."""
        for task in list(self._opening):
            task.cancel()
        for connection in list(self._all):
            connection.fail("cancelled", "the run was stopped")

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._all):
            connection.close()

    def now(self) -> float:
        """Seconds on the run's clock."""
        return time.monotonic() - self.zero_s

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Connection(self), self.host, self.port, ssl=self._ssl)

    def _send_on_new(self, message: bytes, exchange: Exchange, on_end: OnEnd) -> None:
        task = asyncio.create_task(self._open_for(message, exchange, on_end))
        self._opening[task] = exchange
        task.add_done_callback(partial(self._opened, on_end))

    async def _open_for(self, message: bytes, exchange: Exchange, on_end: OnEnd) -> None:
        async with asyncio.timeout(self.timeout_s):
            while not self._idle:  # another request may have taken the one that was opened
                await self._connect()
        self._idle.pop().send(message, exchange, on_end)

    def _opened(self, on_end: OnEnd, task: "asyncio.Task[None]") -> None:
        exchange = self._opening.pop(task)
        if task.cancelled():
            exchange.status, exchange.error = "cancelled", "the run was stopped"
        elif isinstance(error := task.exception(), TimeoutError):
            exchange.status, exchange.error = "timeout", "no connection within the timeout"
        elif error is not None:
            exchange.status, exchange.error = "error", f"{type(error).__name__}: {error}"
        else:
            return
        exchange.end_s = self.now()
        on_end(exchange)

    def made(self, connection: "_Connection") -> None:
        """A connection is open, and idle."""
        self._all.add(connection)
        self._idle.append(connection)

    def freed(self, connection: "_Connection") -> None:
        """A connection has done its request and may take another."""
        self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """A connection is closed."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def again(self, message: bytes, exchange: Exchange, on_end: OnEnd) -> None:
        """A kept connection was closed by the server before it read the request: send it on a new one."""
        exchange.sent_s = None
        self._send_on_new(message, exchange, on_end)


class _Connection(asyncio.Protocol):
    """One request after another; what the parser finds goes into the exchange."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._events: EventReader | None = None
        self._on_end: OnEnd | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._message = b""
        self._body: list[bytes] = []
        self._status = 0
        self._served = 0
        self._now = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # resume_writing then tells when the last byte is out
        self._wire.made(self)

    def send(self, message: bytes, exchange: Exchange, on_end: OnEnd) -> None:
        assert self._transport is not None
        self._exchange, self._on_end, self._message = exchange, on_end, message
        self._events = None
        self._status = 0
        self._body = []
        self._transport.write(message)
        if not self._transport.get_write_buffer_size():
            exchange.sent_s = self._wire.now()
        self._timer = asyncio.get_running_loop().call_later(self._wire.timeout_s, self._timed_out)

    def resume_writing(self) -> None:
        if self._exchange is not None and self._exchange.sent_s is None:
            self._exchange.sent_s = self._wire.now()

    def data_received(self, data: bytes) -> None:
        self._now = self._wire.now()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.fail("error", f"the answer is no HTTP: {error}")

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._status == 200 and self._exchange is not None:
            self._events = EventReader(self._exchange)

    def on_body(self, body: bytes) -> None:
        if self._events is not None:
            self._events.feed(body, self._now)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._status < 200 or self._exchange is None:
            return
        self._answered()
        if self._parser.should_keep_alive():
            self._wire.freed(self)
        else:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._wire.lost(self)
        self._transport = None
        if self._exchange is None:
            return
        if self._status:
            self._answered()  # an answer without a length ends with its connection
        elif self._served:
            exchange, on_end = self._taken()
            self._wire.again(self._message, exchange, on_end)
        else:
            self.fail("error", f"the connection was closed before an answer{f': {error}' if error else ''}")

    def fail(self, status: str, error: str) -> None:
        """End what is under way, if anything, and close."""
        if self._exchange is not None:
            exchange, on_end = self._taken()
            exchange.status, exchange.error = status, error
            exchange.end_s = self._wire.now()
            self.close()
            on_end(exchange)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _timed_out(self) -> None:
        self.fail("timeout", "no end within the timeout")

    def _answered(self) -> None:
        exchange, on_end = self._taken()
        self._served += 1
        if self._events is not None:
            self._events.end()
        else:
            exchange.status = "rejected" if self._status in REJECTIONS else "error"
            exchange.error = f"HTTP {self._status}: {error_message(b''.join(self._body))}"
        exchange.end_s = self._wire.now()
        on_end(exchange)

    def _taken(self) -> tuple[Exchange, OnEnd]:
        """What was under way; nothing is from now on."""
        exchange, on_end = self._exchange, self._on_end
        assert exchange is not None
        assert on_end is not None
        self._exchange = self._on_end = None
        if self._timer is not None:
            self._timer.cancel()
        return exchange, on_end
