"""The API over a real socket: pushes, searches, health, refusals."""

import gzip
import re
from collections.abc import Callable
from dataclasses import replace

import httpx
import numpy as np
import orjson
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families
from starlette.types import ASGIApp

from collector.api.app import create_app, create_otlp_app
from collector.api.parts import Parts
from collector.model import remote_write
from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.scrape.access import Clients
from collector.scrape.job import Job
from collector.scrape.pool import Pool
from collector.scrape.target import make_target

NOW_S = 1_700_000_000.0

PROTOBUF = {"content-type": "application/x-protobuf"}
JSON = {"content-type": "application/json"}


def written(name: str, value: float = 1.0, time_s: float = NOW_S) -> bytes:
    times = np.array([round(time_s * 1000)], dtype=np.int64)
    return remote_write.encode([Series(from_mapping({"__name__": name, "pool": "a"}), times, np.array([value]))])


def traces(*names: str, trace_id: bytes = b"\x01" * 16) -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "engine"
    scope = resource.scope_spans.add()
    for place, name in enumerate(names):
        span = scope.spans.add(name=name, trace_id=trace_id, span_id=bytes([place + 1] * 8))
        span.start_time_unix_nano = int(NOW_S) * 10**9
        span.end_time_unix_nano = int(NOW_S) * 10**9 + (place + 1) * 1_000_000
        span.attributes.add(key="place").value.int_value = place
    return request.SerializeToString()


def test_remote_write_is_taken_and_listed(api: httpx.Client) -> None:
    answer = api.post("/api/v1/write", content=written("x"), headers=remote_write.CONTENT_HEADERS)
    assert (answer.status_code, answer.content) == (204, b"")
    assert api.get("/api/v1/labels").json()["data"] == ["__name__", "pool"]
    assert api.get("/api/v1/label/pool/values").json()["data"] == ["a"]
    found = api.get("/api/v1/series", params={"match[]": "x"}).json()
    assert found == {"status": "success", "data": [{"__name__": "x", "pool": "a"}]}


def test_series_names_and_values_may_be_asked_for_by_selector_time_and_number(api: httpx.Client) -> None:
    for name in ("x", "y", "z"):
        api.post("/api/v1/write", content=written(name), headers=remote_write.CONTENT_HEADERS)
    names = api.get("/api/v1/label/__name__/values", params={"match[]": ["x", "z"]})
    assert names.json()["data"] == ["x", "z"]
    few = api.post("/api/v1/series", data={"match[]": '{pool="a"}', "limit": "2"}).json()
    assert len(few["data"]) == 2
    assert few["warnings"] == ["results truncated due to limit"]
    later = api.get("/api/v1/series", params={"match[]": "x", "start": NOW_S + 86_400, "end": "2030-01-01T00:00:00Z"})
    assert later.json()["data"] == []


def test_bad_writes_are_refused_in_plain_words(api: httpx.Client) -> None:
    bad = api.post("/api/v1/write", content=b"nonsense", headers=remote_write.CONTENT_HEADERS)
    assert bad.status_code == 400
    assert "snappy" in bad.text
    third = {"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}
    unknown = api.post("/api/v1/write", content=b"", headers=third)
    assert unknown.status_code == 415
    assert '"io.prometheus.write.v3.Request"; prometheus.WriteRequest and' in unknown.text
    long = api.post("/api/v1/write", content=b"x" * (1 << 20) + b"x", headers=remote_write.CONTENT_HEADERS)
    assert long.status_code == 413
    assert "longer than 1048576 bytes" in long.json()["error"]


def test_spans_are_taken_in_protobuf_and_found(api: httpx.Client) -> None:
    body = gzip.compress(traces("queue", "prefill"))
    answer = api.post("/v1/traces", content=body, headers={**PROTOBUF, "content-encoding": "gzip"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert not ExportTraceServiceResponse.FromString(answer.content).HasField("partial_success")
    found = api.get("/api/v1/spans", params={"service": "engine", "attr.place": "1"}).json()
    (span,) = found["data"]
    assert (span["name"], span["trace_id"], span["start_ns"]) == ("prefill", "01" * 16, "1700000000000000000")
    slow = api.get("/api/v1/spans", params={"min_duration_ms": "1.5", "start": NOW_S - 1, "end": NOW_S + 1})
    assert [one["name"] for one in slow.json()["data"]] == ["prefill"]


def test_a_span_that_is_refused_is_told_as_partial_success(api: httpx.Client) -> None:
    answer = api.post("/v1/traces", content=traces("bad", trace_id=b""), headers=PROTOBUF)
    told = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert told.rejected_spans == 1
    assert "32 hexadecimal digits" in told.error_message


def test_metrics_are_taken_in_json(api: httpx.Client) -> None:
    point = {"timeUnixNano": str(int(NOW_S) * 10**9), "asDouble": 2.5}
    metric = {"name": "queue.depth", "gauge": {"dataPoints": [point]}}
    body = orjson.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
    answer = api.post("/api/v1/otlp/v1/metrics", content=body, headers=JSON)
    assert (answer.status_code, answer.json()) == (200, {})
    assert api.get("/api/v1/label/__name__/values").json()["data"] == ["queue_depth"]
    late = {**point, "timeUnixNano": str(int(NOW_S - 3600) * 10**9)}
    body = body.replace(orjson.dumps(point), orjson.dumps(late))
    told = api.post("/v1/metrics", content=body, headers=JSON).json()["partialSuccess"]
    assert told == {"rejectedDataPoints": "1", "errorMessage": "samples out of order"}


def test_what_is_no_otlp_is_refused_in_its_own_encoding(api: httpx.Client) -> None:
    bad = api.post("/v1/metrics", content=b"{", headers=JSON)
    assert (bad.status_code, bad.json()["code"]) == (400, 3)
    assert api.post("/v1/traces", content=b"\xff", headers=PROTOBUF).content[:2] == b"\x08\x03"
    assert b"text/plain" in api.post("/v1/traces", content=b"", headers={"content-type": "text/plain"}).content
    assert ExportMetricsServiceResponse.FromString(api.post("/v1/metrics", content=b"", headers=PROTOBUF).content)


def test_span_filters_that_make_no_sense_are_refused(api: httpx.Client) -> None:
    for query, words in {
        "colour=red": "no filter",
        "limit=lots": "is not a number of things",
        "limit=99999": "at most 10000",
        "min_duration_ms=nan": "finite",
        "trace_id=xyz": "trace_id",
        "start=soon": "valid timestamp",
    }.items():
        answer = api.get(f"/api/v1/spans?{query}")
        assert answer.status_code == 400, query
        assert words in answer.json()["error"]


def test_metadata_are_listed(api: httpx.Client, parts: Parts) -> None:
    parts.store.set_metadata("x", "gauge", "What.", "")
    parts.store.set_metadata("y", "counter", "How many.", "")
    assert api.get("/api/v1/metadata", params={"metric": "x"}).json()["data"] == {
        "x": [{"type": "gauge", "help": "What.", "unit": ""}]
    }
    assert list(api.get("/api/v1/metadata", params={"limit": 1}).json()["data"]) == ["x"]


def test_rules_are_passed_on_and_an_absent_process_is_a_warning(api: httpx.Client) -> None:
    assert api.get("/api/v1/rules").json()["data"]["groups"][0]["name"] == "slo"
    alerts = api.get("/api/v1/alerts").json()
    assert alerts["data"] == {"alerts": []}
    assert "http://alerts/api/v1/alerts cannot be reached" in alerts["warnings"][0]


def test_targets_and_the_landing_page_show_what_is_scraped(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    made = (make_target("http://a:1/metrics", "<engine>"), make_target("http://b:1/metrics", "engine"))
    pools = {target.job: Pool(Job(target.job, fixed=(target,)), parts.store, Clients()) for target in made}
    for pool in pools.values():
        pool.look()
    (scraper,) = pools["<engine>"].scrapers.values()
    scraper.failure, scraper.last_scrape_s = "answered 500", NOW_S
    url = serve_app(create_app(replace(parts, pools=pools)))
    with httpx.Client(base_url=url, trust_env=False) as http:
        down, unknown = http.get("/api/v1/targets").json()["data"]["activeTargets"]
        page = http.get("/").text
    assert (down["health"], down["lastError"], down["lastScrape"]) == (
        "down",
        "answered 500",
        "2023-11-14T22:13:20+00:00",
    )
    assert (unknown["health"], unknown["lastScrape"], unknown["scrapeInterval"]) == (
        "unknown",
        "0001-01-01T00:00:00Z",
        "5s",
    )
    assert "&lt;engine&gt;" in page
    assert "<engine>" not in page


def test_health_build_and_own_metrics_are_answered(api: httpx.Client) -> None:
    api.post("/api/v1/write", content=written("x"), headers=remote_write.CONTENT_HEADERS)
    assert api.get("/-/healthy").is_success
    assert api.get("/-/ready").is_success
    assert api.get("/api/v1/status/buildinfo").json()["data"]["application"] == "Loadline"
    families = {family.name: family for family in text_string_to_metric_families(api.get("/metrics").text)}
    assert families["loadline_collector_written_samples"].samples[0].value == 1.0
    assert all(re.fullmatch(r"(loadline_collector|process)_[a-z_]+", name) for name in families)


def test_the_api_describes_itself(api: httpx.Client) -> None:
    paths = api.get("/openapi.json").json()["paths"]
    assert {"/api/v1/query_range", "/api/v1/write", "/v1/traces", "/api/v1/spans", "/metrics"} <= paths.keys()
    assert paths["/api/v1/query"].keys() == {"get", "post"}


def test_an_unknown_path_and_method_are_told_in_json(api: httpx.Client) -> None:
    missing = api.get("/api/v2/query")
    assert (missing.status_code, missing.json()["errorType"]) == (404, "not_found")
    assert api.delete("/api/v1/query").status_code == 405


def test_a_form_is_read_only_as_a_form(api: httpx.Client) -> None:
    assert api.post("/api/v1/labels", json={"a": 1}).status_code == 415
    assert api.post("/api/v1/series", data={"match[]": "x" * 1_100_000}).status_code == 413


@pytest.mark.parametrize("given", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic s3cret"}])
def test_without_the_token_only_health_is_answered(
    parts: Parts, serve_app: Callable[[ASGIApp], str], given: dict[str, str]
) -> None:
    for create, path in ((create_app, "/api/v1/labels"), (create_otlp_app, "/v1/traces")):
        with httpx.Client(base_url=serve_app(create(parts, "s3cret")), trust_env=False) as http:
            refused = http.get(path, headers=given)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert http.get("/-/healthy", headers=given).status_code in (200, 404)


def test_the_otlp_port_takes_otlp_and_nothing_else(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    with httpx.Client(base_url=serve_app(create_otlp_app(parts)), trust_env=False) as http:
        assert http.post("/v1/traces", content=traces("a"), headers=PROTOBUF).status_code == 200
        assert http.get("/api/v1/labels").status_code == 404
    assert len(parts.spans.search()) == 1
