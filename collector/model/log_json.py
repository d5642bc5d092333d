"""Log records as JSON objects: what ``GET /api/v1/logs`` answers and the client reads.

Field names are those of ``collector.model.logs.LogRecord``; times are decimal strings of Unix nanoseconds, since a JSON
number may lose them in a browser.
"""

from typing import Any

from collector.model.logs import LogRecord

SEVERITIES = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}
"""The least of OpenTelemetry's severity numbers that goes by each name."""


def log_to_json(record: LogRecord) -> dict[str, Any]:
    """One record as a JSON-ready object."""
    return {
        "time_ns": str(record.time_ns),
        "severity": record.severity,
        "severity_text": record.severity_text,
        "body": record.body,
        "service": record.service,
        "attributes": dict(record.attributes),
        "resource": dict(record.resource),
        "trace_id": record.trace_id,
        "span_id": record.span_id,
    }


def log_from_json(entry: dict[str, Any]) -> LogRecord:
    """Read what ``log_to_json`` wrote; KeyError or ValueError where a field is missing or is no number."""
    return LogRecord(**(entry | {"time_ns": int(entry["time_ns"])}))


def parse_severity(text: str) -> int:
    """The number of ``WARN``, ``warning`` or ``13``; ValueError for anything else."""
    if text.isascii() and text.isdigit() and int(text) <= 24:
        return int(text)
    name = text.upper()
    number = SEVERITIES.get("WARN" if name == "WARNING" else name)
    if number is None:
        raise ValueError(f'"{text}" is no severity; it is one of {", ".join(SEVERITIES)} or a number from 0 to 24')
    return number
