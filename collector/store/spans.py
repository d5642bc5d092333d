"""Spans in the store's SQLite file: appended in batches, searched by trace, service, name, time, attributes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from collector.model.spans import Span, SpanEvent, SpanKind, SpanStatus
from collector.store.database import Database
from collector.store.records import Conditions, delete_before, plain, read, time_range, to_attributes, to_bytes, to_json

_COLUMNS = (
    "trace_id, span_id, parent_id, name, service, kind, start_ns, end_ns, status, status_message, attributes, "
    "resource, events"
)


class SpanStore:
    """Spans of one data directory. Thread-safe; durable against kill -9 when ``append`` returns.

    ``database`` is that of an open ``Store``: ``SpanStore(store.database)``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, spans: Sequence[Span]) -> int:
        """Store spans and return how many were new; one with a known (trace id, span id) is left out.

        Raises StoreError for an id that is not hexadecimal; then nothing of the batch was stored.
        """
        rows = [_row(span) for span in spans]
        if not rows:
            return 0
        with self._database.transaction() as connection:
            before = connection.total_changes
            marks = ", ".join("?" * 13)
            connection.executemany(f"INSERT OR IGNORE INTO spans ({_COLUMNS}) VALUES ({marks})", rows)
            return connection.total_changes - before

    def search(
        self,
        service: str | None = None,
        name: str | None = None,
        trace_id: str | None = None,
        min_duration_ms: float | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 100,
        status: SpanStatus | None = None,
    ) -> list[Span]:
        """Spans that satisfy every condition given, latest start first, at most ``limit``.

        ``start_ns <= span.start_ns <= end_ns``. An attribute may be the span's or its resource's; its value is
        compared as text: ``"true"``, ``"42"``, ``"0.5"``. Damaged rows are left out and noted in the store's stats.
        """
        where = Conditions("spans")
        where.add("service = ?", service)
        where.add("name = ?", name)
        where.add("trace_id = ?", to_bytes("trace id", trace_id) if trace_id is not None else None)
        where.add("end_ns - start_ns >= ?", math.ceil(min_duration_ms * 1e6) if min_duration_ms is not None else None)
        where.add("start_ns >= ?", start_ns)
        where.add("start_ns <= ?", end_ns)
        where.add("status = ?", status)
        where.add_attributes(attributes)
        rest = f"WHERE {where.text} ORDER BY start_ns DESC, id DESC LIMIT ?"
        return read(self._database, "spans", _COLUMNS, rest, [*where.values, limit], _span)

    def trace(self, trace_id: str) -> list[Span]:
        """Every span of a trace, earliest start first."""
        rest = "WHERE trace_id = ? ORDER BY start_ns, id"
        return read(self._database, "spans", _COLUMNS, rest, [to_bytes("trace id", trace_id)], _span)

    def retain(self, oldest_ns: int) -> int:
        """Delete spans that started before ``oldest_ns``, some hundreds per transaction; returns how many."""
        return delete_before(self._database, "spans", "start_ns", oldest_ns)

    def time_range_ns(self) -> tuple[int, int] | None:
        """Earliest and latest start, or None where there are no spans."""
        return time_range(self._database, "spans", "start_ns")


def _row(span: Span) -> tuple[object, ...]:
    return (
        to_bytes("trace id", span.trace_id),
        to_bytes("span id", span.span_id),
        to_bytes("parent id", span.parent_id) if span.parent_id else None,
        span.name,
        span.service,
        span.kind,
        span.start_ns,
        span.end_ns,
        span.status,
        span.status_message,
        to_json(span.attributes),
        to_json(span.resource),
        orjson.dumps([[event.time_ns, event.name, plain(event.attributes)] for event in span.events]).decode(),
    )


def _span(row: Sequence[Any]) -> Span:
    trace_id, span_id, parent_id, name, service, kind, start_ns, end_ns, status, message, own, resource, events = row
    return Span(
        trace_id.hex(),
        span_id.hex(),
        parent_id.hex() if parent_id is not None else None,
        name,
        service,
        cast(SpanKind, kind),
        start_ns,
        end_ns,
        cast(SpanStatus, status),
        message,
        to_attributes(own),
        to_attributes(resource),
        tuple(SpanEvent(time_ns, event, attributes) for time_ns, event, attributes in orjson.loads(events)),
    )
