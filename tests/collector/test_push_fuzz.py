"""Whatever is pushed is taken or refused: no body, cut or content type is answered with a 500."""

import cramjam
import httpx
import numpy as np
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.model.remote_write import encode
from collector.model.series import Series

PATHS = ("/api/v1/write", "/v1/traces", "/v1/metrics", "/v1/logs", "/api/v1/otlp/v1/metrics")
TYPES = (
    "application/x-protobuf",
    "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "application/json",
    "application/json; charset=utf-16",
    "text/plain",
    "",
)
ENCODINGS = ("", "snappy", "gzip", "identity", "br")


def whole_requests() -> list[bytes]:
    """Requests that would be taken."""
    series = [Series((("__name__", "a"), ("b", "c")), np.array([1_700_000_000_000]), np.array([1.5]))]
    spans = ExportTraceServiceRequest()
    span = (
        spans.resource_spans.add().scope_spans.add().spans.add(name="x", start_time_unix_nano=1, end_time_unix_nano=2)
    )
    span.trace_id, span.span_id = b"\1" * 16, b"\2" * 8
    return [
        encode(series),
        bytes(cramjam.snappy.decompress_raw(encode(series))),
        spans.SerializeToString(),
        b"{}",
        b"[]",
    ]


CUTS = st.sampled_from(whole_requests()).flatmap(lambda body: st.integers(0, len(body)).map(lambda end: body[:end]))
BODIES = st.binary(max_size=60) | CUTS | st.binary(max_size=60).map(lambda raw: bytes(cramjam.snappy.compress_raw(raw)))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(PATHS), st.sampled_from(TYPES), st.sampled_from(ENCODINGS), BODIES)
@example("/v1/metrics", "application/json", "", b"\xff")
@example("/api/v1/write", "", "", b"")
def test_no_push_is_answered_with_a_500(
    api: httpx.Client, path: str, content_type: str, encoding: str, body: bytes
) -> None:
    answer = api.post(path, content=body, headers={"Content-Type": content_type, "Content-Encoding": encoding})
    assert answer.status_code in (200, 204, 400, 415), answer.text
    if answer.status_code >= 400:
        assert answer.content
