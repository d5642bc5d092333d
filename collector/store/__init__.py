"""The embedded store: metrics and spans of one data directory, in one SQLite file. ``FORMAT.md`` draws the bytes."""

from collector.store.errors import CodecError, DirectoryInUse, OutOfOrder
from collector.store.spans import SpanStore
from collector.store.stats import AppendResult, Metadata, Recovery, StoreStats
from collector.store.store import Store

__all__ = [
    "AppendResult",
    "CodecError",
    "DirectoryInUse",
    "Metadata",
    "OutOfOrder",
    "Recovery",
    "SpanStore",
    "Store",
    "StoreStats",
]
