"""A file with pages that SQLite cannot read: its readable rows go into a new one, the damaged file stays beside it.

Rows are read by number, and stretches of numbers that cannot be read are left out and told. Indexes are made anew.
Nothing is taken from pages that no table refers to: what was deleted must not come back.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from collector.store.schema import APPLICATION_ID, DDL, FORMAT_VERSION, PAGE_BYTES

_NUMBERED = ("series", "layouts", "groups", "wal", "chunks", "tiles", "trash", "spans", "logs")
_UNNUMBERED = ("metadata", "exemplars")
_ROWS_AT_ONCE = 64
_FIRST, _LAST = -(1 << 62), 1 << 62

Row = tuple[object, ...]


def is_corrupt(error: BaseException | None) -> bool:
    """Whether SQLite says that a page of the file is not what it should be."""
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def recover(file: Path) -> list[str]:
    """Put a new file with the readable rows of ``file`` in its place; returns what was lost and where the old one is.

    Nobody may have the file open. Raises sqlite3.Error where not even its list of tables can be read; then nothing
    has changed.
    """
    fresh = file.with_name(file.name + ".recovering")
    fresh.unlink(missing_ok=True)
    lost: list[str] = []
    source = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)
    try:
        tables = {name for (name,) in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        target = sqlite3.connect(fresh, isolation_level=None)
        try:
            _create(target)
            for table in (*_NUMBERED, *_UNNUMBERED):
                if table in tables:
                    _copy(source, target, table, lost.append)
            target.execute("COMMIT")
        finally:
            target.close()
    finally:
        source.close()
    return [f"the file was damaged and is kept as {_exchange(file, fresh).name}; its readable rows are served", *lost]


def finish(file: Path) -> None:
    """End a recovery that was cut off between its two renames."""
    ready = file.with_name(file.name + ".recovered")
    if ready.exists():
        if file.exists():
            _set_aside(file)
        ready.replace(file)


def _create(target: sqlite3.Connection) -> None:
    target.execute(f"PRAGMA page_size={PAGE_BYTES}")
    target.execute("PRAGMA auto_vacuum=INCREMENTAL")
    for version in range(1, FORMAT_VERSION + 1):
        target.executescript(DDL[version])
    target.execute(f"PRAGMA application_id={APPLICATION_ID}")
    target.execute(f"PRAGMA user_version={FORMAT_VERSION}")
    target.execute("BEGIN")


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str, tell: Callable[[str], None]) -> None:
    known = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})") if row[1] in known]
    rows = _unnumbered(source, table, columns, tell)
    if table in _NUMBERED:
        rows = _numbered(source, table, columns, tell)
    marks = ", ".join("?" * len(columns))
    target.executemany(f"INSERT OR IGNORE INTO {table} ({', '.join(columns)}) VALUES ({marks})", rows)


def _unnumbered(
    source: sqlite3.Connection, table: str, columns: list[str], tell: Callable[[str], None]
) -> Iterator[Row]:
    try:
        yield from source.execute(f"SELECT {', '.join(columns)} FROM {table}")
    except sqlite3.DatabaseError as error:
        tell(f"table {table}: some rows cannot be read: {error}")


def _numbered(source: sqlite3.Connection, table: str, columns: list[str], tell: Callable[[str], None]) -> Iterator[Row]:
    query = f"SELECT rowid, {', '.join(columns)} FROM {table} WHERE rowid >= ? ORDER BY rowid LIMIT ?"

    def read(first: int, count: int) -> list[Row] | None:
        try:
            return source.execute(query, (first, count)).fetchall()
        except sqlite3.DatabaseError:
            return None

    first = _FIRST
    while True:
        rows = read(first, _ROWS_AT_ONCE)
        if rows is None:
            rows = read(first, 1)
        if rows is None:
            after = _next_readable(lambda number: read(number, 1) is not None, first)
            if after is None:
                tell(f"table {table}: rows from number {_shown(first)} on cannot be read")
                return
            tell(f"table {table}: rows from number {_shown(first)} to before {after} cannot be read")
            first = after
            continue
        if not rows:
            return
        for number, *row in rows:
            yield tuple(row)
            assert isinstance(number, int)
            first = number + 1


def _shown(number: int) -> str:
    return "1" if number == _FIRST else str(number)


def _next_readable(is_readable: Callable[[int], bool], bad: int) -> int | None:
    """The end of the stretch of numbers from ``bad`` on that cannot be read; None where nothing after it can."""
    origin = max(bad, 0)
    step = 1
    while not is_readable(origin + step):
        step *= 2
        if origin + step > _LAST:
            return None
    low, good = origin + step // 2, origin + step
    while good - low > 1:
        middle = (low + good) // 2
        if is_readable(middle):
            good = middle
        else:
            low = middle
    return good


def _exchange(file: Path, fresh: Path) -> Path:
    """Put ``fresh`` in the place of ``file``, which gets another name; ``finish`` ends it where it is cut off."""
    with fresh.open("rb") as stream:
        os.fsync(stream.fileno())
    ready = fresh.replace(file.with_name(file.name + ".recovered"))
    aside = _set_aside(file)
    ready.replace(file)
    return aside


def _set_aside(file: Path) -> Path:
    number = 1
    while (aside := file.with_name(f"{file.name}.damaged-{number}")).exists():
        number += 1
    for ending in ("-wal", "-shm"):
        log = file.with_name(file.name + ending)
        if log.exists():
            log.replace(aside.with_name(aside.name + ending))
    return file.replace(aside)
