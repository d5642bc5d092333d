"""Spans as JSON objects: what ``GET /api/v1/spans`` answers and the client reads.

Field names are those of ``collector.model.spans.Span``; times are decimal strings of Unix nanoseconds, since a JSON
number may lose them in a browser.
"""

from typing import Any, cast

from collector.model.spans import Span, SpanEvent, SpanKind, SpanStatus


def span_to_json(span: Span) -> dict[str, Any]:
    """One span as a JSON-ready object."""
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_id": span.parent_id,
        "name": span.name,
        "service": span.service,
        "kind": span.kind,
        "start_ns": str(span.start_ns),
        "end_ns": str(span.end_ns),
        "status": span.status,
        "status_message": span.status_message,
        "attributes": dict(span.attributes),
        "resource": dict(span.resource),
        "events": [
            {"time_ns": str(event.time_ns), "name": event.name, "attributes": dict(event.attributes)}
            for event in span.events
        ],
    }


def span_from_json(entry: dict[str, Any]) -> Span:
    """Read what ``span_to_json`` wrote; KeyError or ValueError where a field is missing or is no number."""
    return Span(
        trace_id=entry["trace_id"],
        span_id=entry["span_id"],
        parent_id=entry["parent_id"],
        name=entry["name"],
        service=entry["service"],
        kind=cast(SpanKind, entry["kind"]),
        start_ns=int(entry["start_ns"]),
        end_ns=int(entry["end_ns"]),
        status=cast(SpanStatus, entry["status"]),
        status_message=entry["status_message"],
        attributes=entry["attributes"],
        resource=entry["resource"],
        events=tuple(
            SpanEvent(time_ns=int(event["time_ns"]), name=event["name"], attributes=event["attributes"])
            for event in entry["events"]
        ),
    )
