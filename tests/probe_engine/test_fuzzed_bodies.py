"""Any bytes and any JSON at every route of server and gateway: below 500, refusals in OpenAI's error shape."""

import asyncio
import json
from urllib.parse import quote

import httpx
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from probe_engine.gateway.app import Gateway
from probe_engine.gateway.settings import GatewaySettings
from probe_engine.model.tokenizer import byte_tokenizer
from probe_engine.sched import SchedulerConfig
from probe_engine.server.app import create_app
from probe_engine.server.deployment import Deployment, Loaded

CONFIG = SchedulerConfig(num_blocks=400, block_size=4, max_num_batched_tokens=64, max_num_seqs=2, max_model_len=200)
POSTS = ("/v1/completions", "/v1/chat/completions", "/tokenize", "/admin/limits")
GETS = ("/v1/models/{}", "/steps?since={}", "/forward_passes?since={}", "/{}", "/admin/{}")
CHANGES = ("limits", "breaker", "drain", "weights", "batch", "restart", "restore")
FIELDS = (
    *("prompt", "messages", "model", "max_tokens", "max_num_seqs", "n", "stream", "stop", "replica", "draining"),
    *("replicas", "action", "state", "user_tokens_per_minute", "user_tokens_per_day", "most", "http://engine"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=6) | st.just("http://engine"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
BODIES = (
    st.binary(max_size=60)
    | VALUES.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5).map(lambda value: json.dumps(value).encode())
)
SOME = st.lists(BODIES, min_size=8, max_size=8)
PLACE = st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=12)
PLACES = st.lists(PLACE, min_size=4, max_size=4)


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def fuzz(client: httpx.AsyncClient, paths: list[str], bodies: list[bytes], places: list[str]) -> None:
    for path in paths:
        for body in bodies:
            check(await client.post(path, content=body, headers={"content-type": "application/json"}))
    for path in GETS:
        for place in places:
            check(await client.get(path.format(quote(place, safe=""))))


def test_every_route_that_takes_a_body_is_among_those_fuzzed(engine_of):
    deployment = Deployment("tiny", engine_of(CONFIG)[0].metrics, version="1")
    paths = create_app(deployment, token="op").openapi()["paths"]
    assert {path for path, methods in paths.items() if "post" in methods} == set(POSTS)


@settings(max_examples=12, deadline=None)
@given(SOME, PLACES)
def test_the_server_answers_whatever_comes(engine_of, bodies, places):
    async def main():
        engine, _ = engine_of(CONFIG)
        deployment = Deployment("tiny", engine.metrics, version="1")
        deployment.serve(Loaded(engine, byte_tokenizer(), "float32", "cpu"))
        transport = httpx.ASGITransport(create_app(deployment, token="op"))
        shown = {"authorization": "Bearer op"}
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://e", headers=shown) as client:
                await fuzz(client, list(POSTS), bodies, places)
        finally:
            await deployment.stop()

    asyncio.run(asyncio.wait_for(main(), 60))


@settings(max_examples=12, deadline=None)
@given(SOME, PLACES)
def test_the_gateway_answers_whatever_comes(bodies, places):
    async def main():
        async def serve(request: web.Request) -> web.Response:
            return web.json_response({"usage": {"total_tokens": 3}})

        app = web.Application()
        app.router.add_route("*", "/{any:.*}", serve)
        engine = web.AppRunner(app, shutdown_timeout=0.1)
        await engine.setup()
        await web.TCPSite(engine, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{engine.addresses[0][1]}"
        gateway = Gateway(GatewaySettings(upstream=(url,)), tokens={"admin": "op"})
        await gateway.start(probing=False)
        mine = [body.replace(b"http://engine", url.encode()) for body in bodies]
        paths = [*POSTS[:3], "/v1/embeddings"]
        changes = [f"/admin/{name}" for name in CHANGES]
        shown = {"authorization": "Bearer op"}
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://g") as client:
                await fuzz(client, paths, mine, places)
                client.headers.update(shown)
                await fuzz(client, changes, mine, places)
        finally:
            await gateway.stop()
            await engine.cleanup()

    asyncio.run(asyncio.wait_for(main(), 60))
