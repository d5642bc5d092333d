"""Exemplars in the store's SQLite file: of each series the latest few, in a ring."""

import struct
from collections.abc import Iterable, Sequence

import orjson

from collector.model.exemplars import Exemplar
from collector.model.labels import Labels
from collector.model.matchers import Matcher
from collector.store.database import Database, format_of
from collector.store.state import State

RING = 16
"""Exemplars kept of one series."""

MAX_LABEL_CHARACTERS = 128
"""Of all names and values of an exemplar's labels, as OpenMetrics has it."""

_VALUE = struct.Struct("<d")
_AT_ONCE = 500


class ExemplarRing:
    """Exemplars of one data directory. Thread-safe; durable against kill -9 when ``append`` returns."""

    def __init__(self, database: Database, state: State) -> None:
        self.refused = 0
        self._database = database
        self._state = state
        self._newest: dict[int, tuple[int, int]] = {}  # by series: slot and time of its latest exemplar

    def append(self, exemplars: Iterable[Exemplar]) -> int:
        """See ``Store.append_exemplars``."""
        accepted: list[tuple[int, int, int, bytes, str]] = []
        newest: dict[int, tuple[int, int]] = {}
        refused = 0
        with self._database.write_lock:
            for one in exemplars:
                series_id = self._state.index.id_of(one.series)
                if series_id is None or sum(len(name) + len(text) for name, text in one.labels) > MAX_LABEL_CHARACTERS:
                    refused += 1
                    continue
                slot, last_ms = newest.get(series_id) or self._latest(series_id)
                if one.timestamp_ms <= last_ms:
                    refused += 1
                    continue
                slot = (slot + 1) % RING
                newest[series_id] = (slot, one.timestamp_ms)
                labels = orjson.dumps(one.labels).decode()
                accepted.append((series_id, slot, one.timestamp_ms, _VALUE.pack(one.value), labels))
            if accepted:
                query = (
                    "INSERT OR REPLACE INTO exemplars (series, slot, timestamp_ms, value, labels) "
                    "VALUES (?, ?, ?, ?, ?)"
                )
                with self._database.transaction() as connection:
                    connection.executemany(query, accepted)
                self._newest.update(newest)
            self.refused += refused
        return len(accepted)

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[Exemplar]:
        """See ``Store.exemplars``."""
        ids = self._state.index.match(matchers).tolist()
        series = self._state.index.known(ids)
        found: list[Exemplar] = []
        with self._database.reader() as connection:
            if format_of(connection) < 2:
                return []
            for first in range(0, len(ids), _AT_ONCE):
                some = ids[first : first + _AT_ONCE]
                query = (
                    "SELECT series, slot, timestamp_ms, value, labels FROM exemplars "
                    f"WHERE series IN ({', '.join('?' * len(some))}) AND timestamp_ms BETWEEN ? AND ?"
                )
                for series_id, slot, time_ms, value, labels in connection.execute(query, [*some, start_ms, end_ms]):
                    try:
                        (number,) = _VALUE.unpack(value)
                        found.append(Exemplar(series[series_id], _labels(labels), number, time_ms))
                    except (ValueError, TypeError, KeyError, struct.error) as error:
                        self._database.damage.add(f"exemplar {slot} of series {series_id} cannot be read: {error}")
        return sorted(found, key=lambda one: (one.series, one.timestamp_ms))

    def retain(self, oldest_ms: int) -> None:
        """Delete exemplars from before ``oldest_ms``."""
        with self._database.step() as connection:
            connection.execute("DELETE FROM exemplars WHERE timestamp_ms < ?", (oldest_ms,))

    def _latest(self, series_id: int) -> tuple[int, int]:
        known = self._newest.get(series_id)
        if known is None:
            query = "SELECT slot, timestamp_ms FROM exemplars WHERE series = ? ORDER BY timestamp_ms DESC LIMIT 1"
            with self._database.reader() as connection:
                row = connection.execute(query, (series_id,)).fetchone()
            known = self._newest[series_id] = (row[0], row[1]) if row is not None else (RING - 1, -(1 << 63))
        return known


def _labels(text: str) -> Labels:
    return tuple((str(name), str(value)) for name, value in orjson.loads(text))
