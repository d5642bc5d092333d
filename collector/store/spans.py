"""Spans in the store's SQLite file: appended in batches, searched by trace, service, name, time, attributes."""

import math
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, cast

import orjson

from collector.model.errors import StoreError
from collector.model.spans import AttributeValue, Span, SpanEvent, SpanKind, SpanStatus
from collector.store.database import Database

_COLUMNS = (
    "trace_id, span_id, parent_id, name, service, kind, start_ns, end_ns, status, status_message, attributes, "
    "resource, events"
)
_ATTRIBUTE = (
    "EXISTS (SELECT 1 FROM json_each(spans.{column}) WHERE key = ? AND "
    "CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(value AS TEXT) END = ?)"
)
_DELETE_AT_ONCE = 5_000


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
    ) -> list[Span]:
        """Spans that satisfy every condition given, latest start first, at most ``limit``.

        ``start_ns <= span.start_ns <= end_ns``. An attribute may be the span's or its resource's; its value is
        compared as text: ``"true"``, ``"42"``, ``"0.5"``.
        """
        conditions: list[tuple[str, tuple[object, ...]]] = []
        if service is not None:
            conditions.append(("service = ?", (service,)))
        if name is not None:
            conditions.append(("name = ?", (name,)))
        if trace_id is not None:
            conditions.append(("trace_id = ?", (_bytes("trace id", trace_id),)))
        if min_duration_ms is not None:
            conditions.append(("end_ns - start_ns >= ?", (math.ceil(min_duration_ms * 1e6),)))
        if start_ns is not None:
            conditions.append(("start_ns >= ?", (start_ns,)))
        if end_ns is not None:
            conditions.append(("start_ns <= ?", (end_ns,)))
        for key, value in (attributes or {}).items():
            either = f"({_ATTRIBUTE.format(column='attributes')} OR {_ATTRIBUTE.format(column='resource')})"
            conditions.append((either, (key, value, key, value)))
        where = " AND ".join(condition for condition, _ in conditions) or "1"
        values = [value for _, some in conditions for value in some]
        query = f"SELECT {_COLUMNS} FROM spans WHERE {where} ORDER BY start_ns DESC, id DESC LIMIT ?"
        return self._spans(query, [*values, limit])

    def trace(self, trace_id: str) -> list[Span]:
        """Every span of a trace, earliest start first."""
        query = f"SELECT {_COLUMNS} FROM spans WHERE trace_id = ? ORDER BY start_ns, id"
        return self._spans(query, [_bytes("trace id", trace_id)])

    def retain(self, oldest_ns: int) -> int:
        """Delete spans that started before ``oldest_ns``, some thousands per transaction; returns how many."""
        query = "DELETE FROM spans WHERE id IN (SELECT id FROM spans WHERE start_ns < ? LIMIT ?)"
        gone = 0
        while True:
            with self._database.transaction() as connection:
                count = connection.execute(query, (oldest_ns, _DELETE_AT_ONCE)).rowcount
            gone += count
            if count < _DELETE_AT_ONCE:
                return gone

    def _spans(self, query: str, values: Sequence[object]) -> list[Span]:
        with self._database.reader() as connection:
            return [_span(row) for row in _fetch(connection, query, values)]


def _fetch(connection: sqlite3.Connection, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    return connection.execute(query, cast(Any, values)).fetchall()


def _row(span: Span) -> tuple[object, ...]:
    return (
        _bytes("trace id", span.trace_id),
        _bytes("span id", span.span_id),
        _bytes("parent id", span.parent_id) if span.parent_id else None,
        span.name,
        span.service,
        span.kind,
        span.start_ns,
        span.end_ns,
        span.status,
        span.status_message,
        _json(span.attributes),
        _json(span.resource),
        orjson.dumps([[event.time_ns, event.name, _plain(event.attributes)] for event in span.events]).decode(),
    )


def _span(row: tuple[Any, ...]) -> Span:
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
        orjson.loads(own),
        orjson.loads(resource),
        tuple(SpanEvent(time_ns, event, attributes) for time_ns, event, attributes in orjson.loads(events)),
    )


def _bytes(what: str, digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise StoreError(f"{what} {digits!r} is not hexadecimal") from None


def _json(attributes: Mapping[str, AttributeValue]) -> str:
    return orjson.dumps(_plain(attributes)).decode()


def _plain(attributes: Mapping[str, AttributeValue]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they are kept as the words ``NaN``, ``Infinity`` and ``-Infinity``."""
    return {key: _finite(value) for key, value in attributes.items()}


def _finite(value: AttributeValue) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value
