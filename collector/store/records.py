"""What spans and logs have in common: attributes as JSON, conditions on them, rows that may be damaged."""

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import orjson

from collector.model.errors import StoreError
from collector.model.spans import AttributeValue
from collector.store.database import Database

T = TypeVar("T")

_ATTRIBUTE = (
    "CASE WHEN json_valid({table}.{column}) THEN EXISTS (SELECT 1 FROM json_each({table}.{column}) WHERE key = ? AND "
    "CASE type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(value AS TEXT) END = ?) ELSE 0 END"
)
_DELETE_AT_ONCE = 500


class Conditions:
    """Conditions that all have to hold, as SQL with its values."""

    def __init__(self, table: str) -> None:
        self.values: list[object] = []
        self._table = table
        self._texts: list[str] = []

    def add(self, text: str, *values: object) -> None:
        """A condition with a ``?`` for each value; left out where the first is None."""
        if values[0] is not None:
            self._texts.append(text)
            self.values += values

    def add_attributes(self, attributes: Mapping[str, str] | None) -> None:
        """Attributes of the record or its resource, compared as text: ``"true"``, ``"42"``, ``"0.5"``."""
        own, resource = (_ATTRIBUTE.format(table=self._table, column=column) for column in ("attributes", "resource"))
        for key, value in (attributes or {}).items():
            self.add(f"({own} OR {resource})", key, value, key, value)

    @property
    def text(self) -> str:
        """All of them, joined."""
        return " AND ".join(self._texts) or "1"


def read(
    database: Database, table: str, columns: str, rest: str, values: Sequence[object], decode: Callable[[Any], T]
) -> list[T]:
    """Records of ``SELECT columns FROM table`` and the ``rest``; damaged ones are noted and left out."""
    with database.reader() as connection:
        try:
            rows = connection.execute(f"SELECT id, {columns} FROM {table} {rest}", cast(Any, values)).fetchall()
        except sqlite3.DatabaseError:
            rows = _one_by_one(database, connection, table, columns, rest, values)
    found = []
    for number, *row in rows:
        try:
            found.append(decode(row))
        except (ValueError, TypeError, AttributeError) as error:
            database.damage.add(f"row {number} of {table} cannot be read: {error}")
    return found


def delete_before(database: Database, table: str, column: str, oldest_ns: int) -> int:
    """Delete records of times before ``oldest_ns``, some hundreds per transaction; returns how many."""
    query = f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {column} < ? LIMIT ?)"
    gone, count = 0, _DELETE_AT_ONCE
    while count == _DELETE_AT_ONCE:
        with database.step() as connection:
            count = connection.execute(query, (oldest_ns, _DELETE_AT_ONCE)).rowcount
        gone += count
    return gone


def time_range(database: Database, table: str, column: str) -> tuple[int, int] | None:
    """Earliest and latest time, or None where there are no records."""
    with database.reader() as connection:
        first, last = (
            connection.execute(f"SELECT {column} FROM {table} ORDER BY {column} {order} LIMIT 1").fetchone()
            for order in ("ASC", "DESC")
        )
    return (first[0], last[0]) if first is not None else None


def to_bytes(what: str, digits: str) -> bytes:
    """Bytes of a hexadecimal id. Raises StoreError."""
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise StoreError(f"{what} {digits!r} is not hexadecimal") from None


def to_json(attributes: Mapping[str, AttributeValue]) -> str:
    """Attributes as the tables keep them."""
    return orjson.dumps(plain(attributes)).decode()


def plain(attributes: Mapping[str, AttributeValue]) -> dict[str, Any]:
    """JSON has no NaN and no infinity: they are kept as the words ``NaN``, ``Infinity`` and ``-Infinity``."""
    return {key: _finite(value) for key, value in attributes.items()}


def to_attributes(text: str) -> dict[str, AttributeValue]:
    """Attributes from their JSON. Raises ValueError where it is none of an object."""
    found = orjson.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"attributes are {type(found).__name__}, not an object")
    return found


def _one_by_one(
    database: Database, connection: sqlite3.Connection, table: str, columns: str, rest: str, values: Sequence[object]
) -> list[tuple[Any, ...]]:
    rows = []
    for (number,) in connection.execute(f"SELECT id FROM {table} {rest}", cast(Any, values)).fetchall():
        try:
            row = connection.execute(f"SELECT id, {columns} FROM {table} WHERE id = ?", (number,)).fetchone()
            rows += [row] if row is not None else []
        except sqlite3.DatabaseError as error:
            database.damage.add(f"row {number} of {table} cannot be read: {error}")
    return rows


def _finite(value: AttributeValue) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value
