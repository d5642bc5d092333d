"""The queue on disk: order, limits, kill -9; and when to try again."""

import os
import signal
import sqlite3
import subprocess
import sys
from email.utils import formatdate
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.forward.queue import Batch, DiskQueue
from collector.forward.retry import FIRST_DELAY_S, LONGEST_DELAY_S, LONGEST_RETRY_AFTER_S, RETRIED, Patience
from collector.model.errors import StoreError


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_records_come_in_order_and_stay_until_they_are_done(tmp_path: Path) -> None:
    with DiskQueue(tmp_path / "q.db") as queue:
        for number in range(3):
            queue.append("samples", b"%d" % number, 10)
        first = queue.peek(25, 1000)
        assert first == Batch(2, "samples", 20, (b"0", b"1"))
        assert queue.peek(25, 1000) == first
        queue.done(2)
    with DiskQueue(tmp_path / "q.db") as again:
        assert again.peek(25, 1000) == Batch(3, "samples", 10, (b"2",))
        assert again.stats().items == 10
        again.done(3)
        assert again.peek(25, 1000) is None
        assert (again.stats().records, again.stats().bytes, again.stats().oldest_s) == (0, 0, 0.0)


def test_a_batch_is_of_one_kind_and_within_its_bytes_but_never_empty(tmp_path: Path) -> None:
    with DiskQueue(tmp_path / "q.db") as queue:
        for kind, payload in (("a", b"xx"), ("a", b"yy"), ("b", b"z" * 50), ("a", b"w")):
            queue.append(kind, payload, 1)
        found = []
        while (batch := queue.peek(100, 3)) is not None:
            found.append((batch.kind, batch.payloads))
            queue.done(batch.last_id)
    assert found == [("a", (b"xx",)), ("a", (b"yy",)), ("b", (b"z" * 50,)), ("a", (b"w",))]


def test_beyond_its_size_the_oldest_are_dropped_and_counted(tmp_path: Path) -> None:
    with DiskQueue(tmp_path / "q.db", max_bytes=10) as queue:
        for number in range(4):
            queue.append("s", b"%d---" % number, 7)
        assert (queue.stats().bytes, queue.dropped) == (8, {"size": 14})
        queue.append("s", b"x" * 11, 3)
        assert queue.dropped == {"size": 17}
        batch = queue.peek(100, 100)
        assert batch is not None
        assert batch.payloads == (b"2---", b"3---")


def test_what_is_too_old_is_dropped_and_counted(tmp_path: Path, clock: Clock) -> None:
    with DiskQueue(tmp_path / "q.db", max_age_s=60.0, now_s=clock) as queue:
        queue.append("s", b"old", 5)
        clock.now_s += 40
        queue.append("s", b"new", 1)
        assert queue.stats().oldest_s == 40.0
        clock.now_s += 40
        batch = queue.peek(100, 100)
        assert batch is not None
        assert batch.payloads == (b"new",)
        assert queue.dropped == {"age": 5}


def test_what_the_disk_does_not_take_is_counted(tmp_path: Path) -> None:
    queue = DiskQueue(tmp_path / "q.db")
    queue.close()
    queue.append("s", b"x", 4)
    assert queue.dropped == {"disk": 4}
    with pytest.raises(StoreError, match="cannot be read"):
        queue.peek(1, 1)


def test_a_file_that_is_no_queue_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "q.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(StoreError, match=r"q\.db: cannot be opened"):
        DiskQueue(tmp_path / "q.db")


WRITER = """
import sys
from pathlib import Path
from collector.forward.queue import DiskQueue
queue = DiskQueue(Path(sys.argv[1]))
for number in range(1_000_000):
    queue.append("s", b"%d" % number, 1)
    print(number, flush=True)
"""


def test_what_was_appended_is_there_after_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "q.db"
    for _ in range(3):
        before = 0
        if path.exists():
            with DiskQueue(path) as queue:
                before = queue.stats().records
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = [process.stdout.readline() for _ in range(200)]
            os.kill(process.pid, signal.SIGKILL)
            told += process.stdout.readlines()
        whole = [line for line in told if line.endswith("\n")]
        with DiskQueue(path) as queue:
            assert len(whole) <= queue.stats().records - before <= len(whole) + 1
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


@given(st.integers(100, 599), st.booleans())
def test_only_what_may_succeed_later_is_sent_again(status: int, retry_429: bool) -> None:
    verdict = Patience(retried=RETRIED if retry_429 else RETRIED - {429}).judge(status)
    assert (verdict == "sent") == (200 <= status < 300)
    assert (verdict == "retry") == ((status == 429 and retry_429) or status >= 500)


@given(st.integers(1, 1000), st.text(max_size=10))
def test_delays_grow_up_to_a_bound_whatever_the_receiver_says(failures: int, said: str) -> None:
    assert 0.0 <= Patience().delay_s(failures, said, 0.0) <= LONGEST_RETRY_AFTER_S
    assert Patience().delay_s(failures, "", 0.0) == min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** (failures - 1))
    assert Patience(0.5, 2.0).delay_s(failures, "", 0.0) == min(2.0, 0.25 * 2**failures)


@pytest.mark.parametrize(
    ("said", "expected_s"),
    [("7", 7.0), ("0", 0.0), ("-3", 0.0), ("1e9", 3600.0), (formatdate(1030, usegmt=True), 30.0), ("nan", 0.1)],
)
def test_a_receiver_may_say_when_to_come_back(said: str, expected_s: float) -> None:
    assert Patience().delay_s(1, said, 1000.0) == expected_s
