"""Spans as the collector keeps them: OpenTelemetry's fields, flattened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

SpanKind = Literal["unspecified", "internal", "server", "client", "producer", "consumer"]
SpanStatus = Literal["unset", "ok", "error"]
AttributeValue = str | bool | int | float | list[str] | list[bool] | list[int] | list[float]


@dataclass(frozen=True, slots=True)
class SpanEvent:
    """Something that happened at one moment inside a span; ``time_ns`` is Unix nanoseconds."""

    time_ns: int
    name: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One span; ids are lower-case hex (32 and 16 digits), times Unix nanoseconds.

    ``service`` is the resource's ``service.name``; ``resource`` holds the other resource attributes.
    """

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    service: str
    kind: SpanKind
    start_ns: int
    end_ns: int
    status: SpanStatus = "unset"
    status_message: str = ""
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    resource: Mapping[str, AttributeValue] = field(default_factory=dict)
    events: tuple[SpanEvent, ...] = ()

    @property
    def duration_ms(self) -> float:
        """Length in milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6
