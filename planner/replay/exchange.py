"""One streamed completion over HTTP: what was sent, and when each thing came back.

Speaks OpenAI's ``/v1/completions`` with a token-id prompt, as vLLM, SGLang and Loadline's engine take it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson

from planner.trace import IntArray

Clock = Callable[[], float]

DATA = b"data:"
DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Planned:
    """One request to send: when (seconds from the run's start), its id and its body."""

    row_id: int
    due_s: float
    input_tokens: int
    output_tokens: int
    request_id: str
    body: bytes


@dataclass(slots=True)
class Exchange:
    """What became of one request; times on the run's clock, None where the event never came.

    ``sent_s`` is when the last byte of the request was handed to the socket. ``status`` is one of
    ``planner.result.STATUSES``. Token counts are the server's own, None where it did not say.
    """

    row_id: int
    due_s: float
    sent_s: float | None = None
    end_s: float | None = None
    token_times_s: list[float] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    status: str = "unfinished"
    error: str | None = None


def completion_body(model: str, prompt: IntArray, output_tokens: int) -> bytes:
    """JSON body of a streamed greedy completion of exactly ``output_tokens`` tokens."""
    return orjson.dumps(
        {
            "model": model,
            "prompt": prompt.tolist(),
            "max_tokens": output_tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


def open_session(token: str | None, timeout_s: float, clock: Clock) -> aiohttp.ClientSession:
    """A session without a cap on connections, that notes in an Exchange when its request was written."""

    async def written(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
        if isinstance(exchange := context.trace_request_ctx, Exchange):
            exchange.sent_s = clock()

    trace = aiohttp.TraceConfig()
    trace.on_request_chunk_sent.append(written)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {}),
        trace_configs=[trace],
        read_bufsize=2**16,
    )


async def stream_completion(session: aiohttp.ClientSession, url: str, planned: Planned, clock: Clock) -> Exchange:
    """Send one request and read its stream to the end; every failure ends in the exchange's status and error."""
    exchange = Exchange(planned.row_id, planned.due_s)
    try:
        async with session.post(
            url, data=planned.body, headers={"X-Request-Id": planned.request_id}, trace_request_ctx=exchange
        ) as response:
            if response.status == 200:
                await _read_stream(response, exchange, clock)
            else:
                exchange.status = "rejected" if response.status in (429, 503) else "error"
                exchange.error = f"HTTP {response.status}: {_message(await response.read())}"
    except TimeoutError:
        exchange.status, exchange.error = "timeout", "no end within the timeout"
    except aiohttp.ClientError as error:
        exchange.status, exchange.error = "error", f"{type(error).__name__}: {error}"
    except asyncio.CancelledError:
        exchange.status, exchange.error = "cancelled", "the run was stopped"
    exchange.end_s = clock()
    return exchange


async def _read_stream(response: aiohttp.ClientResponse, exchange: Exchange, clock: Clock) -> None:
    rest = b""
    async for chunk in response.content.iter_any():
        now = clock()
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(DATA):
                _take_event(line[len(DATA) :].strip(), exchange, now)
    if exchange.status == "unfinished":
        exchange.status, exchange.error = "error", "the stream ended without [DONE]"


def _take_event(data: bytes, exchange: Exchange, now: float) -> None:
    if data == DONE:
        if exchange.status == "unfinished":
            exchange.status = "ok"
        return
    try:
        event: dict[str, Any] = orjson.loads(data)
    except orjson.JSONDecodeError:
        exchange.status, exchange.error = "error", f"the stream holds what is no JSON: {data[:80]!r}"
        return
    if "error" in event:
        exchange.status, exchange.error = "error", _message(data)
    choices = event.get("choices") or []
    if choices and (choices[0].get("text") or choices[0].get("finish_reason") is None):
        exchange.token_times_s.append(now)
    if usage := event.get("usage"):
        exchange.input_tokens = usage.get("prompt_tokens")
        exchange.output_tokens = usage.get("completion_tokens")
        exchange.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


def _message(body: bytes) -> str:
    """The message of OpenAI's error shape, or the body's first 200 characters."""
    try:
        error = orjson.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")
