"""OTLP trace requests as spans."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from collector.ingest.otlp_attributes import as_text, read_attributes
from collector.ingest.otlp_ids import SPAN_BYTES, TRACE_BYTES, read_id
from collector.model.spans import AttributeValue, Span, SpanEvent, SpanKind, SpanStatus

KINDS: tuple[SpanKind, ...] = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES: tuple[SpanStatus, ...] = ("unset", "ok", "error")
UNKNOWN_SERVICE = "unknown_service"
MAX_NS = 1 << 63
"""Times from here on, the year 2262, are refused."""


def read_spans(request: ExportTraceServiceRequest) -> tuple[list[Span], list[str]]:
    """Spans of one request, and why each of the others was refused."""
    spans: list[Span] = []
    refused: list[str] = []
    for resource_spans in request.resource_spans:
        service, resource = service_of(resource_spans.resource)
        for scope_spans in resource_spans.scope_spans:
            for wire in scope_spans.spans:
                try:
                    spans.append(_read_span(wire, service, resource))
                except ValueError as error:
                    refused.append(f'span "{wire.name}": {error}')
    return spans, refused


def service_of(resource: Resource) -> tuple[str, dict[str, AttributeValue]]:
    """A resource's ``service.name`` and its other attributes."""
    attributes = read_attributes(resource.attributes)
    return as_text(attributes.pop("service.name", UNKNOWN_SERVICE)), attributes


def _read_span(wire: WireSpan, service: str, resource: dict[str, AttributeValue]) -> Span:
    if wire.end_time_unix_nano < wire.start_time_unix_nano:
        raise ValueError("it ends before it starts")
    if wire.end_time_unix_nano >= MAX_NS:
        raise ValueError("its time is beyond the year 2262")
    parent = wire.parent_span_id
    return Span(
        trace_id=read_id("trace id", wire.trace_id, TRACE_BYTES),
        span_id=read_id("span id", wire.span_id, SPAN_BYTES),
        parent_id=read_id("parent span id", parent, SPAN_BYTES) if parent.strip(b"\0") else None,
        name=wire.name,
        service=service,
        kind=KINDS[wire.kind] if 0 <= wire.kind < len(KINDS) else "unspecified",
        start_ns=wire.start_time_unix_nano,
        end_ns=wire.end_time_unix_nano,
        status=STATUSES[wire.status.code] if 0 <= wire.status.code < len(STATUSES) else "unset",
        status_message=wire.status.message,
        attributes=read_attributes(wire.attributes) if wire.attributes else {},
        resource=resource,
        events=tuple(
            SpanEvent(event.time_unix_nano, event.name, read_attributes(event.attributes)) for event in wire.events
        ),
    )
