"""The client against our own API, and against servers that misbehave."""

import threading
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.client import LONG_QUERY_BYTES, Client
from collector.model.errors import SourceError
from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.model.spans import Span, SpanEvent

NOW_S = 1_700_000_000.0

NOW_MS = int(NOW_S * 1000)
SPAN = Span(
    trace_id="ab" * 16,
    span_id="cd" * 8,
    parent_id=None,
    name="prefill",
    service="engine",
    kind="server",
    start_ns=NOW_MS * 1_000_000,
    end_ns=NOW_MS * 1_000_000 + 5_000_000,
    status="error",
    status_message="out of blocks",
    attributes={"gen_ai.request.model": "m", "tokens": 7},
    resource={"host.name": "h"},
    events=(SpanEvent(NOW_MS * 1_000_000 + 1, "preempted", {"n": 1}),),
)


def some_series(name: str = "tokens", count: int = 13) -> Series:
    """Ten more every five seconds, up to now."""
    timestamps_ms = NOW_MS - 5000 * np.arange(count - 1, -1, -1, dtype=np.int64)
    return Series(
        from_mapping({"__name__": name, "model_name": "m"}), timestamps_ms, 10.0 * np.arange(count, dtype=np.float64)
    )


@pytest.fixture
def client(parts: Parts, serve_app: Callable[[ASGIApp], str]):
    with Client(serve_app(create_app(parts))) as opened:
        yield opened


def test_what_is_written_is_answered(client: Client) -> None:
    client.write([some_series()])
    (sample,) = client.query("tokens")
    assert sample.labels == (("__name__", "tokens"), ("model_name", "m"))
    assert (sample.timestamp_ms, sample.value) == (NOW_MS, 120.0)
    (scalar,) = client.query("1 + 1", time_s=NOW_S)
    assert (scalar.labels, scalar.value) == ((), 2.0)
    assert client.query("absent_metric") == ()


def test_a_range_comes_back_as_arrays(client: Client) -> None:
    client.write([some_series()])
    (series,) = client.query_range("tokens", NOW_S - 10, NOW_S, 5.0)
    assert series.timestamps_ms.dtype == np.int64
    assert series.timestamps_ms.tolist() == [NOW_MS - 10_000, NOW_MS - 5000, NOW_MS]
    assert series.values.tolist() == [100.0, 110.0, 120.0]


def test_names_and_values_of_labels_are_listed(client: Client) -> None:
    client.write([some_series("tokens"), some_series("requests")])
    assert client.metric_names() == ("requests", "tokens")
    assert client.label_values("model_name", NOW_S - 60, NOW_S) == ("m",)
    assert client.series(['{__name__=~"tok.*"}'], NOW_S - 60, NOW_S) == ((("__name__", "tokens"), ("model_name", "m")),)


def test_rules_come_from_the_alerts_process_and_its_absence_is_a_warning(
    parts: Parts, serve_app: Callable[[ASGIApp], str]
) -> None:
    said: list[tuple[str, str]] = []
    with Client(serve_app(create_app(parts)), on_warning=lambda *pair: said.append(pair)) as client:
        assert [group["name"] for group in client.rules()] == ["slo"]
        assert said == []
        assert client.alerts() == []
    assert "cannot be reached: connection refused" in said[0][1]


def test_spans_are_found_and_come_back_whole(client: Client, parts: Parts) -> None:
    parts.spans.append([SPAN])
    assert client.spans(service="engine", attributes={"tokens": "7"}, min_duration_ms=4.0) == (SPAN,)
    assert client.spans(trace_id=SPAN.trace_id, start_s=NOW_S - 1, end_s=NOW_S + 1) == (SPAN,)
    assert client.spans(name="decode") == ()


def test_a_bad_expression_is_told_with_the_servers_own_words(client: Client) -> None:
    with pytest.raises(SourceError, match='400: invalid parameter "query"') as caught:
        client.query("sum(")
    assert caught.value.kind == "bad_data"


def test_out_of_order_writes_are_told(client: Client) -> None:
    client.write([some_series()])
    late = Series(some_series().labels, np.array([NOW_MS - 3_600_000], dtype=np.int64), np.array([1.0]))
    with pytest.raises(SourceError, match="1 of 1 samples are out of order"):
        client.write([late])


def test_a_long_query_is_posted(client: Client) -> None:
    client.write([some_series()])
    long = "tokens" + " or tokens" * 150
    assert len(long) > LONG_QUERY_BYTES
    assert len(client.query(long)) == 1


def test_many_threads_share_one_client(client: Client) -> None:
    client.write([some_series()])
    found: list[float] = []

    def ask() -> None:
        for _ in range(5):
            found.append(client.query("tokens")[0].value)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [120.0] * 20


def test_a_token_is_sent_and_its_lack_is_told(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    url = serve_app(create_app(parts, token="s3cret"))
    with Client(url, token="s3cret") as client:
        assert client.metric_names() == ()
    with Client(url) as client, pytest.raises(SourceError, match="401: a valid bearer token is needed"):
        client.metric_names()


def answering(handler: Callable[[httpx.Request], httpx.Response]) -> Client:
    return Client("http://prometheus/prefix/", transport=httpx.MockTransport(handler))


def test_a_server_that_is_not_there_is_unreachable() -> None:
    with (
        Client("http://127.0.0.1:9") as client,
        pytest.raises(SourceError, match=r"127\.0\.0\.1:9/.*cannot be") as caught,
    ):
        client.query("up")
    assert caught.value.kind == "unreachable"


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("too late", request=request)

    with answering(late) as client, pytest.raises(SourceError, match="no answer within 10 s") as caught:
        client.query("up")
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(502, text="bad gateway"), "http_502"),
        (httpx.Response(422, json={"status": "error", "errorType": "execution", "error": "too many"}), "execution"),
        (httpx.Response(200, text="<html>"), "bad_answer"),
        (httpx.Response(200, json=[1]), "bad_answer"),
        (httpx.Response(200, json={"data": {"resultType": "vector", "result": [{"metric": {}}]}}), "bad_answer"),
        (httpx.Response(200, json={"data": {"resultType": "matrix", "result": []}}), "bad_answer"),
    ],
)
def test_an_answer_that_is_none_names_address_and_reason(answer: httpx.Response, kind: str) -> None:
    with (
        answering(lambda request: answer) as client,
        pytest.raises(SourceError, match="http://prometheus/prefix") as one,
    ):
        client.query("up")
    assert one.value.kind == kind


def test_a_server_without_spans_is_told_apart() -> None:
    with answering(lambda request: httpx.Response(404, text="404 page not found")) as client:
        with pytest.raises(SourceError, match="keeps no spans") as caught:
            client.spans(service="engine")
        assert caught.value.kind == "no_spans"


def test_targets_are_read_as_prometheus_lists_them() -> None:
    entry = {
        "labels": {"job": "engine", "instance": "a:1"},
        "scrapeUrl": "http://a:1/metrics",
        "lastError": "",
        "lastScrape": "2026-11-24T09:00:00.123456789Z",
        "lastScrapeDuration": 0.01,
        "health": "up",
    }
    never = {**entry, "lastScrape": "0001-01-01T00:00:00Z", "health": "unknown"}
    with answering(lambda request: httpx.Response(200, json={"data": {"activeTargets": [entry, never]}})) as client:
        first, second = client.targets()
    assert (first.url, first.health, first.last_scrape_duration_s) == ("http://a:1/metrics", "up", 0.01)
    assert first.last_scrape_s == pytest.approx(1795510800.123456)
    assert second.last_scrape_s is None


def test_special_values_are_read() -> None:
    result = [{"metric": {"a": "b"}, "values": [[1.5, "NaN"], [2, "+Inf"], [3.25, "-Inf"]]}]
    answer = httpx.Response(200, json={"data": {"resultType": "matrix", "result": result}})
    with answering(lambda request: answer) as client:
        (series,) = client.query_range("x", 0, 4, 1)
    assert series.timestamps_ms.tolist() == [1500, 2000, 3250]
    np.testing.assert_array_equal(series.values, [np.nan, np.inf, -np.inf])


@pytest.mark.parametrize("address", ["prometheus:9090", "", "ftp://x", "http://"])
def test_a_strange_address_is_refused_at_once(address: str) -> None:
    with pytest.raises(SourceError) as caught:
        Client(address)
    assert caught.value.kind == "bad_address"
