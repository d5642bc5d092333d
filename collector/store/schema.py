"""Tables of the one SQLite file. ``FORMAT.md`` draws them and the bytes inside."""

FORMAT_VERSION = 1
APPLICATION_ID = 0x4C4F4144  # "LOAD"
PAGE_BYTES = 4096
WINDOW_BITS = 40  # a write-ahead row's id is group << 40 | sequence
TILE_BITS = 16  # a tile's id is chunk << 16 | number
MAX_SERIES = 1 << 26
MAX_GROUPS = 1 << 22
MAX_CHUNKS = 1 << 46
"""Numbers from these on are damage when read and an error when written."""

CHUNK_STEPS = 1 << 15
"""Most steps of a chunk, so that decoding one tile takes 4 MiB at most."""

RAGGED = 0
"""Group number of samples that came one series at a time."""

DDL = """
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
