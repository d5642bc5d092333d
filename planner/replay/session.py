"""A whole replay: ask the server what it is, lay out the requests, play them, and record what came back."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Protocol

import aiohttp
import numpy as np

from collector.signals import load_dialects
from planner.errors import ReplayError
from planner.prompts import prompt_lengths
from planner.replay.crew import play_shares
from planner.replay.exchange import Exchange
from planner.replay.lag import verdict
from planner.replay.layout import Wording
from planner.replay.playing import Playing
from planner.replay.share import Share, Told
from planner.replay.target import Target, discover, tokens_around, word_pool
from planner.replay.turns import successors, values_of
from planner.replay.watch import Watch
from planner.result import Observation, Requests, Run, RunHeader
from planner.traces.trace import IntArray, Trace

__all__ = ["Outline", "Playing", "Progress", "replay", "tabulate"]

UNDONE = ("cancelled", "unfinished")


@dataclass(frozen=True, slots=True)
class Outline:
    """What is about to be played: how many requests until when, how many of them are longer than the model's context.

    ``done`` were played before the run was interrupted.
    """

    planned: int
    planned_s: float
    overlong: int
    done: int = 0


class Progress(Protocol):
    """Is told how a replay goes on."""

    def started(self, target: Target, outline: Outline) -> None:
        """The first request goes out in a moment."""
        ...

    def sent(self, count: int = 1) -> None:
        """More requests went out."""
        ...

    def ended(self, exchange: Exchange) -> None:
        """One more request came to its end."""
        ...


async def replay(
    trace: Trace, playing: Playing, progress: Progress, stop: asyncio.Event, before: Sequence[Exchange] = ()
) -> Run:
    """Play ``trace`` (already shaped as ``playing.shaping`` says) and answer with the run.

    Setting ``stop`` ends it early; the run then holds what was sent. ``before`` is what an interrupted run had sent:
    what ended is kept, the rest is played, from where it broke off on. Raises ReplayError when the server cannot be
    played against at all.
    """
    if playing.sessions == "closed" and not playing.as_text:
        raise ReplayError("closed sessions hold the server's answers, which come as text: they need --prompts text")
    kept = _kept(trace, playing, before)
    wanted, rows = _rows(trace, playing, kept)
    lengths = prompt_lengths(trace)
    headers = {"Authorization": f"Bearer {playing.token}"} if playing.token else {}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:
        target = await discover(session, playing.url, playing.model)
        wording = await _wording(session, target, playing)
        outline = _outline(trace, lengths, wanted, target, len(kept))
        errors = _Errors(progress, playing.max_errors, stop)
        name = playing.name or f"{playing.seed:x}-{time.time_ns():x}"
        share = Share(trace, playing, target, wording, name, rows)
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        watching = _Watching(session, playing)
        ahead_s = float(trace.arrival_ns[rows[0]]) / 1e9 if kept and len(rows) else 0.0

        def begin(at_s: float) -> float:
            watching.begin(at_s - ahead_s)
            return at_s - ahead_s

        def ready() -> None:
            progress.started(target, outline)

        try:
            found, faults = await play_shares(share, ready, begin, Told(progress.sent, errors.ended), stop)
        finally:
            observed = await watching.end()
    requests = tabulate([*kept, *found], dict(zip(trace.row_id.tolist(), lengths.tolist(), strict=True)))
    header = RunHeader(
        kind="replay",
        target=playing.url,
        model=target.model,
        trace=trace.header.source,
        trace_sha256=trace.sha256(),
        shaping=playing.shaping.model_dump(exclude_defaults=True, mode="json"),
        seed=playing.seed,
        slo=playing.slo,
        started_at=started_at,
        versions={"loadline": metadata.version("loadline")},
        warm_up_s=playing.warm_up_s,
    )
    run = Run(header, requests, observed)
    asked = lengths[np.isin(trace.row_id, requests.row_id)]
    details = {
        **verdict(run.measured().requests, len(wanted) - len(requests), [*faults, *errors.reasons]),
        "planned": len(wanted),
        "overlong": outline.overlong,
        "prompt_token_error": _length_error(requests, _exact(trace, playing, lengths)),
        "asked_input_tokens": int(asked.sum()),
        "scheduler": target.scheduler,
        "processes": playing.processes,
        "sessions": playing.sessions,
        "request_ids": share.run_id,
        **({"resumed_after": len(kept)} if kept else {}),
    }
    return replace(run, header=header.model_copy(update={"details": details}))


def tabulate(exchanges: Sequence[Exchange], lengths: dict[int, int]) -> Requests:
    """Exchanges as columns, by due time. Lengths are the server's own where it told them, else ``lengths`` by row id
    (0 out when failed).
    """

    def column(values: Sequence[float | None]) -> Any:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    exchanges = sorted(exchanges, key=lambda one: (one.due_s, one.row_id))
    return Requests(
        row_id=np.array([one.row_id for one in exchanges], dtype=np.int64),
        due_s=column([one.due_s for one in exchanges]),
        sent_s=column([one.sent_s for one in exchanges]),
        first_token_s=column([next(iter(one.token_times_s), None) for one in exchanges]),
        last_token_s=column([next(reversed(one.token_times_s), None) for one in exchanges]),
        end_s=column([one.end_s for one in exchanges]),
        input_tokens=np.array(
            [lengths[one.row_id] if one.input_tokens is None else one.input_tokens for one in exchanges], dtype=np.int64
        ),
        output_tokens=np.array(
            [len(one.token_times_s) if one.output_tokens is None else one.output_tokens for one in exchanges],
            dtype=np.int64,
        ),
        cached_tokens=column([one.cached_tokens for one in exchanges]),
        status=np.array([one.status for one in exchanges], dtype=np.str_),
        error=tuple(one.error for one in exchanges),
        token_times_s=tuple(np.array(one.token_times_s, dtype=np.float64) for one in exchanges),
    )


class _Errors:
    """Ends a run of which too many requests fail."""

    def __init__(self, progress: Progress, most: int | None, stop: asyncio.Event) -> None:
        self._progress = progress
        self._most = most
        self._stop = stop
        self._failed = 0
        self.reasons: list[str] = []

    def ended(self, exchange: Exchange) -> None:
        self._progress.ended(exchange)
        if exchange.status in ("ok", *UNDONE) or self._most is None:
            return
        self._failed += 1
        if self._failed == self._most:
            self.reasons.append(f"stopped after {self._failed} requests that failed (--max-errors)")
            self._stop.set()


def _kept(trace: Trace, playing: Playing, before: Sequence[Exchange]) -> list[Exchange]:
    """What need not be played again: what ended, and of closed sessions those that ended whole."""
    ended = [one for one in {one.row_id: one for one in before}.values() if one.status not in UNDONE]
    if playing.sessions == "open":
        return ended
    session = dict(zip(trace.row_id.tolist(), values_of(trace, "session_id"), strict=True))
    broken = {session[row] for row in session.keys() - {one.row_id for one in ended}} - {None}
    return [one for one in ended if session[one.row_id] not in broken]


def _rows(trace: Trace, playing: Playing, kept: Sequence[Exchange]) -> tuple[IntArray, IntArray]:
    """Places in the trace of what the run is to hold, and of those that are still to be played."""
    wanted = np.arange(len(trace))
    if playing.max_duration_s is not None:
        wanted = wanted[trace.arrival_ns < playing.max_duration_s * 1e9]
    done = np.isin(trace.row_id[wanted], [exchange.row_id for exchange in kept])
    return wanted, wanted[~done]


async def _wording(session: aiohttp.ClientSession, target: Target, playing: Playing) -> Wording:
    if not playing.as_text:
        return Wording(playing.endpoint, ignore_eos=playing.ignore_eos)
    pool = await word_pool(session, target, playing.tokenizer)
    spare = await tokens_around(session, target, playing.endpoint, pool.first[0])
    return Wording(playing.endpoint, pool, spare, playing.ignore_eos)


def _outline(trace: Trace, lengths: IntArray, wanted: IntArray, target: Target, done: int) -> Outline:
    both = lengths[wanted] + trace.output_tokens[wanted]
    overlong = 0 if target.max_model_len is None else int((both > target.max_model_len).sum())
    planned_s = float(trace.arrival_ns[wanted[-1]]) / 1e9 if len(wanted) else 0.0
    return Outline(len(wanted), planned_s, overlong, done)


def _exact(trace: Trace, playing: Playing, lengths: IntArray) -> dict[int, int]:
    """By row id, the lengths of the prompts that hold no answer of the server."""
    asked = dict(enumerate(lengths.tolist()))
    if playing.sessions == "closed":
        for turns in successors(trace, np.arange(len(trace))).values():
            for turn in turns:
                del asked[turn]
    return {int(trace.row_id[row]): length for row, length in asked.items()}


def _length_error(requests: Requests, asked: dict[int, int]) -> int:
    """Summed difference between the prompt tokens that the server counted and those asked for, over what ended well."""
    counted = zip(requests.row_id.tolist(), requests.input_tokens.tolist(), requests.status.tolist(), strict=True)
    return sum(abs(tokens - asked[row]) for row, tokens, status in counted if status == "ok" and row in asked)


class _Watching:
    """Watches the server's metrics page from the run's beginning to its end, if it is to be watched."""

    def __init__(self, session: aiohttp.ClientSession, playing: Playing) -> None:
        self._session = session
        self._playing = playing
        self._task: asyncio.Task[tuple[Observation, ...]] | None = None

    def begin(self, zero_s: float) -> None:
        if self._playing.watch_server:
            watch = Watch(self._session, self._playing.url, load_dialects(), lambda: time.monotonic() - zero_s)
            self._task = asyncio.create_task(watch.run())

    async def end(self) -> tuple[Observation, ...]:
        if self._task is None:
            return ()
        self._task.cancel()
        return await self._task
