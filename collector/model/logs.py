"""Log records as the collector keeps them: OpenTelemetry's fields, flattened."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.model.spans import AttributeValue


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One log record.

    ``time_ns``        when it happened, Unix nanoseconds; when it was seen, where the sender does not say
    ``severity``       1 to 24 as OpenTelemetry numbers it (9 is INFO, 17 ERROR); 0 where the sender does not say
    ``severity_text``  the sender's own word for it
    ``body``           text; of a structured body its JSON
    ``service``        the resource's ``service.name``; ``resource`` holds the other resource attributes
    ``trace_id``       lower-case hex, as is ``span_id``; None where it belongs to no span
    """

    time_ns: int
    severity: int
    severity_text: str
    body: str
    service: str
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    resource: Mapping[str, AttributeValue] = field(default_factory=dict)
    trace_id: str | None = None
    span_id: str | None = None
