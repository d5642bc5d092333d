import sqlite3
from dataclasses import replace

import pytest

from alerts.alert import Alert
from alerts.dispatch import News, Told
from alerts.errors import StateError
from alerts.message import Message
from alerts.state import State

ALERT = Alert((("alertname", "A"), ("x", "ü")), (("s", "t"),), 1.5, 10.25, "firing", 20.5, None, 30.0, 40.0)


def test_what_is_saved_is_there_in_the_next_process(tmp_path):
    first = State(tmp_path / "alerts.db")
    first.save("f;g", 100.5, [("A", ALERT), ("B", replace(ALERT, value=float("inf")))], [Message("r", "k", b"1")])
    first.close()
    second = State(tmp_path / "alerts.db")
    memory = second.groups()["f;g"]
    assert memory.evaluated_at_s == 100.5
    assert dict(memory.alerts) == {"A": ALERT, "B": replace(ALERT, value=float("inf"))}
    assert second.outbox("r") == [Message("r", "k", b"1")]
    second.close()


def test_a_later_evaluation_replaces_the_alerts_of_its_group_only():
    state = State(None)
    state.save("g", 1, [("A", ALERT)], [])
    state.save("h", 1, [("A", ALERT)], [])
    state.save("g", 2, [], [])
    assert (state.groups()["g"].alerts, len(state.groups()["h"].alerts)) == ((), 1)


def test_what_was_told_is_kept_with_its_messages_until_it_is_over(tmp_path):
    first = State(tmp_path / "alerts.db")
    told = [Told(News(ALERT, "up == 0"), 50.0), Told(News(replace(ALERT, labels=(("b", "c"),)), "x"), 50.0)]
    first.tell(told, [], [Message("r", "k", b"1")], 50.0)
    first.tell([], [told[1].news.alert.fingerprint], [], 60.0)
    first.close()
    second = State(tmp_path / "alerts.db")
    assert second.told() == told[:1]
    assert second.outbox("r") == [Message("r", "k", b"1")]
    second.close()


def test_only_one_process_may_have_the_file(tmp_path):
    state = State(tmp_path / "alerts.db")
    with pytest.raises(StateError, match="another process has it open"):
        State(tmp_path / "alerts.db")
    state.close()


def test_a_file_that_is_no_state_file_is_refused(tmp_path):
    (tmp_path / "alerts.db").write_text("this is a text, and long enough to be read as a page of a database" * 20)
    with pytest.raises(StateError, match="cannot be used as state file: file is not a database"):
        State(tmp_path / "alerts.db")
    with pytest.raises(StateError, match="unable to open"):
        State(tmp_path / "no" / "alerts.db")


def test_a_file_of_a_later_version_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "alerts.db") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StateError, match="schema version 99"):
        State(tmp_path / "alerts.db")


def test_a_closed_state_says_so():
    state = State(None)
    state.close()
    with pytest.raises(StateError):
        state.groups()
