"""Answers kept in a real Redis: shared, bounded in time, and never in the way."""

import asyncio
import shutil
import socket
import subprocess
import time

import httpx
import pytest
from aiohttp import web

from probe_engine.gateway.app import Gateway
from probe_engine.gateway.errors import SettingsError
from probe_engine.gateway.settings import GatewaySettings
from probe_engine.gateway.shared_cache import SharedCache

pytest.importorskip("redis")


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        port = hole.getsockname()[1]
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(command, cwd=tmp_path_factory.mktemp("redis"), stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def running(scenario):
    return asyncio.run(asyncio.wait_for(scenario(), 60))


def test_what_one_gateway_keeps_another_finds(redis_url):
    async def scenario():
        one, other = SharedCache(redis_url, 60.0), SharedCache(redis_url, 60.0)
        try:
            before = await other.get(b"key")
            await one.put(b"key", b"\x00body")
            return before, await other.get(b"key"), await other.get(b"another")
        finally:
            await one.close()
            await other.close()

    assert running(scenario) == (None, b"\x00body", None)


def test_an_answer_goes_when_its_time_is_over(redis_url):
    async def scenario():
        cache = SharedCache(redis_url, 0.001)
        try:
            await cache.put(b"short", b"body")
            while await cache.get(b"short") is not None:
                await asyncio.sleep(0.001)
        finally:
            await cache.close()
        return True

    assert running(scenario)


def test_a_redis_that_is_gone_is_a_miss_and_told_once(caplog):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))

        async def scenario():
            cache = SharedCache(f"redis://127.0.0.1:{hole.getsockname()[1]}/0", 60.0)
            try:
                await cache.put(b"key", b"body")
                return [await cache.get(b"key") for _ in range(3)]
            finally:
                await cache.close()

        assert running(scenario) == [None] * 3
    assert len([record for record in caplog.records if "is lost" in record.getMessage()]) == 1


def test_a_url_that_is_none_is_said(redis_url):
    with pytest.raises(SettingsError, match="cache_redis_url is 'nonsense'"):
        SharedCache("nonsense", 1.0)


def test_a_greedy_answer_of_one_gateway_is_given_by_another_and_a_failure_is_not(redis_url):
    asked = []

    async def generate(request):
        asked.append(await request.json())
        status = 500 if asked[-1]["prompt"] == "broken" else 200
        return web.json_response({"choices": [{"text": "x"}], "usage": {"total_tokens": 2}}, status=status)

    async def ask(upstream, prompt):
        gateway = Gateway(GatewaySettings(upstream=(upstream,), cache_redis_url=redis_url))
        await gateway.start(probing=False)
        try:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://g") as client:
                return await client.post("/v1/completions", json={"model": "m", "prompt": prompt, "temperature": 0})
        finally:
            await gateway.stop()

    async def scenario():
        app = web.Application()
        app.router.add_post("/v1/completions", generate)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            return [await ask(url, prompt) for prompt in ("kept", "kept", "broken", "broken")]
        finally:
            await runner.cleanup()

    first, second, *broken = running(scenario)
    assert first.content == second.content
    assert second.headers["x-loadline-cache"] == "hit"
    assert [answer.status_code for answer in broken] == [500, 500]
    assert [body["prompt"] for body in asked] == ["kept", "broken", "broken"]
