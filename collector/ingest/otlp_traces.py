"""OTLP trace requests as spans."""

import string

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from collector.ingest import otlp
from collector.ingest.otlp_attributes import as_text, read_attributes
from collector.model.spans import AttributeValue, Span, SpanEvent, SpanKind, SpanStatus

KINDS: tuple[SpanKind, ...] = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES: tuple[SpanStatus, ...] = ("unset", "ok", "error")
UNKNOWN_SERVICE = "unknown_service"


def read_spans(body: bytes, media: str) -> tuple[list[Span], list[str]]:
    """Spans of one request, and why each of the others was refused. Raises IngestError."""
    request = otlp.decode(ExportTraceServiceRequest(), body, media)
    spans: list[Span] = []
    refused: list[str] = []
    for resource_spans in request.resource_spans:
        service, resource = _service(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            for wire in scope_spans.spans:
                try:
                    spans.append(_read_span(wire, service, resource, media))
                except ValueError as error:
                    refused.append(f'span "{wire.name}": {error}')
    return spans, refused


def _service(resource: Resource) -> tuple[str, dict[str, AttributeValue]]:
    attributes = read_attributes(resource.attributes)
    return as_text(attributes.pop("service.name", UNKNOWN_SERVICE)), attributes


def _read_span(wire: WireSpan, service: str, resource: dict[str, AttributeValue], media: str) -> Span:
    if wire.end_time_unix_nano < wire.start_time_unix_nano:
        raise ValueError("it ends before it starts")
    if max(wire.start_time_unix_nano, wire.end_time_unix_nano) >= 1 << 63:
        raise ValueError("its time is beyond the year 2262")
    return Span(
        trace_id=_read_id("trace id", wire.trace_id, 32, media),
        span_id=_read_id("span id", wire.span_id, 16, media),
        parent_id=_read_id("parent span id", wire.parent_span_id, 16, media) if wire.parent_span_id else None,
        name=wire.name,
        service=service,
        kind=KINDS[wire.kind] if 0 <= wire.kind < len(KINDS) else "unspecified",
        start_ns=wire.start_time_unix_nano,
        end_ns=wire.end_time_unix_nano,
        status=STATUSES[wire.status.code] if 0 <= wire.status.code < len(STATUSES) else "unset",
        status_message=wire.status.message,
        attributes=read_attributes(wire.attributes),
        resource=resource,
        events=tuple(
            SpanEvent(event.time_unix_nano, event.name, read_attributes(event.attributes)) for event in wire.events
        ),
    )


def _read_id(subject: str, raw: bytes, digits: int, media: str) -> str:
    text = otlp.hex_id(raw, media)
    if len(text) != digits or not set(text) <= set(string.hexdigits) or not text.strip("0"):
        raise ValueError(f'{subject} "{text}" is not {digits} hexadecimal digits, not all of them 0')
    return text
