"""OTLP log requests as log records."""

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as WireRecord

from collector.ingest.otlp_attributes import as_text, read_attributes, read_value
from collector.ingest.otlp_ids import SPAN_BYTES, TRACE_BYTES, optional_id
from collector.ingest.otlp_traces import MAX_NS, service_of
from collector.model.logs import LogRecord
from collector.model.spans import AttributeValue

SEVERITIES = 25
"""Severities are numbered from 0, unspecified, to 24, FATAL4."""


def read_logs(request: ExportLogsServiceRequest) -> tuple[list[LogRecord], list[str]]:
    """Records of one request, and why each of the others was refused.

    A record without a time of its own has that at which it was observed. An id that is none is left out.
    """
    records: list[LogRecord] = []
    refused: list[str] = []
    for resource_logs in request.resource_logs:
        service, resource = service_of(resource_logs.resource)
        for scope_logs in resource_logs.scope_logs:
            for wire in scope_logs.log_records:
                time_ns = wire.time_unix_nano or wire.observed_time_unix_nano
                if 0 < time_ns < MAX_NS:
                    records.append(_read_record(wire, time_ns, service, resource))
                else:
                    said = "has no time" if not time_ns else "has a time beyond the year 2262"
                    refused.append(f"a log record of {service} {said}")
    return records, refused


def _read_record(wire: WireRecord, time_ns: int, service: str, resource: dict[str, AttributeValue]) -> LogRecord:
    attributes = read_attributes(wire.attributes)
    if wire.event_name:
        attributes = {"event.name": wire.event_name} | attributes
    return LogRecord(
        time_ns=time_ns,
        severity=wire.severity_number if 0 <= wire.severity_number < SEVERITIES else 0,
        severity_text=wire.severity_text,
        body=as_text(read_value(wire.body)) if wire.HasField("body") else "",
        service=service,
        attributes=attributes,
        resource=resource,
        trace_id=optional_id(wire.trace_id, TRACE_BYTES),
        span_id=optional_id(wire.span_id, SPAN_BYTES),
    )
