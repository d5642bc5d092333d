"""OTLP requests, both encodings, as spans and series."""

import base64
import gzip
import math

import orjson
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from collector.ingest import otlp
from collector.ingest.otlp_attributes import read_attributes
from collector.ingest.otlp_metrics import MetricsReader
from collector.ingest.otlp_names import label_name, metric_name
from collector.ingest.otlp_traces import read_spans
from collector.model.errors import IngestError
from collector.model.labels import Labels, get
from collector.model.series import is_stale
from collector.model.spans import Span

TRACES = {
    "resourceSpans": [
        {
            "resource": {
                "attributes": [
                    {"key": "service.name", "value": {"stringValue": "engine"}},
                    {"key": "host.name", "value": {"stringValue": "h1"}},
                ]
            },
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "eee19b7ec3c1b174",
                            "parentSpanId": "eee19b7ec3c1b173",
                            "name": "prefill",
                            "kind": 2,
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "status": {"code": 2, "message": "out of blocks"},
                            "attributes": [{"key": "gen_ai.usage.input_tokens", "value": {"intValue": "7"}}],
                            "events": [{"timeUnixNano": "1544712660500000000", "name": "preempted"}],
                        }
                    ]
                }
            ],
        }
    ]
}


def as_protobuf(document: dict[str, object]) -> bytes:
    """The JSON document in protobuf, ids turned from hexadecimal as an exporter would."""
    request = json_format.ParseDict(document, ExportTraceServiceRequest())
    for resource_spans in request.resource_spans:
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                span.trace_id = bytes.fromhex(base64.b64encode(span.trace_id).decode())
                span.span_id = bytes.fromhex(base64.b64encode(span.span_id).decode())
                span.parent_span_id = bytes.fromhex(base64.b64encode(span.parent_span_id).decode())
    return request.SerializeToString()


def spans_of(body: bytes, media: str) -> tuple[list[Span], list[str]]:
    return read_spans(otlp.decode(ExportTraceServiceRequest(), body, media))


def test_a_span_is_read_from_json() -> None:
    (span,), refused = spans_of(orjson.dumps(TRACES), otlp.JSON)
    assert refused == []
    assert (span.trace_id, span.span_id) == ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174")
    assert span.parent_id == "eee19b7ec3c1b173"
    assert (span.service, span.resource) == ("engine", {"host.name": "h1"})
    assert (span.kind, span.status, span.status_message) == ("server", "error", "out of blocks")
    assert span.duration_ms == 1000.0
    assert span.attributes == {"gen_ai.usage.input_tokens": 7}
    assert span.events[0].name == "preempted"


def test_protobuf_and_json_give_the_same_span() -> None:
    assert spans_of(as_protobuf(TRACES), otlp.PROTOBUF) == spans_of(orjson.dumps(TRACES), otlp.JSON)


def test_a_span_with_a_bad_id_is_refused_and_the_others_are_kept() -> None:
    document = orjson.loads(orjson.dumps(TRACES))
    spans = document["resourceSpans"][0]["scopeSpans"][0]["spans"]
    spans.append({**spans[0], "traceId": "0" * 32, "name": "nameless"})
    kept, refused = spans_of(orjson.dumps(document), otlp.JSON)
    assert len(kept) == 1
    assert refused == [f'span "nameless": trace id "{"0" * 32}" is not 32 hexadecimal digits, not all of them 0']


def test_attributes_of_every_kind_become_plain_values() -> None:
    def value(**kind: object) -> AnyValue:
        return AnyValue(**kind)  # type: ignore[arg-type]

    numbers = ArrayValue(values=[value(int_value=1), value(int_value=2)])
    mixed = ArrayValue(values=[value(int_value=1), value(string_value="b")])
    pairs = {
        "flag": value(bool_value=True),
        "ratio": value(double_value=0.5),
        "numbers": value(array_value=numbers),
        "mixed": value(array_value=mixed),
        "map": value(kvlist_value=KeyValueList(values=[KeyValue(key="a", value=value(int_value=1))])),
        "raw": value(bytes_value=b"\x00\x01"),
        "none": AnyValue(),
    }
    assert read_attributes(KeyValue(key=key, value=one) for key, one in pairs.items()) == {
        "flag": True,
        "ratio": 0.5,
        "numbers": [1, 2],
        "mixed": ["1", "b"],
        "map": '{"a":1}',
        "raw": "AAE=",
        "none": "",
    }


def metrics(*documents: dict[str, object]) -> ExportMetricsServiceRequest:
    resource = {
        "attributes": [
            {"key": "service.name", "value": {"stringValue": "api"}},
            {"key": "service.namespace", "value": {"stringValue": "shop"}},
            {"key": "service.instance.id", "value": {"stringValue": "i1"}},
            {"key": "host.name", "value": {"stringValue": "h1"}},
        ]
    }
    request = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": list(documents)}]}]}
    return json_format.ParseDict(request, ExportMetricsServiceRequest())


POINT = {"timeUnixNano": "1700000000000000000"}


def read(*documents: dict[str, object]) -> tuple[dict[tuple[str, str], float], list[str], list[Labels]]:
    found = MetricsReader().read(metrics(*documents))
    series, refused = found.series, found.refused
    values = {
        (get(one.labels, "__name__"), get(one.labels, "le") or get(one.labels, "quantile")): float(one.values[-1])
        for one in series
    }
    return values, refused, [one.labels for one in series]


def test_gauges_and_sums_are_named_as_prometheus_names_them() -> None:
    point = {**POINT, "asInt": "3", "attributes": [{"key": "http.route", "value": {"stringValue": "/x"}}]}
    values, refused, labels = read(
        {"name": "queue.depth", "unit": "{request}", "gauge": {"dataPoints": [point]}},
        {
            "name": "tokens",
            "unit": "1",
            "sum": {"dataPoints": [point], "isMonotonic": True, "aggregationTemporality": 2},
        },
    )
    assert values == {("queue_depth", ""): 3.0, ("tokens_total", ""): 3.0, ("target_info", ""): 1.0}
    assert refused == []
    assert dict(labels[0]) == {"__name__": "queue_depth", "http_route": "/x", "job": "shop/api", "instance": "i1"}
    assert dict(labels[2])["host_name"] == "h1"


def test_a_histogram_becomes_cumulative_buckets() -> None:
    point = {**POINT, "count": "6", "sum": 3.5, "explicitBounds": [0.00001, 0.5], "bucketCounts": ["1", "2", "3"]}
    values, refused, _ = read(
        {"name": "ttft", "unit": "s", "histogram": {"dataPoints": [point], "aggregationTemporality": 2}}
    )
    values.pop(("target_info", ""))
    assert refused == []
    assert values == {
        ("ttft_seconds_bucket", "0.00001"): 1.0,
        ("ttft_seconds_bucket", "0.5"): 3.0,
        ("ttft_seconds_bucket", "+Inf"): 6.0,
        ("ttft_seconds_count", ""): 6.0,
        ("ttft_seconds_sum", ""): 3.5,
    }


def test_a_summary_becomes_quantiles() -> None:
    point = {**POINT, "count": "2", "sum": 1.5, "quantileValues": [{"quantile": 0.5, "value": 0.7}]}
    values, _, _ = read({"name": "wait", "unit": "ms", "summary": {"dataPoints": [point]}})
    assert values["wait_milliseconds", "0.5"] == 0.7
    assert values["wait_milliseconds_count", ""] == 2.0


def test_what_is_not_kept_is_refused_by_name() -> None:
    bad = {**POINT, "bucketCounts": ["1"], "explicitBounds": [1.0]}
    falling = {**POINT, "bucketCounts": ["1", "0", "0"], "explicitBounds": [2.0, 1.0]}
    _, refused, labels = read(
        {"name": "h", "histogram": {"dataPoints": [bad]}},
        {"name": "i", "histogram": {"dataPoints": [bad, falling], "aggregationTemporality": 2}},
        {"name": "g", "gauge": {"dataPoints": [{"asInt": "1"}]}},
        {"name": "...", "gauge": {"dataPoints": [POINT]}},
        {"name": "e", "exponentialHistogram": {"dataPoints": [{**POINT, "scale": 99}], "aggregationTemporality": 2}},
    )
    assert labels == []
    assert refused == [
        'metric "h": it states no temporality',
        'metric "i": 1 bucket counts for 1 bounds',
        'metric "i": its bounds do not rise',
        'metric "g": a data point has no time',
        'metric "...": it has no name of letters or digits',
        'metric "e": scale is 99; it is from -10 to 20',
    ]


def test_a_point_without_a_recorded_value_ends_the_series() -> None:
    found = MetricsReader().read(metrics({"name": "g", "gauge": {"dataPoints": [{**POINT, "flags": 1}]}}))
    assert is_stale(found.series[0].values).all()


@pytest.mark.parametrize(
    ("name", "unit", "kinds", "expected"),
    [
        ("http.server.request.duration", "s", {}, "http_server_request_duration_seconds"),
        ("gen_ai.client.token.usage", "{token}", {}, "gen_ai_client_token_usage"),
        ("system.memory.usage", "By", {}, "system_memory_usage_bytes"),
        ("requests.total", "1", {"monotonic_sum": True}, "requests_total"),
        ("cpu.utilization", "1", {"gauge": True}, "cpu_utilization_ratio"),
        ("throughput", "By/s", {}, "throughput_bytes_per_second"),
        ("a.per.b", "requests/m", {}, "a_per_b_requests_per_minute"),
        ("idle", "{x}/second", {}, "idle_per_second"),
        ("memory.bytes.used", "By", {}, "memory_bytes_used"),
        ("latency_seconds", "s", {}, "latency_seconds"),
        ("2xx", "", {}, "_2xx"),
    ],
)
def test_metric_names(name: str, unit: str, kinds: dict[str, bool], expected: str) -> None:
    assert metric_name(name, unit, **kinds) == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("http.route", "http_route"), ("9lives", "key_9lives"), ("_x", "key_x"), ("ok", "ok")]
)
def test_label_names(name: str, expected: str) -> None:
    assert label_name(name) == expected


def test_a_gzip_body_is_unfolded_within_its_limit() -> None:
    assert otlp.unfold(gzip.compress(b"x" * 100), "gzip", 100) == b"x" * 100
    with pytest.raises(IngestError, match="more than 99 bytes"):
        otlp.unfold(gzip.compress(b"x" * 100), "gzip", 99)
    with pytest.raises(IngestError, match="cut short"):
        otlp.unfold(gzip.compress(b"x" * 100)[:-5], "gzip")
    with pytest.raises(IngestError, match="not gzip"):
        otlp.unfold(b"plain", "gzip")
    with pytest.raises(IngestError, match='content encoding "br"'):
        otlp.unfold(b"", "br")


@pytest.mark.parametrize("length", [5, 300])
def test_a_refusal_in_protobuf_holds_code_and_message(length: int) -> None:
    raw = otlp.encode_refusal("x" * length, otlp.PROTOBUF)
    assert raw[:3] == b"\x08\x03\x12"
    assert raw.endswith(b"x" * length)
    assert math.ceil(length.bit_length() / 7) == len(raw) - 3 - length
