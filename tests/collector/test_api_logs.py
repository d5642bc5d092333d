"""Search of logs and spans over the API and the client."""

from collections.abc import Callable

import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.client import Client

NOW_NS = 1_700_000_000 * 10**9
PROTOBUF = {"content-type": "application/x-protobuf"}


def logs(*bodies: tuple[int, str]) -> bytes:
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "engine"
    scope = resource.scope_logs.add()
    for place, (severity, body) in enumerate(bodies):
        record = scope.log_records.add(time_unix_nano=NOW_NS + place, severity_number=severity, trace_id=b"\x02" * 16)
        record.body.string_value = body
        record.attributes.add(key="place").value.int_value = place
    return request.SerializeToString()


@pytest.fixture
def filled(api: httpx.Client) -> httpx.Client:
    body = logs((9, "model loaded"), (13, "queue is long"), (17, "model failed to load"))
    assert api.post("/v1/logs", content=body, headers=PROTOBUF).status_code == 200
    return api


@pytest.mark.parametrize(
    ("filters", "bodies"),
    [
        ({}, ["model failed to load", "queue is long", "model loaded"]),
        ({"severity": "warn"}, ["model failed to load", "queue is long"]),
        ({"severity": "17"}, ["model failed to load"]),
        ({"text": "model load*"}, ["model failed to load", "model loaded"]),
        ({"service": "engine", "attr.place": "1"}, ["queue is long"]),
        ({"service": "other"}, []),
        ({"trace_id": "02" * 16, "limit": "1"}, ["model failed to load"]),
        ({"start": "1700000001"}, []),
    ],
)
def test_records_are_found_by_every_filter(filled: httpx.Client, filters: dict[str, str], bodies: list[str]) -> None:
    answer = filled.get("/api/v1/logs", params=filters).json()
    assert [record["body"] for record in answer["data"]] == bodies


@pytest.mark.parametrize(
    ("filters", "told"),
    [
        ({"severity": "bad"}, '"bad" is no severity'),
        ({"trace_id": "xyz"}, "not hexadecimal"),
        ({"sevrity": "warn"}, 'no filter "sevrity"'),
        ({"limit": "1000000"}, "at most 10000"),
        ({"start": "yesterday"}, "valid timestamp"),
    ],
)
def test_a_filter_that_cannot_be_used_is_named(api: httpx.Client, filters: dict[str, str], told: str) -> None:
    answer = api.get("/api/v1/logs", params=filters)
    assert answer.status_code == 400
    assert told in answer.json()["error"]


def test_spans_are_found_by_status_and_attribute(api: httpx.Client) -> None:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for place in (1, 2):
        span = scope.spans.add(name=f"s{place}", trace_id=b"\x01" * 16, span_id=bytes([place] * 8))
        span.start_time_unix_nano, span.end_time_unix_nano = NOW_NS, NOW_NS + 1
        span.status.code = place
        span.attributes.add(key="gpu").value.int_value = place
    api.post("/v1/traces", content=request.SerializeToString(), headers=PROTOBUF)
    assert [one["name"] for one in api.get("/api/v1/spans", params={"status": "error"}).json()["data"]] == ["s2"]
    both = {"status": "ok", "attr.gpu": "2"}
    assert api.get("/api/v1/spans", params=both).json()["data"] == []
    assert [one["name"] for one in api.get("/api/v1/spans", params={"attr.gpu": "1"}).json()["data"]] == ["s1"]
    refused = api.get("/api/v1/spans", params={"status": "bad"})
    assert (refused.status_code, "unset, ok, error" in refused.json()["error"]) == (400, True)


def test_the_client_finds_logs_and_failed_spans(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    url = serve_app(create_app(parts))
    httpx.post(f"{url}/v1/logs", content=logs((17, "broken"), (9, "fine")), headers=PROTOBUF, trust_env=False)
    with Client(url) as client:
        (record,) = client.logs(severity="ERROR", text="broken", attributes={"place": "0"})
        assert (record.time_ns, record.service, record.trace_id) == (NOW_NS, "engine", "02" * 16)
        assert client.spans(status="error") == ()
