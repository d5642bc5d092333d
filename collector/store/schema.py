"""Tables of the one SQLite file. ``FORMAT.md`` draws them and the bytes inside."""

FORMAT_VERSION = 2
APPLICATION_ID = 0x4C4F4144  # "LOAD"
PAGE_BYTES = 4096
WINDOW_BITS = 40  # a write-ahead row's id is group << 40 | sequence
TILE_BITS = 16  # a tile's id is chunk << 16 | number
MAX_SERIES = 1 << 26
MAX_GROUPS = 1 << 22
MAX_CHUNKS = 1 << 46
"""Numbers from these on are damage when read and an error when written."""

MIN_MS, MAX_MS = -(1 << 53), 1 << 53
"""Timestamps that are kept: those that a float64 of milliseconds holds exactly."""

CHUNK_STEPS = 1 << 15
"""Most steps of a chunk, so that decoding one tile takes 4 MiB at most."""

RAGGED = 0
"""Group number of samples that came one series at a time."""

LATE = MAX_GROUPS - 1
"""Group number of samples that came after later ones of their series."""

_DDL_1 = """
CREATE TABLE series (id INTEGER PRIMARY KEY, labels TEXT NOT NULL);
CREATE TABLE layouts (id INTEGER PRIMARY KEY, series BLOB NOT NULL);
CREATE TABLE groups (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, layout INTEGER, last_ms INTEGER);
CREATE TABLE wal (
    id INTEGER PRIMARY KEY, layout INTEGER, timestamp_ms INTEGER NOT NULL, crc INTEGER NOT NULL, payload BLOB NOT NULL
);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, group_id INTEGER NOT NULL, layout INTEGER NOT NULL, start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL, steps INTEGER NOT NULL, samples INTEGER NOT NULL, bytes INTEGER NOT NULL,
    timestamps BLOB NOT NULL
);
CREATE TABLE tiles (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE metadata (metric TEXT PRIMARY KEY, type TEXT NOT NULL, help TEXT NOT NULL, unit TEXT NOT NULL)
    WITHOUT ROWID;
CREATE TABLE spans (
    id INTEGER PRIMARY KEY, trace_id BLOB NOT NULL, span_id BLOB NOT NULL, parent_id BLOB, name TEXT NOT NULL,
    service TEXT NOT NULL, kind TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    status TEXT NOT NULL, status_message TEXT NOT NULL, attributes TEXT NOT NULL, resource TEXT NOT NULL,
    events TEXT NOT NULL
);
CREATE UNIQUE INDEX spans_by_trace ON spans (trace_id, span_id);
CREATE INDEX spans_by_service ON spans (service, start_ns);
CREATE INDEX spans_by_start ON spans (start_ns);
"""

_DDL_2 = """
ALTER TABLE chunks ADD COLUMN resolution_ms INTEGER NOT NULL DEFAULT 0;
CREATE TABLE trash (chunk INTEGER PRIMARY KEY);
CREATE TABLE exemplars (
    series INTEGER NOT NULL, slot INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL, value BLOB NOT NULL,
    labels TEXT NOT NULL, PRIMARY KEY (series, slot)
) WITHOUT ROWID;
CREATE TABLE logs (
    id INTEGER PRIMARY KEY, time_ns INTEGER NOT NULL, severity INTEGER NOT NULL, severity_text TEXT NOT NULL,
    service TEXT NOT NULL, body TEXT NOT NULL, trace_id BLOB, span_id BLOB, attributes TEXT NOT NULL,
    resource TEXT NOT NULL
);
CREATE INDEX logs_by_time ON logs (time_ns);
CREATE INDEX logs_by_service ON logs (service, time_ns);
CREATE INDEX logs_by_trace ON logs (trace_id) WHERE trace_id IS NOT NULL;
CREATE VIRTUAL TABLE logs_text USING fts5 (body, content='logs', content_rowid='id');
CREATE TRIGGER logs_added AFTER INSERT ON logs BEGIN
    INSERT INTO logs_text (rowid, body) VALUES (new.id, new.body);
END;
CREATE TRIGGER logs_removed AFTER DELETE ON logs BEGIN
    INSERT INTO logs_text (logs_text, rowid, body) VALUES ('delete', old.id, old.body);
END;
"""

DDL = {1: _DDL_1, 2: _DDL_2}
"""What brings a file from the format before to this one."""
