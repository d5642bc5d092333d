"""What must outlive the process: each group's alerts, and the notifications that are not delivered yet.

One SQLite file (WAL), written in one transaction per evaluation and one per telling, so that after ``kill -9`` what
fires, what was told of it and what is still to be delivered agree:

    groups(key, evaluated_at_s)
    alerts(group_key, rule, fingerprint, body)      body: the Alert as JSON
    told(fingerprint, body)                         body: the Told as JSON: what receivers know to fire
    outbox(id, receiver, key, body, created_at_s)   (receiver, key) is unique: the later message takes the place
    silences(id, body)                              body: the Silence as JSON
    responses(id, body)                             body: the Response as JSON
    history(id, at_s, alertname, body)              body: the Change as JSON; the latest HISTORY_ROWS are kept
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from alerts.alert import Alert
from alerts.dispatch import News, Told
from alerts.errors import StateError
from alerts.history import Change
from alerts.message import Message
from alerts.responses.response import LogLine, Response, Step
from alerts.silence import Silence
from collector.model.labels import Labels
from collector.model.matchers import Matcher

SCHEMA_VERSION = 2
HISTORY_ROWS = 100_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS groups (key TEXT PRIMARY KEY, evaluated_at_s REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS alerts (
    group_key TEXT NOT NULL, rule TEXT NOT NULL, fingerprint TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (group_key, rule, fingerprint)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told (fingerprint TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL,
    created_at_s REAL NOT NULL, UNIQUE (receiver, key)
);
CREATE TABLE IF NOT EXISTS silences (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS responses (id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at_s REAL NOT NULL, alertname TEXT NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS history_at ON history (at_s);
"""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class GroupMemory:
    """What is remembered of a group: (rule name, alert) pairs and when it was last evaluated."""

    evaluated_at_s: float
    alerts: tuple[tuple[str, Alert], ...]


class State:
    """The state file, or memory that ends with the process where ``path`` is None. Safe for many threads.

    Only one process may have it open. Every method raises StateError.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._database = sqlite3.connect(
                ":memory:" if path is None else path, timeout=1.0, check_same_thread=False, isolation_level=None
            )
        except sqlite3.Error as error:
            raise StateError(f"{path}: cannot be used as state file: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            reason = "another process has it open" if "locked" in str(error) else str(error)
            raise StateError(f"{path}: cannot be used as state file: {reason}") from error

    def _prepare(self) -> None:
        self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=NORMAL")
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            wrong = f"has schema version {version}; this program reads {SCHEMA_VERSION}"
            raise StateError(f"{self.path}: {wrong}; without the file it starts anew")
        self._database.executescript(_SCHEMA)
        self._database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def groups(self) -> dict[str, GroupMemory]:
        """What is remembered, by group key."""
        return self._do(lambda database: dict(_memories(database)))

    def outbox(self, receiver: str) -> list[Message]:
        """Messages to ``receiver`` that were not delivered, oldest first."""
        query = "SELECT receiver, key, body FROM outbox WHERE receiver = ? ORDER BY id"
        return self._do(lambda database: [Message(*row) for row in database.execute(query, (receiver,))])

    def told(self) -> list[Told]:
        """What receivers know to fire."""
        rows = self._do(lambda database: database.execute("SELECT body FROM told").fetchall())
        return [_told(body) for (body,) in rows]

    def tell(self, told: Iterable[Told], over: Iterable[str], messages: Sequence[Message], now_s: float) -> None:
        """Remember what receivers know from now on, and the messages that say so; ``over`` are fingerprints."""
        rows = [(one.news.alert.fingerprint, _told_body(one)) for one in told]
        gone = [(fingerprint,) for fingerprint in over]

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.executemany("INSERT OR REPLACE INTO told VALUES (?, ?)", rows)
                database.executemany("DELETE FROM told WHERE fingerprint = ?", gone)
                _post(database, messages, now_s)

        self._do(write)

    def save(
        self,
        key: str,
        evaluated_at_s: float,
        alerts: Iterable[tuple[str, Alert]],
        messages: Sequence[Message],
        changes: Sequence[Change] = (),
    ) -> None:
        """Remember a group as it stands after an evaluation, what is to be delivered because of it, what changed."""
        rows = [(key, rule, alert.fingerprint, _body(alert)) for rule, alert in alerts]

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.execute("INSERT OR REPLACE INTO groups VALUES (?, ?)", (key, evaluated_at_s))
                database.execute("DELETE FROM alerts WHERE group_key = ?", (key,))
                database.executemany("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?)", rows)
                _post(database, messages, evaluated_at_s)
                _note(database, changes)

        self._do(write)

    def history(self, start_s: float, end_s: float, alertname: str | None, limit: int) -> list[Change]:
        """Changes of alerts from ``start_s`` to ``end_s`` (Unix, both included), the latest first."""
        query = (
            "SELECT body FROM history WHERE at_s BETWEEN ? AND ? AND (? IS NULL OR alertname = ?) "
            "ORDER BY at_s DESC, id DESC LIMIT ?"
        )
        rows = self._do(lambda one: one.execute(query, (start_s, end_s, alertname, alertname, limit)).fetchall())
        return [_change(body) for (body,) in rows]

    def responses(self) -> list[Response]:
        """Responses that are kept."""
        rows = self._do(lambda database: database.execute("SELECT body FROM responses").fetchall())
        return [_response(body) for (body,) in rows]

    def save_responses(self, responses: Iterable[Response], forget: Iterable[str] = ()) -> None:
        """Keep responses, each in place of one with the same id, and forget others."""
        rows = [(one.id, orjson.dumps(asdict(one))) for one in responses]
        gone = [(name,) for name in forget]

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.executemany("INSERT OR REPLACE INTO responses VALUES (?, ?)", rows)
                database.executemany("DELETE FROM responses WHERE id = ?", gone)

        self._do(write)

    def forget(self, key: str, now_s: float, messages: Sequence[Message]) -> None:
        """Forget a group that is no more, and keep what is to be delivered because of it."""

        def write(database: sqlite3.Connection) -> None:
            with _transaction(database):
                database.execute("DELETE FROM groups WHERE key = ?", (key,))
                database.execute("DELETE FROM alerts WHERE group_key = ?", (key,))
                _post(database, messages, now_s)

        self._do(write)

    def delivered(self, messages: Iterable[Message]) -> None:
        """Forget messages that were delivered or given up; a newer message under the same key stays."""
        rows = [(message.receiver, message.key, message.body) for message in messages]
        forget = "DELETE FROM outbox WHERE receiver = ? AND key = ? AND body = ?"
        self._do(lambda database: database.executemany(forget, rows))

    def silences(self) -> list[Silence]:
        """Silences that are kept."""
        rows = self._do(lambda database: database.execute("SELECT body FROM silences").fetchall())
        return [_silence(body) for (body,) in rows]

    def save_silence(self, silence: Silence) -> None:
        """Keep a silence, in place of one with the same id."""
        fields = asdict(silence) | {"matchers": [[one.name, one.op, one.value] for one in silence.matchers]}
        row = (silence.id, orjson.dumps(fields))
        self._do(lambda database: database.execute("INSERT OR REPLACE INTO silences VALUES (?, ?)", row))

    def drop_silences(self, ids: Iterable[str]) -> None:
        """Forget silences."""
        rows = [(each,) for each in ids]
        self._do(lambda database: database.executemany("DELETE FROM silences WHERE id = ?", rows))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()

    def _do(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        try:
            with self._lock:
                return work(self._database)
        except sqlite3.Error as error:
            raise StateError(f"{self.path}: {error}") from error


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _post(database: sqlite3.Connection, messages: Iterable[Message], now_s: float) -> None:
    rows = [(message.receiver, message.key, message.body, now_s) for message in messages]
    database.executemany("INSERT OR REPLACE INTO outbox (receiver, key, body, created_at_s) VALUES (?, ?, ?, ?)", rows)


def _note(database: sqlite3.Connection, changes: Sequence[Change]) -> None:
    if changes:
        rows = [(one.at_s, one.alertname, orjson.dumps(asdict(one) | {"value": repr(one.value)})) for one in changes]
        database.executemany("INSERT INTO history (at_s, alertname, body) VALUES (?, ?, ?)", rows)
        database.execute("DELETE FROM history WHERE id <= (SELECT max(id) FROM history) - ?", (HISTORY_ROWS,))


def _memories(database: sqlite3.Connection) -> Iterator[tuple[str, GroupMemory]]:
    for key, evaluated_at_s in database.execute("SELECT key, evaluated_at_s FROM groups").fetchall():
        rows = database.execute("SELECT rule, body FROM alerts WHERE group_key = ?", (key,)).fetchall()
        yield key, GroupMemory(evaluated_at_s, tuple((rule, _alert(body)) for rule, body in rows))


def _body(alert: Alert) -> bytes:
    return orjson.dumps(_alert_fields(alert))


def _told_body(told: Told) -> bytes:
    return orjson.dumps({"alert": _alert_fields(told.news.alert), "expr": told.news.expr, "at_s": told.at_s})


def _alert_fields(alert: Alert) -> dict[str, Any]:
    """For JSON; the value as a text, because JSON knows neither NaN nor infinity."""
    return asdict(alert) | {"value": repr(alert.value)}


def _alert(body: bytes) -> Alert:
    try:
        return _alert_of(orjson.loads(body))
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(f"an alert in the state file cannot be read: {error}") from error


def _told(body: bytes) -> Told:
    try:
        fields = orjson.loads(body)
        return Told(News(_alert_of(fields["alert"]), fields["expr"]), fields["at_s"])
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(f"what was told of an alert cannot be read in the state file: {error}") from error


def _alert_of(fields: dict[str, Any]) -> Alert:
    read = {
        "labels": _labels(fields["labels"]),
        "annotations": _labels(fields["annotations"]),
        "value": float(fields["value"]),
    }
    return Alert(**fields | read)


def _silence(body: bytes) -> Silence:
    try:
        fields = orjson.loads(body)
        return Silence(**fields | {"matchers": tuple(Matcher(*parts) for parts in fields["matchers"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(f"a silence in the state file cannot be read: {error}") from error


def _change(body: bytes) -> Change:
    try:
        fields = orjson.loads(body)
        return Change(**fields | {"labels": _labels(fields["labels"]), "value": float(fields["value"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(f"a change in the state file cannot be read: {error}") from error


def _response(body: bytes) -> Response:
    try:
        fields = orjson.loads(body)
        read = {
            "labels": _labels(fields["labels"]),
            "targets": tuple(fields["targets"]),
            "did": tuple(Step(**step) for step in fields["did"]),
            "undo": tuple(Step(**step) for step in fields["undo"]),
            "log": tuple(LogLine(**line) for line in fields["log"]),
        }
        return Response(**fields | read)
    except (ValueError, TypeError, KeyError) as error:
        raise StateError(f"a response in the state file cannot be read: {error}") from error


def _labels(pairs: Iterable[Sequence[str]]) -> Labels:
    return tuple((name, value) for name, value in pairs)
