"""No bytes make OTLP's readers raise anything but an IngestError, and no answer is a 500."""

import gzip

import orjson
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.ingest import otlp
from collector.ingest.otlp_logs import read_logs
from collector.ingest.otlp_metrics import MetricsReader
from collector.ingest.otlp_traces import read_spans
from collector.model.errors import IngestError

READERS = {
    ExportTraceServiceRequest: read_spans,
    ExportMetricsServiceRequest: MetricsReader().read,
    ExportLogsServiceRequest: read_logs,
}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["1", "-1"])
# fmt: off
KEYS = st.sampled_from([
    "resourceSpans", "resourceMetrics", "resourceLogs", "resource", "attributes", "key", "value", "scopeSpans",
    "scopeMetrics", "scopeLogs", "spans", "metrics", "logRecords", "name", "traceId", "spanId", "startTimeUnixNano",
    "endTimeUnixNano", "timeUnixNano", "gauge", "sum", "histogram", "summary", "exponentialHistogram", "dataPoints",
    "asInt", "asDouble", "count", "bucketCounts", "explicitBounds", "positive", "offset", "scale", "exemplars",
    "body", "stringValue", "arrayValue", "values", "kvlistValue", "aggregationTemporality", "isMonotonic",
    "quantileValues",
])
# fmt: on
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=25
)


def take(body: bytes, media: str) -> None:
    for kind, read in READERS.items():
        try:
            request = otlp.decode(kind(), body, media)
        except IngestError as error:
            assert "OTLP" in str(error)
        else:
            read(request)  # type: ignore[operator]


@settings(max_examples=200)
@given(st.binary(max_size=120), st.sampled_from([otlp.JSON, otlp.PROTOBUF]))
def test_arbitrary_bytes_are_read_or_refused(body: bytes, media: str) -> None:
    take(body, media)


@settings(max_examples=200)
@given(DOCUMENTS)
def test_arbitrary_json_is_read_or_refused(document: object) -> None:
    try:
        body = orjson.dumps(document)
    except (TypeError, ValueError):
        return
    take(body, otlp.JSON)


def whole() -> dict[str, object]:
    """One request with everything in it."""
    moment = "1700000000000000000"
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]}
    exemplar = {"timeUnixNano": moment, "asDouble": 1.0, "traceId": "01" * 16, "spanId": "02" * 8}
    point = {"timeUnixNano": moment, "count": "2", "sum": 1.5, "exemplars": [exemplar]}
    buckets = {"bucketCounts": ["1", "1"], "explicitBounds": [1.0]}
    spread = {"scale": 2, "positive": {"offset": 1, "bucketCounts": ["2"]}}
    metrics = [
        {"name": "a", "sum": {"dataPoints": [{"timeUnixNano": moment, "asInt": "3"}], "aggregationTemporality": 1}},
        {"name": "b", "histogram": {"dataPoints": [point | buckets], "aggregationTemporality": 1}},
        {"name": "c", "exponentialHistogram": {"dataPoints": [point | spread], "aggregationTemporality": 2}},
    ]
    span = {"traceId": "01" * 16, "spanId": "02" * 8, "name": "x", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    log = {"timeUnixNano": moment, "body": {"stringValue": "said"}, "traceId": "01" * 16}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span | {"links": [span]}]}]}],
        "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": metrics}]}],
        "resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}],
    }


@pytest.mark.parametrize("kind", READERS, ids=lambda kind: kind.__name__)
def test_every_cut_of_a_request_is_read_or_refused(kind: type[Message]) -> None:
    request = otlp.decode(kind(), orjson.dumps(whole()), otlp.JSON)
    for body, media in ((request.SerializeToString(), otlp.PROTOBUF), (orjson.dumps(whole()), otlp.JSON)):
        assert len(body) > 50
        for length in range(len(body)):
            take(body[:length], media)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_no_gzip(body: bytes) -> None:
    for damaged in (body, gzip.compress(body)[:-1], b"\x1f\x8b" + body):
        with pytest.raises(IngestError, match="gzip"):
            otlp.unfold(damaged, "gzip")


def test_log_records_are_read_with_their_ids_and_times() -> None:
    request = otlp.decode(ExportLogsServiceRequest(), orjson.dumps(whole()), otlp.JSON)
    record = request.resource_logs[0].scope_logs[0].log_records
    record.add(observed_time_unix_nano=5, severity_number=17, trace_id=b"short").body.int_value = 3  # type: ignore[arg-type]
    record.add()
    (first, second), refused = read_logs(request)
    assert (first.body, first.trace_id, first.span_id, first.service) == ("said", "01" * 16, None, "s")
    assert (second.time_ns, second.severity, second.body, second.trace_id) == (5, 17, "3", None)
    assert refused == ["a log record of s has no time"]
