"""The gateway in front of real replicas over loopback: slow, failing, busy, dying and dead ones."""

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from prometheus_client import generate_latest

from collector.signals import load_dialects
from probe_engine.gateway.app import Gateway
from probe_engine.gateway.catalog import METRICS
from probe_engine.gateway.settings import GatewaySettings

EVENT = b'data: {"choices":[{"text":"x"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"total_tokens":40}}\n\n'
DONE = b"data: [DONE]\n\n"
BODY = {"model": "m", "prompt": "hello", "max_tokens": 8}


class FakeReplica:
    """A real HTTP server that answers as an engine does, or misbehaves as ``mood`` says."""

    def __init__(self, mood: str = "well") -> None:
        self.mood = mood
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.go_on = asyncio.Event()
        self.reached = asyncio.Event()
        self.left = asyncio.Event()
        self.at_once = self.most_at_once = 0
        self.waiting = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/v1/completions", self._generate)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metadata", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append(body)
        self.headers.append(dict(request.headers))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(request, body)
        except asyncio.CancelledError:
            self.left.set()
            raise
        finally:
            self.at_once -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        self.reached.set()
        if self.mood == "dies":
            request.transport.abort()
            return web.Response()
        if self.mood == "failing":
            return web.json_response({"error": {"message": "broken"}}, status=500)
        if self.mood == "busy":
            return web.json_response({"error": {"message": "full"}}, status=429, headers={"retry-after": "7"})
        if self.mood == "slow":
            await self.go_on.wait()
        if body.get("stream"):
            return await self._stream(request)
        return web.json_response({"choices": [{"text": "x"}], "usage": {"total_tokens": 20}})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        if self.mood == "dies before the first event":
            request.transport.abort()
            return response
        await response.write(EVENT)
        if self.mood == "dies mid-stream":
            request.transport.abort()
            return response
        if self.mood == "waits mid-stream":
            await self.go_on.wait()
        await response.write(EVENT + USAGE + DONE)
        return response

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "m"}], "query": dict(request.query)})

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=503 if self.mood == "unwell" else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f'vllm:num_requests_waiting{{model_name="m"}} {self.waiting}\n')


class Fleet:
    """A gateway, its replicas, and a client of it."""

    def __init__(self, gateway: Gateway, client: httpx.AsyncClient, replicas: list[FakeReplica]) -> None:
        self.gateway = gateway
        self.client = client
        self.replicas = replicas

    async def ask(self, body: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        return await self.client.post("/v1/completions", json=BODY | (body or {}), headers=headers)

    def count(self, name: str, **labels: str) -> float:
        return self.gateway.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def fleet(*moods: str, tokens: dict[str, str] | None = None, dead: int = 0, **options):
    replicas = [FakeReplica(mood) for mood in moods]
    for replica in replicas:
        await replica.start()
    urls = [replica.url for replica in replicas]
    holes = []
    for _ in range(dead):  # bound and not listening: a connection is refused, and nobody else gets the port
        hole = socket.socket()
        hole.bind(("127.0.0.1", 0))
        holes.append(hole)
        urls.insert(0, f"http://127.0.0.1:{hole.getsockname()[1]}")
    gateway = Gateway(GatewaySettings(upstream=tuple(urls), **options), tokens=tokens)
    await gateway.start(probing=False)
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://gateway") as client:
            yield Fleet(gateway, client, replicas)
        assert gateway.metrics.in_flight == 0
        assert gateway.limiter.running() == {}
        assert [replica.in_flight for replica in gateway.fleet.replicas] == [0] * len(urls)
    finally:
        await gateway.stop()
        for replica in replicas:
            await replica.stop()
        for hole in holes:
            hole.close()


def running(scenario: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.wait_for(scenario(), 30))


def test_an_answer_is_passed_on_with_what_is_left_of_the_limits():
    async def scenario():
        async with fleet("well", user_tokens_per_min=6000, user_requests_per_min=60) as found:
            answer = await found.ask(**{"x-custom": "1", "x-loadline-priority": "3"})
            return answer, found.replicas[0].headers[0], found.count("loadline_gateway_tokens_total")

    answer, headers, tokens = running(scenario)
    assert (answer.status_code, answer.json()["choices"]) == (200, [{"text": "x"}])
    assert answer.headers["x-ratelimit-limit-tokens"] == "6000"
    assert answer.headers["x-ratelimit-remaining-requests"] == "59"
    assert answer.headers["x-ratelimit-reset-tokens"].endswith("s")
    assert (headers["x-custom"], headers["x-loadline-priority"]) == ("1", "3")
    assert tokens == 20


def test_a_stream_is_passed_on_event_by_event():
    async def scenario():
        async with fleet("waits mid-stream") as found:
            sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            await incoming.put({"type": "http.request", "body": json.dumps(BODY | {"stream": True}).encode()})
            scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": []}
            serving = asyncio.create_task(found.gateway(scope, incoming.get, sent.put))
            start, first = await sent.get(), await sent.get()
            found.replicas[0].go_on.set()  # only now does the replica write the rest
            await serving
            rest = [sent.get_nowait() for _ in range(sent.qsize())]
            return start, first, rest, found.count("loadline_gateway_tokens_total")

    start, first, rest, tokens = running(scenario)
    assert dict(start["headers"])[b"content-type"] == b"text/event-stream"
    assert first["body"] == EVENT
    assert b"".join(message["body"] for message in rest) == EVENT + USAGE + DONE
    assert rest[-1]["more_body"] is False
    assert tokens == 40


def test_a_client_that_leaves_frees_the_replica():
    async def scenario():
        async with fleet("waits mid-stream", model_concurrency=1) as found:
            sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
            await incoming.put({"type": "http.request", "body": json.dumps(BODY | {"stream": True}).encode()})
            scope = {"type": "http", "method": "POST", "path": "/v1/completions", "query_string": b"", "headers": []}
            serving = asyncio.create_task(found.gateway(scope, incoming.get, sent.put))
            await sent.get()
            await sent.get()
            await incoming.put({"type": "http.disconnect"})
            await serving
            await found.replicas[0].left.wait()
            return found.count("loadline_gateway_requests_total", outcome="client_gone"), found.count(
                "loadline_gateway_tokens_total"
            )

    gone, tokens = running(scenario)
    assert gone == 1
    assert tokens == 3  # the prompt, and the one token that had come


def test_a_dead_replica_loses_no_request():
    async def scenario():
        async with fleet("well", "well", dead=1, routing="round_robin") as found:
            answers = await asyncio.gather(*(found.ask() for _ in range(30)))
            return [answer.status_code for answer in answers], found.count("loadline_gateway_retries_total")

    statuses, retries = running(scenario)
    assert statuses == [200] * 30
    assert retries >= 1


@pytest.mark.parametrize("mood", ["dies", "dies before the first event", "busy"])
def test_what_a_replica_has_not_started_goes_to_another(mood):
    async def scenario():
        async with fleet(mood, "well", routing="round_robin", breaker_least_requests=100) as found:
            answers = [await found.ask({"stream": mood.startswith("dies before")}) for _ in range(6)]
            return [answer.status_code for answer in answers], [len(one.asked) for one in found.replicas]

    statuses, asked = running(scenario)
    assert statuses == [200] * 6
    assert asked[1] == 6
    assert asked[0] >= 1


def test_a_stream_that_was_started_is_never_sent_again_and_ends_with_an_error():
    async def scenario():
        async with fleet("dies mid-stream", "dies mid-stream") as found:
            answer = await found.ask({"stream": True})
            return (
                answer,
                sum(len(one.asked) for one in found.replicas),
                found.count("loadline_gateway_requests_total", outcome="failed"),
            )

    answer, asked, failed = running(scenario)
    assert (answer.status_code, asked, failed) == (200, 1, 1)
    assert answer.text.startswith(EVENT.decode())
    assert '"code":"upstream_lost"' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


def test_when_all_are_busy_the_refusal_itself_is_passed_on():
    async def scenario():
        async with fleet("busy", "busy") as found:
            return await found.ask()

    answer = running(scenario)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")


def test_when_all_are_dead_it_is_a_502_then_a_503():
    async def scenario():
        async with fleet(dead=2) as found:
            return await found.ask(), await found.ask()

    first, second = running(scenario)
    assert (first.status_code, first.json()["error"]["code"]) == (502, "upstream_failed")
    assert (second.status_code, second.json()["error"]["code"]) == (503, "no_replica")
    assert int(second.headers["retry-after"]) >= 1


def test_a_replica_that_fails_is_left_alone_and_the_others_serve():
    async def scenario():
        async with fleet("failing", "well", routing="round_robin") as found:
            statuses = Counter([(await found.ask()).status_code for _ in range(60)])
            return statuses, found.gateway.fleet.replicas[0].breaker.opened

    statuses, opened = running(scenario)
    assert opened == "errors"
    assert statuses == {500: 10, 200: 50}


def test_a_limit_reached_is_a_429_that_says_when_to_return():
    async def scenario():
        async with fleet("well", user_tokens_per_min=25) as found:
            answers = [await found.ask(**{"x-loadline-tenant": "a"}) for _ in range(2)]
            return [*answers, await found.ask(**{"x-loadline-tenant": "b"})]

    served, refused, other = running(scenario)
    assert (served.status_code, refused.status_code, other.status_code) == (200, 429, 200)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-tokens"] == "5"


def test_ten_times_too_many_are_shed_and_the_admitted_are_served():
    async def scenario():
        async with fleet("slow", model_concurrency=20) as found:
            asking = [asyncio.create_task(found.ask()) for _ in range(200)]
            while sum(task.done() for task in asking) < 180 or found.replicas[0].at_once < 20:
                await asyncio.sleep(0)
            found.replicas[0].go_on.set()
            answers = await asyncio.gather(*asking)
            return (
                Counter(answer.status_code for answer in answers),
                found.replicas[0].most_at_once,
                (await found.ask()).status_code,
            )

    statuses, at_once, after = running(scenario)
    assert statuses == {200: 20, 429: 180}
    assert at_once == 20  # what bounds the latency of those admitted: nobody waits behind more than these
    assert after == 200


def test_no_more_than_the_gateway_can_hold_is_let_in():
    async def scenario():
        async with fleet("slow", max_in_flight=5) as found:
            asking = [asyncio.create_task(found.ask()) for _ in range(50)]
            while sum(task.done() for task in asking) < 45:
                await asyncio.sleep(0)
            found.replicas[0].go_on.set()
            return Counter(answer.status_code for answer in await asyncio.gather(*asking))

    assert running(scenario) == {200: 5, 429: 45}


def test_a_greedy_answer_is_given_again_without_asking():
    async def scenario():
        async with fleet("well", cache_entries=10) as found:
            greedy = {"temperature": 0}
            answers = [await found.ask(greedy), await found.ask(greedy), await found.ask({"temperature": 1})]
            return (
                answers,
                len(found.replicas[0].asked),
                found.count("loadline_gateway_requests_total", outcome="cached"),
            )

    answers, asked, cached = running(scenario)
    assert (asked, cached) == (2, 1)
    assert answers[0].content == answers[1].content
    assert answers[1].headers["x-loadline-cache"] == "hit"


def test_a_failure_is_not_kept():
    async def scenario():
        async with fleet("failing", cache_entries=10) as found:
            first = await found.ask({"temperature": 0})
            found.replicas[0].mood = "well"
            return first, await found.ask({"temperature": 0})

    first, second = running(scenario)
    assert (first.status_code, second.status_code) == (500, 200)


def test_probes_find_who_is_unwell_and_how_many_wait():
    async def scenario():
        async with fleet("unwell", "well", routing="round_robin") as found:
            found.replicas[1].waiting = 12
            for _ in range(2):
                await found.gateway.probes.once()
            states = [(one.healthy, one.waiting) for one in found.gateway.fleet.replicas]
            statuses = {(await found.ask()).status_code for _ in range(4)}
            asked = [len(one.asked) for one in found.replicas]
            found.replicas[0].mood = "well"
            await found.gateway.probes.once()
            return states, statuses, asked, found.gateway.fleet.replicas[0].healthy

    states, statuses, asked, healthy = running(scenario)
    assert states == [(False, 0), (True, 12)]
    assert (statuses, asked, healthy) == ({200}, [0, 4], True)


def test_a_long_queue_opens_the_breaker():
    async def scenario():
        async with fleet("well", "well") as found:
            found.replicas[0].waiting = 1001
            await found.gateway.probes.once()
            ready = await found.client.get("/ready")
            return found.gateway.fleet.replicas[0].breaker.opened, ready.status_code

    assert running(scenario) == ("queue", 200)


def test_equal_prefixes_go_to_one_replica():
    async def scenario():
        async with fleet("well", "well", "well", routing="prefix") as found:
            for _ in range(5):
                await found.ask({"prompt": "the same beginning"})
            return sorted(len(one.asked) for one in found.replicas)

    assert running(scenario) == [0, 0, 5]


def test_other_calls_are_passed_on_with_their_query():
    async def scenario():
        async with fleet("well") as found:
            return [await found.client.get(path) for path in ("/v1/models?x=1", "/metadata", "/elsewhere")]

    models, metadata, elsewhere = running(scenario)
    assert metadata.status_code == 200
    assert models.json() == {"data": [{"id": "m"}], "query": {"x": "1"}}
    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"1"])
def test_a_body_that_is_none_is_a_400(body):
    async def scenario():
        async with fleet("well") as found:
            return await found.client.post("/v1/completions", content=body)

    answer = running(scenario)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_a_body_beyond_the_limit_is_a_413():
    async def scenario():
        async with fleet("well", max_body_bytes=100) as found:
            return await found.ask({"prompt": "x" * 200})

    assert running(scenario).status_code == 413


def test_callers_show_the_gateways_token_and_replicas_get_their_own():
    async def scenario():
        async with fleet("well", tokens={"auth": "callers", "upstream": "replicas"}) as found:
            refused = await found.ask()
            served = await found.ask(authorization="Bearer callers")
            return refused, served, found.replicas[0].headers[0]

    refused, served, headers = running(scenario)
    assert (refused.status_code, served.status_code) == (401, 200)
    assert headers["Authorization" if "Authorization" in headers else "authorization"] == "Bearer replicas"


def test_the_admin_api_is_closed_without_a_token():
    async def scenario():
        async with fleet("well") as found:
            return (await found.client.get("/admin/state")).status_code

    assert running(scenario) == 403


def test_an_operator_sees_the_state_tightens_limits_and_opens_a_breaker():
    async def scenario():
        async with fleet("well", tokens={"admin": "op"}) as found:
            client, shown = found.client, {"authorization": "Bearer op"}
            unknown = await client.get("/admin/state", headers={"authorization": "Bearer no"})
            state = await client.get("/admin/state", headers=shown)
            limited = await client.post("/admin/limits", json={"model_concurrency": 1}, headers=shown)
            wrong = await client.post("/admin/limits", json={"model_concurrency": 0}, headers=shown)
            force = {"replica": found.replicas[0].url, "state": "open"}
            opened = await client.post("/admin/breaker", json=force, headers=shown)
            shed = await found.ask()
            await client.post("/admin/breaker", json=force | {"state": "closed"}, headers=shown)
            return unknown, state, limited, wrong, opened, shed, await found.ask()

    unknown, state, limited, wrong, opened, shed, served = running(scenario)
    assert unknown.status_code == 401
    assert state.json()["replicas"][0]["breaker"] == "closed"
    assert limited.json()["limits"]["model_concurrency"] == 1
    assert (wrong.status_code, "model_concurrency is 0" in wrong.json()["error"]["message"]) == (400, True)
    assert opened.json()["replicas"][0]["opened_by"] == "operator"
    assert (shed.status_code, served.status_code) == (503, 200)


def test_every_metric_of_the_catalogue_is_exposed_and_known_to_the_dialect():
    async def scenario():
        async with fleet("well") as found:
            await found.gateway.probes.once()
            found.gateway.fleet.replicas[0].breaker.force("open")
            return generate_latest(found.gateway.metrics).decode()

    page = running(scenario)
    assert "_created" not in page
    for metric in METRICS:
        kind = "counter" if metric.kind == "counter" else metric.kind
        assert f"# TYPE {metric.name} {kind}" in page
    known = next(dialect for dialect in load_dialects() if dialect.engine == "gateway").names()
    assert {name for name in known if not name.endswith(("_bucket", "_sum", "_count"))} | {
        "loadline_gateway_first_byte_seconds"
    } == {metric.name for metric in METRICS} | {"loadline_gateway_first_byte_seconds"}
