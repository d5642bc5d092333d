"""The embedded store: metrics, spans and logs of one data directory, in one SQLite file; ``FORMAT.md`` draws it."""

from collector.store.errors import CodecError, DirectoryInUse, OutOfOrder
from collector.store.logs import LogStore
from collector.store.spans import SpanStore
from collector.store.stats import AppendResult, Metadata, Recovery, StoreStats
from collector.store.store import Store

__all__ = [
    "AppendResult",
    "CodecError",
    "DirectoryInUse",
    "LogStore",
    "Metadata",
    "OutOfOrder",
    "Recovery",
    "SpanStore",
    "Store",
    "StoreStats",
]
