"""Log records in the store's SQLite file: appended in batches, searched by service, severity, time, words, trace."""

from collections.abc import Mapping, Sequence
from typing import Any

from collector.model.logs import LogRecord
from collector.store.database import Database, format_of
from collector.store.records import Conditions, delete_before, read, time_range, to_attributes, to_bytes, to_json

_COLUMNS = "time_ns, severity, severity_text, service, body, trace_id, span_id, attributes, resource"


class LogStore:
    """Log records of one data directory. Thread-safe; durable against kill -9 when ``append`` returns.

    ``database`` is that of an open ``Store``: ``LogStore(store.database)``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, records: Sequence[LogRecord]) -> int:
        """Store records and return how many; equal ones are kept as often as they come.

        Raises StoreError for an id that is not hexadecimal; then nothing of the batch was stored.
        """
        rows = [_row(record) for record in records]
        if rows:
            with self._database.transaction() as connection:
                connection.executemany(f"INSERT INTO logs ({_COLUMNS}) VALUES ({', '.join('?' * 9)})", rows)
        return len(rows)

    def search(
        self,
        service: str | None = None,
        min_severity: int | None = None,
        text: str | None = None,
        trace_id: str | None = None,
        start_ns: int | None = None,
        end_ns: int | None = None,
        attributes: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> list[LogRecord]:
        """Records that satisfy every condition given, latest first, at most ``limit``.

        ``start_ns <= record.time_ns <= end_ns``. ``text``: every word of it stands in the body, in any order and case;
        a word that ends in ``*`` stands for its beginning. An attribute may be the record's or its resource's and is
        compared as text. Damaged rows are left out and noted in the store's stats.
        """
        words = _words(text) if text is not None else None
        if words == "" or not self._exists():
            return []
        where = Conditions("logs")
        where.add("service = ?", service)
        where.add("severity >= ?", min_severity)
        where.add("id IN (SELECT rowid FROM logs_text WHERE logs_text MATCH ?)", words)
        where.add("trace_id = ?", to_bytes("trace id", trace_id) if trace_id is not None else None)
        where.add("time_ns >= ?", start_ns)
        where.add("time_ns <= ?", end_ns)
        where.add_attributes(attributes)
        rest = f"WHERE {where.text} ORDER BY time_ns DESC, id DESC LIMIT ?"
        return read(self._database, "logs", _COLUMNS, rest, [*where.values, limit], _record)

    def retain(self, oldest_ns: int) -> int:
        """Delete records from before ``oldest_ns``, some hundreds per transaction; returns how many."""
        return delete_before(self._database, "logs", "time_ns", oldest_ns)

    def time_range_ns(self) -> tuple[int, int] | None:
        """Earliest and latest time, or None where there are no records."""
        return time_range(self._database, "logs", "time_ns")

    def _exists(self) -> bool:
        with self._database.reader() as connection:
            return format_of(connection) > 1


def _words(text: str) -> str:
    """FTS5's syntax for "all of these words"; nothing in ``text`` is an operator."""
    words = []
    for word in text.split():
        beginning = word.rstrip("*").replace('"', '""')
        if any(letter.isalnum() for letter in beginning):
            words.append(f'"{beginning}"{"*" if word.endswith("*") else ""}')
    return " ".join(words)


def _row(record: LogRecord) -> tuple[object, ...]:
    return (
        record.time_ns,
        record.severity,
        record.severity_text,
        record.service,
        record.body,
        to_bytes("trace id", record.trace_id) if record.trace_id else None,
        to_bytes("span id", record.span_id) if record.span_id else None,
        to_json(record.attributes),
        to_json(record.resource),
    )


def _record(row: Sequence[Any]) -> LogRecord:
    time_ns, severity, severity_text, service, body, trace_id, span_id, attributes, resource = row
    return LogRecord(
        time_ns,
        severity,
        severity_text,
        body,
        service,
        to_attributes(attributes),
        to_attributes(resource),
        trace_id.hex() if trace_id is not None else None,
        span_id.hex() if span_id is not None else None,
    )
