"""OTLP on the wire: decode requests in protobuf or JSON, gzip or plain, and answer as the specification says.

Source: OpenTelemetry protocol 1.x. In JSON, trace and span ids are hexadecimal, not base64; ``decode`` turns them into
bytes, so that whatever reads a request need not know how it came.
"""

import base64
import zlib
from collections.abc import Iterator
from typing import TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2

from collector.ingest.errors import UnsupportedMedia
from collector.model.errors import IngestError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_BODY_BYTES = 64 << 20
"""Largest body that is read, uncompressed."""

INVALID_ARGUMENT, UNAVAILABLE = 3, 14
"""google.rpc.Code of a request that cannot be read, and of one that cannot be stored now."""

Request = TypeVar("Request", bound=Message)


def media_type(content_type: str) -> str:
    """Which of the two encodings a request uses; UnsupportedMedia for any other."""
    media = content_type.split(";", maxsplit=1)[0].strip().lower()
    if media not in (PROTOBUF, JSON):
        raise UnsupportedMedia(f'OTLP: content type "{media}"; {PROTOBUF} and {JSON} are read')
    return media


def unfold(body: bytes, content_encoding: str, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body uncompressed; IngestError where it is not gzip as announced, or too long."""
    if content_encoding in ("", "identity"):
        return body
    if content_encoding != "gzip":
        raise UnsupportedMedia(f'OTLP: content encoding "{content_encoding}"; gzip is read, or none')
    unfolded, rest = b"", body
    while rest or not body:  # a body of gzip may have several members
        unzip = zlib.decompressobj(wbits=31)
        try:
            unfolded += unzip.decompress(rest, limit_bytes + 1 - len(unfolded))
        except zlib.error as error:
            raise IngestError(f"OTLP: the body is not gzip: {error}") from error
        if len(unfolded) > limit_bytes:
            raise IngestError(f"OTLP: more than {limit_bytes} bytes uncompressed")
        if not unzip.eof:
            raise IngestError("OTLP: the gzip body is cut short")
        rest = unzip.unused_data
    return unfolded


def decode(request: Request, body: bytes, media: str) -> Request:
    """Fill ``request`` from ``body``; IngestError where it cannot be read."""
    try:
        if media == JSON:
            json_format.Parse(body, request, ignore_unknown_fields=True)
            _mend_ids(request)
        else:
            request.ParseFromString(body)
    except (json_format.ParseError, DecodeError, ValueError, RecursionError) as error:
        raise IngestError(f"OTLP: the body is no {type(request).__name__}: {error}") from error
    return request


def encode(response: Message, media: str) -> bytes:
    """A response in the encoding of its request."""
    if media == JSON:
        return json_format.MessageToJson(response, indent=None).encode()
    return response.SerializeToString()


def encode_refusal(reason: str, media: str, code: int = INVALID_ARGUMENT) -> bytes:
    """A google.rpc.Status that says why a request was refused."""
    if media == JSON:
        return orjson.dumps({"code": code, "message": reason})
    text = reason.encode()[:16_000]
    length = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 0x7F | 0x80, len(text) >> 7])
    return b"\x08" + bytes([code]) + b"\x12" + length + text


def _mend_ids(request: Message) -> None:
    """What JSON's reader took for base64 was hexadecimal; an id that is neither stays as it is, to be refused."""
    for one in _with_ids(request):
        for name in ("trace_id", "span_id", "parent_span_id"):
            raw = getattr(one, name, b"")
            if raw:
                try:
                    setattr(one, name, bytes.fromhex(base64.b64encode(raw).decode()))
                except ValueError:
                    continue


def _with_ids(request: Message) -> Iterator[Message]:
    """Everything in a request that bears ids."""
    if isinstance(request, ExportTraceServiceRequest):
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    yield span
                    yield from span.links
    elif isinstance(request, ExportLogsServiceRequest):
        for logs in request.resource_logs:
            for scope_logs in logs.scope_logs:
                yield from scope_logs.log_records
    elif isinstance(request, ExportMetricsServiceRequest):
        for metrics in request.resource_metrics:
            for scope_metrics in metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    for point in _points(metric):
                        yield from getattr(point, "exemplars", ())


def _points(metric: metrics_pb2.Metric) -> Iterator[Message]:
    kind = metric.WhichOneof("data")
    if kind is not None:
        yield from getattr(metric, kind).data_points
