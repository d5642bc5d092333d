"""Queries that end before their answer: time is up, the client has gone, the process stops."""

import asyncio
import threading
from dataclasses import replace
from functools import partial

import httpx
import numpy as np
import pytest

from collector.api.app import create_app
from collector.api.errors import ApiError
from collector.api.pace import QUICK_S, Pace
from collector.api.parts import Parts
from collector.api.running import QueryClock, run_query
from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.promql import Engine, Limits

NOW_S = 1_700_000_000.0
TIMED_OUT = {"status": "error", "errorType": "timeout", "error": "query timed out in expression evaluation"}
CANCELED = {"status": "error", "errorType": "canceled", "error": "query was canceled in expression evaluation"}


def ask(parts: Parts, path: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(parts))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            return await http.get(path)

    return asyncio.run(run())


def test_a_query_beyond_its_own_timeout_is_answered_as_prometheus_does(parts: Parts) -> None:
    answer = ask(parts, "/api/v1/query?query=1%2b1&timeout=30s&time=1")
    assert answer.json()["status"] == "success"
    answer = ask(replace(parts, limits=Limits(timeout_s=1e-9)), "/api/v1/query?query=vector(1)%2b1")
    assert (answer.status_code, answer.json()) == (503, TIMED_OUT)
    assert parts.counts.query_failures == 1


def test_a_query_is_refused_once_the_process_stops(parts: Parts) -> None:
    parts.stopping.set()
    answer = ask(parts, "/api/v1/query?query=vector(1)")
    assert (answer.status_code, answer.json()) == (503, CANCELED)
    assert ask(parts, "/-/ready").status_code == 503
    assert ask(parts, "/-/healthy").status_code == 200


class Request:
    """A request whose client goes away when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.sent_body = False

    async def receive(self) -> dict[str, str]:
        if not self.sent_body:
            self.sent_body = True
            return {"type": "http.request"}
        await self.gone.wait()
        return {"type": "http.disconnect"}


def run_until(parts: Parts, disturb, timeout_s: float = 60.0) -> tuple[ApiError, bool]:
    """Run an endless query, disturb it, and tell the refusal and whether the query saw its end."""
    begun, ended = threading.Event(), threading.Event()

    def endless(clock: QueryClock) -> None:
        text = "sum(sum(sum(sum(vector(1)))))"
        while True:
            begun.set()
            try:
                Engine(Limits(timeout_s=1e9), clock=clock).instant(parts.store, text, 1)
            except Exception:
                ended.set()
                raise

    async def run() -> ApiError:
        request = Request()
        running = asyncio.create_task(run_query(parts, request, timeout_s, endless))  # type: ignore[arg-type]
        await asyncio.to_thread(begun.wait)
        disturb(request)
        with pytest.raises(ApiError) as caught:
            await running
        return caught.value

    refusal = asyncio.run(run())
    return refusal, ended.wait(10.0)


def test_a_client_that_goes_away_ends_its_query(parts: Parts) -> None:
    refusal, ended = run_until(parts, lambda request: request.gone.set())
    assert (refusal.status, refusal.kind, ended) == (503, "canceled", True)


def test_the_end_of_the_process_ends_a_running_query(parts: Parts) -> None:
    refusal, ended = run_until(parts, lambda request: parts.stopping.set())
    assert (refusal.kind, str(refusal), ended) == ("canceled", CANCELED["error"], True)


def test_the_end_of_its_time_ends_a_running_query(parts: Parts) -> None:
    refusal, ended = run_until(parts, lambda request: None, timeout_s=0.05)
    assert (refusal.kind, str(refusal), ended) == ("timeout", TIMED_OUT["error"], True)


def test_a_limit_that_is_no_time_keeps_its_own_words(parts: Parts) -> None:
    times = np.array([round(NOW_S * 1000)], dtype=np.int64)
    parts.store.append_series(
        [Series(from_mapping({"__name__": "a", "n": str(n)}), times, np.ones(1)) for n in range(3)]
    )
    answer = ask(replace(parts, limits=Limits(max_samples=2)), "/api/v1/query?query=a")
    assert (answer.status_code, answer.json()["errorType"]) == (422, "execution")
    assert "max_samples" in answer.json()["error"]


def test_a_query_that_was_quick_is_answered_without_a_thread_the_next_time(parts: Parts) -> None:
    here = threading.get_ident()
    now_s = 0.0
    asked = replace(parts, pace=Pace(lambda: now_s))
    without_thread: list[bool] = []

    def work(took_s: float, clock: QueryClock) -> None:
        nonlocal now_s
        now_s += took_s
        without_thread.append(threading.get_ident() == here)

    async def run() -> None:
        for took_s in (QUICK_S / 2, QUICK_S / 2, 2 * QUICK_S, 0.0):
            await run_query(asked, Request(), 60.0, partial(work, took_s), "1 + 1")  # type: ignore[arg-type]

    asyncio.run(run())
    assert without_thread == [False, True, True, False]


def test_the_short_way_to_a_query_refuses_as_the_long_one_does(parts: Parts) -> None:
    for path in ("/api/v1/query?query=1%2b", "/api/v1/query_range?query=1&start=2&end=1&step=1"):
        answer = ask(parts, path)
        assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
