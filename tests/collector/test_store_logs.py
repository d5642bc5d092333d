"""Log records: found by service, severity, words, time, trace and attributes; kept over a kill, gone with their age."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from collector.model.errors import StoreError
from collector.model.logs import LogRecord
from collector.store import LogStore, Store

SECOND = 1_000_000_000
READY = LogRecord(1 * SECOND, 9, "INFO", "Engine ready, model loaded", "engine", {"port": 8000}, {"host": "a"})
SLOW = LogRecord(2 * SECOND, 13, "WARN", "slow request: 3.2 s", "engine", {"ok": False}, {}, "ab" * 16, "cd" * 8)
LOST = LogRecord(3 * SECOND, 17, "ERROR", 'replica "b" lost; requests requeued', "router", {"x": float("nan")})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path, retention_ms=10_000) as store:
        assert LogStore(store.database).append([READY, SLOW, LOST]) == 3
        yield store


@pytest.fixture
def logs(store: Store) -> LogStore:
    return LogStore(store.database)


def test_records_come_back_whole_latest_first(logs: LogStore) -> None:
    assert logs.search() == [replace(LOST, attributes={"x": "NaN"}), SLOW, READY]
    assert logs.search(limit=1)[0].body == LOST.body


@pytest.mark.parametrize(
    ("conditions", "bodies"),
    [
        ({"service": "engine"}, [SLOW.body, READY.body]),
        ({"min_severity": 13}, [LOST.body, SLOW.body]),
        ({"trace_id": "ab" * 16}, [SLOW.body]),
        ({"start_ns": 2 * SECOND, "end_ns": 2 * SECOND}, [SLOW.body]),
        ({"attributes": {"port": "8000", "host": "a"}}, [READY.body]),
        ({"attributes": {"ok": "false"}}, [SLOW.body]),
        ({"text": "LOADED engine"}, [READY.body]),
        ({"text": "request*"}, [LOST.body, SLOW.body]),
        ({"text": "request"}, [SLOW.body]),
        ({"text": '"b"'}, [LOST.body]),
        ({"text": "engine OR lost"}, []),
        ({"text": "lost AND"}, []),
        ({"text": "* -"}, []),
        ({"text": "engine", "min_severity": 13}, []),
    ],
)
def test_conditions_hold_together(logs: LogStore, conditions: dict[str, object], bodies: list[str]) -> None:
    assert [record.body for record in logs.search(**conditions)] == bodies  # type: ignore[arg-type]


def test_an_id_that_is_not_hexadecimal_is_refused_with_its_batch(logs: LogStore) -> None:
    with pytest.raises(StoreError, match="trace id 'xyz' is not hexadecimal"):
        logs.append([READY, replace(READY, trace_id="xyz")])
    assert len(logs.search()) == 3


def test_records_past_their_age_go_and_so_do_their_words(store: Store, logs: LogStore) -> None:
    store.maintain(12_500)
    assert [record.body for record in logs.search()] == [LOST.body]
    assert logs.search(text="engine") == []
    with store.database.reader() as connection:
        assert connection.execute("SELECT count(*) FROM logs_text WHERE logs_text MATCH 'slow'").fetchone() == (0,)


def test_a_damaged_record_is_reported_and_the_others_are_found(store: Store, logs: LogStore, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "loadline.db")
    with connection:
        connection.execute("UPDATE logs SET attributes = '{' WHERE id = 1")
        connection.execute("UPDATE logs SET body = CAST(x'ff' AS TEXT) WHERE id = 3")
    connection.close()
    assert [record.body for record in logs.search()] == [SLOW.body]
    assert logs.search(attributes={"ok": "false"}) == [SLOW]
    assert [problem[:14] for problem in store.stats().recovered.problems] == ["row 3 of logs ", "row 1 of logs "]


WRITER = """
import sys
from pathlib import Path
from collector.model.logs import LogRecord
from collector.store import LogStore, Store

logs = LogStore(Store.open(Path(sys.argv[1])).database)
for i in range(100_000):
    logs.append([LogRecord(i, 9, "INFO", f"record number{i} {j}", "s") for j in range(3)])
    print(i, flush=True)
"""


def test_no_acknowledged_record_is_lost_to_kill_9(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(150):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    last = int((rest[: rest.rfind("\n") + 1].split() or ["149"])[-1])
    with Store.open(tmp_path) as store:
        logs = LogStore(store.database)
        found = [record.body for record in reversed(logs.search(limit=10**6))]
        assert found[: 3 * last + 3] == [f"record number{i} {j}" for i in range(last + 1) for j in range(3)]
        assert len(logs.search(text=f"number{last}")) == 3
