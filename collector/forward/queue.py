"""A queue on disk: what was appended is there after kill -9, until it is done with or too old or too much.

One SQLite file per destination. The oldest records are dropped first, and every dropped item is counted with its
reason: ``size`` and ``age`` for the limits, ``disk`` where it could not be written.
"""

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from collector.model.errors import StoreError

MAX_BYTES = 512 << 20
MAX_AGE_S = 86_400.0

_log = logging.getLogger(__name__)

_DDL = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, added_s REAL NOT NULL, items INTEGER NOT NULL,
    payload BLOB NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """The oldest records of one kind that stand in a row; ``items`` is how many samples or spans they hold."""

    last_id: int
    kind: str
    items: int
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What waits; ``oldest_s`` is the age of the oldest record in seconds, 0 where nothing waits."""

    records: int
    items: int
    bytes: int
    oldest_s: float


class DiskQueue:
    """Records in the order in which they came. Thread-safe; one process at a time.

    Read by others: ``dropped``, items by reason.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int = MAX_BYTES,
        max_age_s: float = MAX_AGE_S,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._path = path
        self._max_bytes, self._max_age_s, self._now_s = max_bytes, max_age_s, now_s
        self._lock = threading.Lock()
        self._trouble = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._sql = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
            self._sql.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = NORMAL")
            self._sql.execute(_DDL)
            query = "SELECT count(*), coalesce(sum(items), 0), coalesce(sum(length(payload)), 0) FROM records"
            self._records, self._items, self._bytes = self._sql.execute(query).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"queue {path}: cannot be opened: {error}") from error

    def limit(self, max_bytes: int, max_age_s: float) -> None:
        """Other limits from now on."""
        with self._lock:
            self._max_bytes, self._max_age_s = max_bytes, max_age_s

    def append(self, kind: str, payload: bytes, items: int) -> None:
        """Put a record at the end; what goes beyond the limits is dropped at the front, or this one if it is larger."""
        with self._lock:
            now_s = self._now_s()
            try:
                self._expire(now_s)
                if len(payload) > self._max_bytes:
                    self.dropped["size"] += items
                    return
                while self._bytes + len(payload) > self._max_bytes:
                    self._drop_oldest("size")
                query = "INSERT INTO records (kind, added_s, items, payload) VALUES (?, ?, ?, ?)"
                self._sql.execute(query, (kind, now_s, items, payload))
            except sqlite3.Error as error:
                self.dropped["disk"] += items
                if not self._trouble:
                    _log.warning("queue %s: cannot be written: %s", self._path, error)
                self._trouble = True
                return
            self._trouble = False
            self._records += 1
            self._items += items
            self._bytes += len(payload)

    def peek(self, max_items: int, max_bytes: int) -> Batch | None:
        """The oldest records up to the limits, at least one, or None where nothing waits. Raises StoreError."""
        with self._lock:
            try:
                self._expire(self._now_s())
                payloads: list[bytes] = []
                kind, last_id, items, size = "", 0, 0, 0
                for row in self._sql.execute("SELECT id, kind, items, payload FROM records ORDER BY id"):
                    if payloads and (row[1] != kind or items + row[2] > max_items or size + len(row[3]) > max_bytes):
                        break
                    last_id, kind = row[0], row[1]
                    items, size = items + row[2], size + len(row[3])
                    payloads.append(row[3])
            except sqlite3.Error as error:
                raise StoreError(f"queue {self._path}: cannot be read: {error}") from error
        return Batch(last_id, kind, items, tuple(payloads)) if payloads else None

    def done(self, last_id: int) -> None:
        """Forget every record up to this one. Raises StoreError."""
        with self._lock:
            try:
                self._delete("id <= ?", (last_id,))
                if not self._records:
                    self._sql.execute("PRAGMA incremental_vacuum")
            except sqlite3.Error as error:
                raise StoreError(f"queue {self._path}: cannot be written: {error}") from error

    def stats(self) -> QueueStats:
        """Figures of this moment. Raises StoreError."""
        with self._lock:
            try:
                (oldest_s,) = self._sql.execute("SELECT min(added_s) FROM records").fetchone()
            except sqlite3.Error as error:
                raise StoreError(f"queue {self._path}: cannot be read: {error}") from error
            age_s = max(0.0, self._now_s() - oldest_s) if oldest_s is not None else 0.0
            return QueueStats(self._records, self._items, self._bytes, age_s)

    def close(self) -> None:
        """Close the file; nothing is lost by not calling it."""
        with self._lock:
            self._sql.close()

    def __enter__(self) -> "DiskQueue":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _expire(self, now_s: float) -> None:
        self._drop("age", "added_s < ?", (now_s - self._max_age_s,))

    def _drop_oldest(self, reason: str) -> None:
        self._drop(reason, "id IN (SELECT id FROM records ORDER BY id LIMIT 1)", ())

    def _drop(self, reason: str, condition: str, values: tuple[float, ...]) -> None:
        items = self._delete(condition, values)
        if items:
            self.dropped[reason] += items

    def _delete(self, condition: str, values: tuple[float, ...]) -> int:
        """Delete records and return how many items they held."""
        gone = self._sql.execute(
            f"DELETE FROM records WHERE {condition} RETURNING items, length(payload)",
            values,
        ).fetchall()
        self._records -= len(gone)
        self._items -= sum(items for items, _ in gone)
        self._bytes -= sum(size for _, size in gone)
        return sum(items for items, _ in gone)
