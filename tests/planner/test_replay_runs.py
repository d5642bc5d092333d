"""Runs on disk: created, listed, started in a process of their own, stopped, and known as lost when that dies."""

import asyncio
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from benchmarks._mock_openai import Mock, serving
from planner.errors import RunError
from planner.replay.exchange import Exchange
from planner.replay.recorder import Recorder, read_journal
from planner.replay.runs import JOURNAL, RunStore, find_run

TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(f"{row / 20},5,3\n" for row in range(200))


def ended(row: int) -> Exchange:
    return Exchange(row, 0.1 * row, 0.1 * row, 0.1 * row + 1, [0.1 * row + 0.5], 5, 1, 0, "ok")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def test_runs_are_listed_newest_first(store: RunStore):
    for name in ("a", "b"):
        store.create("t.csv", "http://x", {"speed": 2.0, "window": None}, name)
        time.sleep(0.002)
    assert [meta.id for meta in store.list()] == ["b", "a"]
    assert store.meta("a").options == {"speed": 2.0}
    assert store.meta("a").state == "preparing"


def test_an_empty_or_absent_folder_has_no_runs(store: RunStore):
    assert store.list() == ()


def test_a_name_is_taken_once(store: RunStore):
    store.create("t.csv", "http://x", {}, "a")
    with pytest.raises(RunError, match="there is a run of this name"):
        store.create("t.csv", "http://x", {}, "a")


@pytest.mark.parametrize("name", ["", "..", "a/b", "../etc"])
def test_a_name_leads_out_of_the_folder_never(store: RunStore, name: str):
    with pytest.raises(RunError, match="is no name of a run"):
        store.meta(name)


def test_a_run_whose_lock_nobody_holds_is_lost(store: RunStore):
    with Recorder(store, store.create("t.csv", "http://x", {}, "a")) as recorder:
        recorder.started(3, 1.0, "tiny")
        assert store.meta("a").state == "running"
        with pytest.raises(RunError, match="being played by another process"):
            Recorder(store, store.meta("a"))
    assert store.meta("a").state == "lost"
    with pytest.raises(RunError, match="is lost and has no result"):
        store.load("a")


def test_an_error_is_put_down_as_the_runs_end(store: RunStore):
    with pytest.raises(RunError), Recorder(store, store.create("t.csv", "http://x", {}, "a")):
        raise RunError("no such thing")
    assert (store.meta("a").state, store.meta("a").error) == ("failed", "no such thing")


def test_the_journal_gives_back_what_had_ended_and_leaves_a_torn_line(store: RunStore):
    with Recorder(store, store.create("t.csv", "http://x", {}, "a")) as recorder:
        recorder.started(3, 1.0, "tiny")
        for row in range(2):
            recorder.ended(ended(row))
    with (store.folder("a") / JOURNAL).open("ab") as journal:
        journal.write(b'{"row_id": 2, "due')
    assert read_journal(store.folder("a")) == [ended(0), ended(1)]


def until(store: RunStore, run_id: str, *states: str, timeout_s: float = 60.0) -> str:
    deadline = time.monotonic() + timeout_s
    while (state := store.meta(run_id).state) not in states:
        assert time.monotonic() < deadline, (state, store.log(run_id))
        time.sleep(0.05)
    return state


def with_server(scenario):
    async def run():
        async with serving(Mock()) as url:
            return await asyncio.to_thread(scenario, url)

    return asyncio.run(run())


def test_a_started_run_is_played_by_a_process_of_its_own_and_stopped_on_demand(store: RunStore, tmp_path: Path):
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)

    def scenario(url: str) -> None:
        meta = store.start(trace, url, seed=3)
        assert meta.state == "preparing"
        until(store, meta.id, "running")
        assert RunStore(store.directory).meta(meta.id).state == "running"
        while not store.meta(meta.id).sent:
            time.sleep(0.02)
        store.stop(meta.id)
        assert until(store, meta.id, "stopped") == "stopped"
        run = store.load(meta.id)
        assert 0 < len(run.requests) < 200
        assert store.meta(meta.id).sent == len(run.requests)
        assert find_run(meta.id, store).header.seed == 3
        with pytest.raises(RunError, match="nothing to stop"):
            store.stop(meta.id)

    with_server(scenario)


def test_a_signal_to_all_of_a_runs_processes_stops_it_and_loses_nothing(store: RunStore, tmp_path: Path):
    """As ``docker stop`` and ``timeout`` send it."""
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)

    def scenario(url: str) -> None:
        meta = store.start(trace, url)
        until(store, meta.id, "running")
        while not store.meta(meta.id).ended:
            time.sleep(0.02)
        pid = store.meta(meta.id).pid
        assert pid is not None
        for one in [*psutil.Process(pid).children(recursive=True), psutil.Process(pid)]:
            if "resource_tracker" not in " ".join(one.cmdline()):
                one.terminate()
        assert until(store, meta.id, "stopped", "failed", "lost") == "stopped"
        assert "ended unexpectedly" not in " ".join(store.meta(meta.id).reasons)
        assert 0 < len(store.load(meta.id).requests) < 200

    with_server(scenario)


def test_a_started_run_that_cannot_be_played_says_why(store: RunStore, tmp_path: Path):
    meta = store.start(tmp_path / "absent.csv", "http://127.0.0.1:9")
    until(store, meta.id, "failed")
    assert "absent.csv" in (store.meta(meta.id).error or "")


def test_a_run_whose_process_was_killed_is_lost(store: RunStore, tmp_path: Path):
    trace = tmp_path / "trace.csv"
    trace.write_text(TRACE)

    def scenario(url: str) -> None:
        meta = store.start(trace, url)
        until(store, meta.id, "running")
        pid = store.meta(meta.id).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert until(store, meta.id, "failed", "lost") == "failed"

    with_server(scenario)
