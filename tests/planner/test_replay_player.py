"""The open loop and one exchange, against a real HTTP server that answers as told."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import orjson
import pytest
from aiohttp import web

from planner.errors import ReplayError
from planner.replay.exchange import Exchange, Planned, body_of
from planner.replay.lag import verdict
from planner.replay.player import Player
from planner.replay.script import Script
from planner.replay.session import Playing, replay, tabulate
from planner.replay.wire import Wire
from planner.traces.trace import from_lengths

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(text: str = "x", **more: object) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"text": text, "finish_reason": None}]} | more) + b"\n\n"


def usage(prompt: int, completion: int) -> bytes:
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": {"cached_tokens": 2}}
    return b"data: " + orjson.dumps({"choices": [], "usage": told}) + b"\n\n"


async def streaming(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(asked["max_tokens"]):
        await response.write(event())
    await response.write(usage(len(asked["prompt"]), asked["max_tokens"]) + b"data: [DONE]\n\n")
    return response


async def models(_: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "tiny", "max_model_len": 64}]})


@asynccontextmanager
async def serving(handler: Handler):
    app = web.Application()
    app.router.add_post("/v1/completions", handler)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def planned(row: int, due_s: float, output_tokens: int = 3) -> Planned:
    body = body_of("completions", "tiny", np.arange(5), output_tokens)
    return Planned(row, due_s, f"r-{row}", body)


async def exchange_with(handler: Handler, timeout_s: float = 30.0) -> Exchange:
    async with serving(handler) as url:
        return await exchanged(Wire(url, token=None, timeout_s=timeout_s))


async def exchanged(wire: Wire) -> Exchange:
    done: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
    wire.start(planned(1, 0.0), done.set_result)
    try:
        return await done
    finally:
        wire.close()
        await asyncio.sleep(0)


def test_a_stream_gives_its_tokens_times_and_the_servers_own_counts():
    exchange = asyncio.run(exchange_with(streaming))
    assert (exchange.status, exchange.error) == ("ok", None)
    assert (exchange.input_tokens, exchange.output_tokens, exchange.cached_tokens) == (5, 3, 2)
    assert len(exchange.token_times_s) == 3
    assert exchange.sent_s is not None
    assert exchange.sent_s <= exchange.token_times_s[0] <= exchange.token_times_s[-1] <= (exchange.end_s or 0)


@pytest.mark.parametrize(("status", "expected"), [(429, "rejected"), (503, "rejected"), (400, "error"), (500, "error")])
def test_a_refusal_keeps_the_servers_message(status: int, expected: str):
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "too long"}}, status=status)

    exchange = asyncio.run(exchange_with(refuse))
    assert (exchange.status, exchange.error) == (expected, f"HTTP {status}: too long")


def test_a_stream_that_ends_without_done_is_an_error():
    async def torn(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event())
        return response

    exchange = asyncio.run(exchange_with(torn))
    assert (exchange.status, exchange.error) == ("error", "the stream ended without [DONE]")


def test_an_error_event_inside_a_stream_is_an_error():
    async def failing(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(event() + b'data: {"error": {"message": "out of memory"}}\n\ndata: [DONE]\n\n')
        return response

    exchange = asyncio.run(exchange_with(failing))
    assert (exchange.status, exchange.error) == ("error", "out of memory")


@pytest.mark.parametrize(
    ("line", "error"),
    [(b"data: 5", "the stream holds what is no event: b'5'"), (b"data: {", "the stream holds what is no JSON: b'{'")],
)
def test_a_stream_of_something_else_is_an_error(line: bytes, error: str):
    async def odd(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line + b"\n\ndata: [DONE]\n\n")
        return response

    exchange = asyncio.run(exchange_with(odd))
    assert (exchange.status, exchange.error) == ("error", error)


def test_a_server_that_does_not_end_is_given_up():
    async def stalled(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        raise AssertionError

    exchange = asyncio.run(exchange_with(stalled, timeout_s=0.2))
    assert exchange.status == "timeout"


def test_a_server_that_is_gone_is_an_error_and_no_exception():
    async def gone() -> Exchange:
        return await exchanged(Wire("http://127.0.0.1:9", token=None, timeout_s=5.0))

    exchange = asyncio.run(gone())
    assert (exchange.status, exchange.sent_s) == ("error", None)
    assert "ConnectionRefusedError" in (exchange.error or "")


async def played(plan: list[Planned], start, cancel=lambda: None, stop: asyncio.Event | None = None):
    return await Player(Script(plan), start, cancel, time.monotonic()).play(stop or asyncio.Event())


def test_nothing_waits_for_an_answer_before_sending():
    async def scenario() -> tuple[list[Exchange], int]:
        under_way: list = []

        def start(one: Planned, on_end) -> Exchange:
            exchange = Exchange(one.row_id, one.due_s, status="ok")
            under_way.append((exchange, on_end))
            if len(under_way) == 20:
                for each, ended in under_way:
                    asyncio.get_running_loop().call_soon(ended, each)
            return exchange

        return await played([planned(row, row * 0.001) for row in range(20)], start), len(under_way)

    exchanges, at_once = asyncio.run(scenario())
    assert at_once == 20
    assert [exchange.row_id for exchange in exchanges] == list(range(20))


def test_nothing_is_sent_before_it_is_due():
    async def scenario() -> list[float]:
        early = []
        zero = time.monotonic()

        def start(one: Planned, on_end) -> Exchange:
            early.append(zero + one.due_s - time.monotonic())
            exchange = Exchange(one.row_id, one.due_s, status="ok")
            asyncio.get_running_loop().call_soon(on_end, exchange)
            return exchange

        script = Script(planned(row, row * 0.0037) for row in range(30))
        await Player(script, start, lambda: None, zero).play(asyncio.Event())
        return early

    assert max(asyncio.run(scenario())) <= 0


def test_stopping_keeps_everything_that_was_sent():
    async def scenario() -> list[Exchange]:
        stop = asyncio.Event()
        under_way = []

        def start(one: Planned, on_end) -> Exchange:
            exchange = Exchange(one.row_id, one.due_s)
            under_way.append((exchange, on_end))
            if one.row_id == 2:
                stop.set()
            return exchange

        def cancel() -> None:
            for exchange, on_end in under_way:
                exchange.status = "cancelled"
                on_end(exchange)

        plan = [planned(row, row * 0.001) for row in range(3)] + [planned(9, 3600.0)]
        return await played(plan, start, cancel, stop)

    assert [(one.row_id, one.status) for one in asyncio.run(scenario())] == [
        (0, "cancelled"), (1, "cancelled"), (2, "cancelled"),
    ]  # fmt: skip


class Silent:
    def started(self, target: object, outline: object) -> None: ...
    def sent(self, count: int = 1) -> None: ...
    def ended(self, exchange: object) -> None: ...


def test_every_request_of_the_trace_is_in_the_run():
    async def scenario():
        async with serving(streaming) as url:
            trace = from_lengths(np.linspace(0, 0.3, 50), np.full(50, 6), np.full(50, 4))
            return await replay(trace, Playing(url, watch_server=False), Silent(), asyncio.Event())

    run = asyncio.run(scenario())
    assert run.requests.row_id.tolist() == list(range(50))
    assert run.summary().by_status == {"ok": 50}
    assert run.requests.output_tokens.tolist() == [4] * 50
    assert run.header.details["prompt_token_error"] == 0
    assert run.header.details["planned"] == 50


def test_a_server_without_models_is_refused_in_one_line():
    async def scenario(url: str, model: str | None) -> None:
        await replay(from_lengths([0.0], [1], [1]), Playing(url, model=model), Silent(), asyncio.Event())

    with pytest.raises(ReplayError, match=r"/v1/models: .*OpenAI-compatible"):
        asyncio.run(scenario("http://127.0.0.1:9", None))

    async def wrong_model() -> None:
        async with serving(streaming) as url:
            await scenario(url, "huge")

    with pytest.raises(ReplayError, match="does not serve 'huge'; it serves tiny"):
        asyncio.run(wrong_model())


def test_a_constant_delay_of_the_client_is_reported_and_makes_the_run_invalid():
    plan = [planned(row, row * 0.1) for row in range(10)]
    exchanges = [Exchange(p.row_id, p.due_s, p.due_s + 0.05, p.due_s + 1, [p.due_s + 0.5], 5, 1, 0, "ok") for p in plan]
    told = verdict(tabulate(exchanges, {}))
    assert told["lag"]["p50_s"] == pytest.approx(0.05)
    assert told["valid"] is False
    assert "p99 schedule lag 50.00 ms" in told["reasons"][0]


def test_a_request_that_was_never_sent_makes_the_run_invalid():
    exchanges = [Exchange(0, 0.0, 0.0001, 1.0, [0.5], 5, 1, 0, "ok")]
    assert verdict(tabulate(exchanges, {}))["valid"] is True
    assert "1 requests were not sent" in verdict(tabulate(exchanges, {}), missing=1)["reasons"][0]
