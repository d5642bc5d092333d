"""Series, layouts and groups that one append brings: known to others only once they are committed."""

import sqlite3

import orjson

from collector.model.errors import StoreError
from collector.model.labels import Labels, render
from collector.store.schema import MAX_SERIES
from collector.store.state import Group, Layout, State


class Pending:
    """What is new in one append. Under the write lock."""

    def __init__(self, state: State) -> None:
        self.series: dict[Labels, int] = {}
        self.layout: Layout | None = None
        self.group: Group | None = None
        self._state = state

    def id_of(self, labels: Labels) -> int:
        """A series' number, a new one where it is unknown. Raises StoreError where the store is full."""
        series_id = self._state.index.id_of(labels)
        if series_id is None:
            series_id = self.series.setdefault(labels, self._state.index.next_id + len(self.series))
            if series_id >= MAX_SERIES:
                raise StoreError(f"{render(labels)}: a store holds {MAX_SERIES} series at most")
        return series_id

    def write(self, connection: sqlite3.Connection) -> None:
        """Insert the rows, inside the caller's transaction."""
        for labels, series_id in self.series.items():
            connection.execute(
                "INSERT INTO series (id, labels) VALUES (?, ?)", (series_id, orjson.dumps(labels).decode())
            )
        if self.layout is not None:
            insert_layout(connection, self.layout)
        if self.group is not None:
            connection.execute("INSERT INTO groups (id, key) VALUES (?, ?)", (self.group.id, self.group.key))

    def publish(self) -> None:
        """Make it known. Under the state's lock."""
        if self.series:
            self._state.index.add((series_id, labels) for labels, series_id in self.series.items())
        if self.layout is not None:
            self._state.add_layout(self.layout)
        if self.group is not None:
            self._state.add_group(self.group)


def insert_layout(connection: sqlite3.Connection, layout: Layout) -> None:
    """Write a layout's row."""
    blob = layout.ids.astype("<u4").tobytes()
    connection.execute("INSERT INTO layouts (id, series) VALUES (?, ?)", (layout.id, blob))
