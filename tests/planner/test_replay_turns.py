"""Closed sessions: who comes after whom, when, and with what was really said; requests written ahead, within bounds."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import numpy as np
import orjson
import pytest
from aiohttp import web

from planner.errors import ReplayError
from planner.prompts.words import build, syllables
from planner.replay.exchange import Exchange, Planned
from planner.replay.layout import Layout, Wording
from planner.replay.local_engine import local_engine
from planner.replay.player import Player
from planner.replay.playing import Playing
from planner.replay.script import Script
from planner.replay.session import replay
from planner.replay.share import Share
from planner.replay.target import Target
from planner.replay.turns import Turns
from planner.result import Run
from planner.traces.trace import Trace, from_lengths

BYTES = build(lambda text: list(text.encode()), syllables(), "bytes")
TARGET = Target("http://x", "tiny", None, (0, 100), None)


def objects(*values: object) -> np.ndarray:
    return np.array(values, dtype=object)


def talk(**columns: np.ndarray) -> Trace:
    """Two turns of one session with a request of nobody between; each turn's prompt is all that was said so far."""
    trace = from_lengths([0.0, 1.0, 4.0], [7, 9, 20], [3, 3, 2])
    return replace(trace, columns={"session_id": objects("s", None, "s"), **columns})


def turns_of(trace: Trace, endpoint: str = "completions", speed: float = 1.0) -> Turns:
    layout = Layout(trace, TARGET, 0, "run", Wording(endpoint, BYTES))
    return Turns(layout, BYTES, np.arange(len(trace)), speed)


def answered(row: int, end_s: float = 2.0, due_s: float = 0.0, status: str = "ok") -> Exchange:
    return Exchange(row, due_s, due_s, end_s, [end_s], 7, 3, 0, status, answer=["a", "b", "c"])


def asked(planned: Planned) -> dict:
    return orjson.loads(planned.body)


def test_a_turn_holds_the_prompt_before_the_servers_own_answer_and_what_the_trace_adds():
    turns = turns_of(talk())
    first, other = turns.openings()
    assert (first.row_id, other.row_id) == (0, 1)
    (second,) = turns.follow(answered(0))
    prompt = asked(second)["prompt"]
    assert prompt.startswith(asked(first)["prompt"] + "abc")
    assert len(prompt) == 20
    assert list(turns.follow(answered(1))) == []


def test_a_chats_turn_holds_the_answer_as_the_assistants_message():
    turns = turns_of(talk(), "chat")
    first, _ = turns.openings()
    (second,) = turns.follow(answered(0))
    opening, answer, new = asked(second)["messages"]
    assert [opening] == asked(first)["messages"]
    assert answer == {"role": "assistant", "content": "abc"}
    assert (new["role"], len(new["content"])) == ("user", 20 - 7 - 3)


@pytest.mark.parametrize(
    ("columns", "speed", "due_s"),
    [
        ({"after_ms": np.array([0.0, 0.0, 500.0])}, 1.0, 2.5),
        ({"after_ms": np.array([0.0, 0.0, 500.0])}, 2.0, 2.25),
        ({"rec_e2e_ms": np.array([1000.0, 0.0, 0.0])}, 1.0, 2.0 + 4.0 - 1.0),
        ({}, 1.0, 4.0),
    ],
)
def test_a_turn_is_due_after_the_answer_and_the_time_to_think(columns: dict, speed: float, due_s: float):
    turns = turns_of(talk(**columns), speed=speed)
    list(turns.openings())
    (second,) = turns.follow(answered(0))
    assert second.due_s == due_s


def test_a_turn_whose_answer_comes_late_waits_for_it():
    turns = turns_of(talk())
    list(turns.openings())
    (second,) = turns.follow(answered(0, end_s=9.0))
    assert second.due_s == 9.0


def test_what_comes_after_a_failure_is_reported_and_never_asked():
    trace = from_lengths([0.0, 1.0, 2.0], [4, 9, 14], [1, 1, 1])
    turns = turns_of(replace(trace, columns={"session_id": objects("s", "s", "s")}))
    list(turns.openings())
    lost = list(turns.follow(answered(0, status="timeout")))
    assert [(one.row_id, one.status, one.error) for one in lost if isinstance(one, Exchange)] == [
        (1, "error", "the turn before it failed"), (2, "error", "the turn before it failed"),
    ]  # fmt: skip


def test_a_run_that_is_stopped_loses_no_turns_to_a_failure():
    turns = turns_of(talk())
    list(turns.openings())
    assert list(turns.follow(answered(0, status="cancelled"))) == []


def test_turns_follow_their_parents_where_a_conversation_branches():
    trace = from_lengths([0.0, 1.0, 2.0], [4, 9, 11], [1, 1, 1])
    columns = {
        "session_id": objects("s", "s", "s"),
        "request_id": objects("a", "b", "c"),
        "parent_request_id": objects(None, "a", "a"),
    }
    turns = turns_of(replace(trace, columns=columns))
    (first,) = turns.openings()
    both = list(turns.follow(answered(0)))
    assert [one.row_id for one in both] == [1, 2]
    assert all(asked(one)["prompt"].startswith(asked(first)["prompt"] + "abc") for one in both)


def test_a_conversation_that_the_trace_cuts_begins_anew_with_the_traces_length():
    trace = from_lengths([0.0, 1.0], [30, 5], [4, 1])
    turns = turns_of(replace(trace, columns={"session_id": objects("s", "s")}))
    list(turns.openings())
    (second,) = turns.follow(answered(0))
    assert len(asked(second)["prompt"]) == 5


def test_no_session_is_split_between_processes():
    trace = from_lengths(np.arange(12), np.full(12, 5), np.full(12, 1))
    trace = replace(trace, columns={"session_id": objects(*"aabbccaabbcc")})
    share = Share(trace, Playing("http://x", sessions="closed"), TARGET, Wording(), "run", np.arange(12))
    parts = [part.rows.tolist() for part in share.split(2)]
    assert parts == [[0, 1, 4, 5, 6, 7, 10, 11], [2, 3, 8, 9]]


class Silent:
    def started(self, target: object, outline: object) -> None: ...
    def sent(self, count: int = 1) -> None: ...
    def ended(self, exchange: object) -> None: ...


def conversations(sessions: int = 4, turns: int = 4) -> Trace:
    """Sessions that grow by 64 tokens of prompt and 64 of answer a turn."""
    names = objects(*(f"s{session}" for _ in range(turns) for session in range(sessions)))
    rows = len(names)
    grown = [64 + 128 * (row // sessions) for row in range(rows)]
    trace = from_lengths(np.arange(rows) * 0.02, grown, np.full(rows, 64))
    return replace(trace, columns={"session_id": names, "context_mode": objects(*["full"] * rows)})


class Remembering:
    """Speaks completions and chats in bytes, one letter a token, and finds what it has seen in blocks of 16."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    async def complete(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        prompt = asked.get("prompt") or "".join(message["content"] for message in asked["messages"])
        count = asked.get("max_tokens") or asked["max_completion_tokens"]
        cached = next((n for n in range(len(prompt) // 16 * 16, 0, -16) if prompt[:n] in self._seen), 0)
        answer = "".join(chr(97 + (len(prompt) * 7 + place) % 26) for place in range(count))
        self._seen |= {(prompt + answer)[:n] for n in range(16, len(prompt) + count + 1, 16)}
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": count,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        if not asked["stream"]:
            return web.json_response({"usage": usage})
        events = [{"choices": [{"text": one, "delta": {"content": one}}]} for one in answer]
        lines = [b"data: " + orjson.dumps(event) for event in (*events, {"choices": [], "usage": usage})]
        return web.Response(body=b"\n\n".join([*lines, b"data: [DONE]\n\n"]), content_type="text/event-stream")

    async def tokenize(self, request: web.Request) -> web.Response:
        return web.json_response({"tokens": list((await request.json())["prompt"].encode())})

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "letters"}]})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/v1/completions", self.complete)
        app.router.add_post("/v1/chat/completions", self.complete)
        app.router.add_post("/tokenize", self.tokenize)
        app.router.add_get("/v1/models", self.models)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
def test_answers_that_were_really_given_are_found_again_with_the_prompts_around_them(endpoint: str):
    """The open loop makes up what was answered, so that only the prompt before is found."""

    async def both() -> list[Run]:
        runs = []
        for seed, mode in enumerate(("open", "closed")):
            playing = Playing("", watch_server=False, prompts="text", sessions=mode, seed=seed, endpoint=endpoint)
            async with Remembering().serving() as url:
                runs.append(await replay(conversations(), replace(playing, url=url), Silent(), asyncio.Event()))
        return runs

    opened, closed = asyncio.run(both())
    grown = [64, 192, 320, 448]
    for run, found in ((opened, [0, 64, 192, 320]), (closed, [0, 128, 256, 384])):
        assert run.summary().by_status == {"ok": 16}
        assert run.header.details["prompt_token_error"] == 0
        by_row = np.argsort(run.requests.row_id)
        assert run.requests.input_tokens[by_row].tolist() == np.repeat(grown, 4).tolist()
        assert run.requests.cached_tokens[by_row].tolist() == np.repeat(found, 4).tolist()


def test_the_engine_is_asked_each_turn_after_its_answer_and_finds_the_whole_prompt_before():
    trace = conversations()

    async def scenario(url: str) -> Run:
        playing = Playing(url, watch_server=False, sessions="closed")
        return await replay(trace, playing, Silent(), asyncio.Event())

    with local_engine("tiny") as url:
        run = asyncio.run(scenario(url))
    assert run.summary().by_status == {"ok": len(trace)}
    by_row = run.requests.take(np.argsort(run.requests.row_id))
    assert (by_row.sent_s[4:] >= by_row.end_s[:-4]).all()
    assert (by_row.cached_tokens[4:] >= by_row.input_tokens[:-4] // 16 * 16).all()


def test_an_interrupted_session_is_gone_on_with_from_its_beginning():
    trace = conversations(sessions=2, turns=2)
    names = trace.row_id.tolist()
    before = [Exchange(row, 0.0, 0.0, 0.1, [0.1], 64, 64, 0, "ok") for row in (names[0], names[1], names[3])]

    async def scenario() -> Run:
        async with Remembering().serving() as url:
            playing = Playing(url, watch_server=False, sessions="closed")
            return await replay(trace, playing, Silent(), asyncio.Event(), before)

    run = asyncio.run(scenario())
    assert sorted(run.requests.row_id.tolist()) == names
    assert run.header.details["resumed_after"] == 2


def test_closed_sessions_need_prompts_as_text():
    playing = Playing("http://127.0.0.1:9", sessions="closed", prompts="ids")
    with pytest.raises(ReplayError, match="they need --prompts text"):
        asyncio.run(replay(conversations(), playing, Silent(), asyncio.Event()))


def bodies(count: int, written: list[int], every_s: float = 0.0) -> Iterator[Planned]:
    for row in range(count):
        written.append(row)
        yield Planned(row, row * every_s, f"r-{row}", bytes(100))


def test_no_more_is_written_ahead_than_there_is_room_for():
    written: list[int] = []
    script = Script(bodies(1000, written), room_bytes=1000)
    while script.write_on():
        pass
    assert len(written) == 10
    for row in range(1000):
        assert script.due_s() is not None
        assert script.take().row_id == row
        while script.write_on():
            pass
        assert len(written) <= row + 11
    assert script.due_s() is None


def test_while_nothing_is_due_what_comes_next_is_written():
    """Each request finds ten bodies ready, the room that there is; none was written as it was due."""

    async def scenario() -> list[int]:
        written: list[int] = []
        ahead = []
        script = Script(bodies(15, written, every_s=0.02), room_bytes=1000)
        while script.write_on():
            pass

        def start(one: Planned, on_end) -> Exchange:
            ahead.append(len(written) - one.row_id)
            exchange = Exchange(one.row_id, one.due_s, status="ok")
            asyncio.get_running_loop().call_soon(on_end, exchange)
            return exchange

        await Player(script, start, lambda: None, time.monotonic()).play(asyncio.Event())
        return ahead

    ahead = asyncio.run(scenario())
    assert len(ahead) == 15
    assert max(ahead) <= 10
    assert ahead[:5] == [10] * 5
