"""A whole replay against a server that costs nothing: nothing lost, delays told as they are, ways to end and go on."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks._mock_openai import Mock, serving
from planner.errors import ReplayError, RunError
from planner.replay.exchange import Exchange
from planner.replay.perform import Keeping
from planner.replay.playing import Playing
from planner.replay.recorder import Recorder
from planner.replay.runs import RunStore
from planner.replay.session import Outline, replay
from planner.result import Run
from planner.traces.trace import from_lengths


class Heard:
    """Keeps what it was told; calls ``on_end`` with each request that ended."""

    def __init__(self, on_end: Callable[[Exchange], None] = lambda _: None) -> None:
        self.outline: Outline | None = None
        self.count = 0
        self.exchanges: list[Exchange] = []
        self._on_end = on_end

    def started(self, target: object, outline: Outline) -> None:
        self.outline = outline

    def sent(self, count: int = 1) -> None:
        self.count += count

    def ended(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        self._on_end(exchange)


def against(mock: Mock, scenario: Callable[[str], Awaitable[Run]]) -> Run:
    async def whole() -> Run:
        async with serving(mock) as url:
            return await scenario(url)

    return asyncio.run(whole())


def steady(rows: int, over_s: float, output_tokens: int = 3):
    return from_lengths(np.linspace(0, over_s, rows), np.full(rows, 6), np.full(rows, output_tokens))


def played(mock: Mock, rows: int = 40, over_s: float = 0.3, **how) -> Run:
    trace = steady(rows, over_s)
    return against(mock, lambda url: replay(trace, Playing(url, watch_server=False, **how), Heard(), asyncio.Event()))


def test_every_request_sent_is_in_the_report_ten_runs_of_ten():
    async def ten(url: str) -> list[Run]:
        playing = Playing(url, watch_server=False)
        return [await replay(steady(100, 0.1), playing, Heard(), asyncio.Event()) for _ in range(10)]

    mock = Mock()
    runs = against(mock, ten)
    assert [len(run.requests) for run in runs] == [100] * 10
    assert len({name for name, _ in mock.arrivals}) == 1000
    reported = {f"{run.header.details['request_ids']}-{row}" for run in runs for row in run.requests.row_id.tolist()}
    assert reported == {name for name, _ in mock.arrivals}


def test_a_planted_delay_is_reported_as_it_is():
    found = played(Mock(ttft_s=0.05)).summary().latency["ttft_due_s"]
    assert found.p50 is not None
    assert 0.05 <= found.p50 < 0.075


def test_a_stalled_server_is_felt_by_all_that_were_due_meanwhile():
    """Without coordinated omission: those due while it stalls waited from when they were due."""
    mock = Mock(stalled_until=time.monotonic() + 60)

    async def scenario(url: str) -> Run:
        mock.stalled_until = time.monotonic() + 0.8
        return await replay(steady(50, 0.5), Playing(url, watch_server=False), Heard(), asyncio.Event())

    found = against(mock, scenario).summary().latency["ttft_due_s"]
    assert found.p99 is not None
    assert found.p50 is not None
    assert 0.55 < found.p99 < 1.2
    assert 0.2 < found.p50 < found.p99


def test_several_processes_play_one_trace_and_lose_nothing():
    mock = Mock()
    run = played(mock, rows=60, over_s=0.4, processes=2)
    assert run.requests.row_id.tolist() == list(range(60))
    assert run.summary().by_status == {"ok": 60}
    assert len(mock.arrivals) == 60
    assert run.header.details["processes"] == 2


def test_several_processes_stop_together_and_report_what_they_sent():
    async def scenario(url: str) -> Run:
        stop = asyncio.Event()
        heard = Heard(lambda _: stop.set())
        playing = Playing(url, watch_server=False, processes=2)
        return await replay(steady(400, 20.0), playing, heard, stop)

    mock = Mock()
    run = against(mock, scenario)
    assert 0 < len(run.requests) < 400
    assert len(run.requests) == len(mock.arrivals)
    assert "the run was stopped" in run.header.details["reasons"][0]


def test_what_is_due_in_the_warm_up_is_played_and_left_out_of_the_figures():
    mock = Mock()
    run = played(mock, rows=31, over_s=0.3, warm_up_s=0.1)
    assert len(run.requests) == len(mock.arrivals) == 31
    assert run.summary().requests == 21
    assert run.measured().summary() == run.summary()


def test_nothing_is_sent_after_the_longest_duration_and_the_run_is_whole():
    run = played(Mock(), rows=31, over_s=3.0, max_duration_s=0.3)
    assert len(run.requests) == 3
    assert run.header.details["planned"] == 3


def test_too_many_failures_end_the_run():
    run = played(Mock(fail_every=1), rows=100, over_s=5.0, max_errors=3)
    assert run.summary().by_status["error"] >= 3
    assert len(run.requests) < 100
    assert any("--max-errors" in reason for reason in run.header.details["reasons"])
    assert run.requests.error[0] == "HTTP 500: as planned"


def test_a_chat_is_played_as_text():
    async def scenario(url: str) -> Run:
        playing = Playing(url, watch_server=False, endpoint="chat")
        return await replay(steady(3, 0.01), playing, Heard(), asyncio.Event())

    with pytest.raises(ReplayError, match=r"/tokenize: HTTP 404; prompts as text need it, or --tokenizer"):
        against(Mock(), scenario)


def test_an_interrupted_run_goes_on_where_it_broke_off(tmp_path: Path):
    store = RunStore(tmp_path)
    trace = steady(40, 0.4)
    mock = Mock()

    async def part(url: str, stop_after: int | None, **keeping) -> Run:
        stop = asyncio.Event()
        playing = Playing(url, watch_server=False)
        with Keeping(tmp_path, **keeping).recorder("t.csv", playing) as recorder:
            assert isinstance(recorder, Recorder)
            before = recorder.begin(trace.sha256())

            def ended(exchange: Exchange) -> None:
                recorder.ended(exchange)
                if exchange.row_id == stop_after:
                    stop.set()

            run = await replay(trace, playing, Heard(ended), stop, before)
            recorder.finished(run, stopped=stop.is_set())
        return run

    async def scenario(url: str) -> Run:
        first = await part(url, 10, run_id="a")
        assert len(first.requests) < 40
        assert store.meta("a").state == "stopped"
        return await part(url, None, resume="a")

    run = against(mock, scenario)
    assert run.requests.row_id.tolist() == list(range(40))
    assert run.summary().by_status == {"ok": 40}
    assert run.header.details["resumed_after"] >= 11
    assert store.meta("a").state == "finished"
    assert len(store.load("a").requests) == 40
    lag = run.requests.sent_s - run.requests.due_s
    assert lag.max() < 0.2


def test_only_the_same_trace_and_options_are_gone_on_with(tmp_path: Path):
    with Keeping(tmp_path, run_id="a").recorder("t.csv", Playing("http://x")) as recorder:
        assert recorder is not None
        recorder.begin("one")
    with pytest.raises(RunError, match="was played with"):
        Keeping(tmp_path, resume="a").recorder("t.csv", Playing("http://x", seed=9))
    with (
        pytest.raises(RunError, match="played another trace"),
        Keeping(tmp_path, resume="a").recorder("t.csv", Playing("http://x")) as recorder,
    ):
        assert recorder is not None
        recorder.begin("other")
