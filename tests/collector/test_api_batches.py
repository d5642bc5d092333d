"""Several queries in one request, and the client that asks for them, of servers without batches too."""

from collections.abc import Callable

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from starlette.types import ASGIApp

from collector.api import batches
from collector.api.app import create_app
from collector.api.parts import Parts
from collector.client import BATCH_QUERIES, Client
from collector.model.labels import from_mapping
from collector.model.series import Sample, Series

NOW_S = 1_700_000_000.0


@pytest.fixture
def client(parts: Parts, serve_app: Callable[[ASGIApp], str]):
    with Client(serve_app(create_app(parts))) as opened:
        yield opened


def test_each_of_several_queries_has_its_own_answer_or_error(client: Client, parts: Parts) -> None:
    exprs = ["vector(1)", "sum(x", "2 * 3", "nothing", "up[5m]"]
    one, broken, scalar, none, matrix = client.query_all(exprs, NOW_S)
    assert (one.samples, one.error) == ((Sample((), round(NOW_S * 1000), 1.0),), None)
    assert one.took_s > 0
    assert "parse error" in str(broken.error)
    assert [sample.value for sample in scalar.samples] == [6.0]
    assert (none.samples, none.error) == ((), None)
    assert "query() takes a vector or a scalar" in str(matrix.error)
    assert (parts.counts.queries["instant"], parts.counts.query_failures) == (5, 1)


def test_a_batch_answers_as_single_queries_do(client: Client) -> None:
    labels = from_mapping({"__name__": "m", "instance": "ü"})
    client.write([Series(labels, np.array([round(NOW_S * 1000)]), np.array([1.5]))])
    exprs = ["m", "vector(0/0)", "time()", "-1/vector(0)"]
    for expr, batched in zip(exprs, client.query_all(exprs, NOW_S), strict=True):
        assert repr(batched.samples) == repr(client.query(expr, NOW_S))


def test_more_queries_than_one_request_takes_are_all_answered_in_order(client: Client) -> None:
    exprs = [f"vector({number})" for number in range(2 * BATCH_QUERIES + 7)]
    found = client.query_all(exprs, NOW_S)
    assert [one.samples[0].value for one in found] == list(range(len(exprs)))


def test_what_a_long_request_leaves_out_is_asked_again(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    app = FastAPI()
    app.include_router(batches.routes(parts, long_enough_s=0.0))
    with Client(serve_app(app)) as client:
        found = client.query_all(["vector(1)", "vector(2)", "vector(3)"], NOW_S)
    assert [one.samples[0].value for one in found] == [1, 2, 3]


def test_a_server_that_knows_no_batches_is_asked_one_by_one_from_then_on() -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if request.url.path != "/api/v1/query":
            return httpx.Response(404, text="404 page not found")
        if request.url.params["query"] == "bad":
            return httpx.Response(400, json={"status": "error", "errorType": "bad_data", "error": "no"})
        data = {"resultType": "scalar", "result": [NOW_S, "7"]}
        return httpx.Response(200, json={"status": "success", "data": data})

    with Client("http://prometheus", transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            good, bad = client.query_all(["good", "bad"], NOW_S)
            assert ([one.value for one in good.samples], good.error) == ([7.0], None)
            assert "400: no" in str(bad.error)
    assert paths == ["/api/v1/query_batch"] + 4 * ["/api/v1/query"]


def test_a_batch_that_takes_too_long_is_asked_one_by_one_this_time() -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        if request.url.path != "/api/v1/query":
            raise httpx.ReadTimeout("slow", request=request)
        data = {"resultType": "scalar", "result": [NOW_S, "7"]}
        return httpx.Response(200, json={"status": "success", "data": data})

    with Client("http://collector", transport=httpx.MockTransport(answer)) as client:
        assert [one.error for one in client.query_all(["good", "slow"], NOW_S)] == [None, None]
        client.query_all(["good"], NOW_S)
    assert paths.count("/api/v1/query_batch") == 2


def test_a_server_that_cannot_be_reached_is_asked_once() -> None:
    asked: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        raise httpx.ConnectError("connection refused", request=request)

    with Client("http://collector", transport=httpx.MockTransport(refuse)) as client:
        found = client.query_all(["a", "b"], NOW_S)
    assert ["cannot be reached" in str(one.error) for one in found] == [True, True]
    assert len(asked) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b'{"time": 1, "queries": []}', b'{"time": "x", "queries": ["1"]}',
                                  b'{"time": 1, "queries": [1]}', b'{"time": 1e300, "queries": ["1"]}'])  # fmt: skip
def test_a_batch_that_cannot_be_read_is_refused(api: httpx.Client, body: bytes) -> None:
    answer = api.post("/api/v1/query_batch", content=body)
    assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
