"""A whole replay: ask the server what it is, lay out the requests, play them, and record what came back."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Protocol

import aiohttp
import numpy as np

from collector.signals import load_dialects
from planner.prompts import token_prompts
from planner.replay.exchange import Exchange, Planned, completion_body, open_session, stream_completion
from planner.replay.lag import verdict
from planner.replay.player import play
from planner.replay.target import Target, discover
from planner.replay.watch import Watch
from planner.result import Observation, Requests, Run, RunHeader
from planner.slo import Slo
from planner.trace import Trace
from planner.workload import Shaping

WARM_CONNECTIONS = 16
LEAD_S = 0.1
"""Between the last preparation and the first due time."""


@dataclass(frozen=True, slots=True)
class Playing:
    """How to play: the server, the shaping, and what to do beside."""

    url: str
    model: str | None = None
    shaping: Shaping = Shaping()
    seed: int = 0
    slo: Slo | None = None
    token: str | None = None
    timeout_s: float = 600.0
    watch_server: bool = True

    def told(self) -> dict[str, Any]:
        """The options that a list of runs shows."""
        return {**self.shaping.model_dump(exclude_defaults=True), "seed": self.seed}


class Progress(Protocol):
    """Is told how a replay goes on."""

    def started(self, target: Target, plan: Sequence[Planned]) -> None:
        """The first request goes out in a moment."""
        ...

    def sent(self) -> None:
        """One more request went out."""
        ...

    def ended(self, exchange: Exchange) -> None:
        """One more request came to its end."""
        ...


async def replay(trace: Trace, playing: Playing, progress: Progress, stop: asyncio.Event) -> Run:
    """Play ``trace`` (already shaped as ``playing.shaping`` says) and answer with the run.

    Setting ``stop`` ends it early; the run then holds what was sent. Raises ReplayError when the server cannot be
    played against at all.
    """
    started = 0.0

    def clock() -> float:
        return time.monotonic() - started

    async with open_session(playing.token, playing.timeout_s, clock) as session:
        target = await discover(session, playing.url, playing.model)
        run_id = f"{playing.seed:x}-{time.time_ns():x}"
        plan = lay_out(trace, target, playing.seed, run_id)
        progress.started(target, plan)
        await _warm(session, f"{playing.url}/v1/models")
        started = time.monotonic() + LEAD_S
        started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        async with _watching(session, playing, clock) as observed:
            url = f"{playing.url}/v1/completions"
            exchanges = await play(
                plan,
                lambda planned: stream_completion(session, url, planned, clock),
                clock,
                stop,
                progress.sent,
                progress.ended,
            )
    requests = tabulate(plan, exchanges)
    header = RunHeader(
        kind="replay",
        target=playing.url,
        model=target.model,
        trace=trace.header.source,
        trace_sha256=trace.sha256(),
        shaping=playing.shaping.model_dump(exclude_defaults=True),
        seed=playing.seed,
        slo=playing.slo,
        started_at=started_at,
        versions={"loadline": metadata.version("loadline")},
        details=_details(target, plan, requests),
    )
    return Run(header, requests, tuple(observed))


def lay_out(trace: Trace, target: Target, seed: int, run_id: str) -> list[Planned]:
    """Every request with its body, encoded before the clock starts; at least one token each way is asked for."""
    prompts = token_prompts(trace, *target.token_ids, seed=seed)
    return [
        Planned(
            row_id=int(trace.row_id[row]),
            due_s=float(trace.arrival_ns[row]) / 1e9,
            input_tokens=len(prompt),
            output_tokens=int(trace.output_tokens[row]),
            request_id=f"{run_id}-{int(trace.row_id[row])}",
            body=completion_body(target.model, prompt, max(int(trace.output_tokens[row]), 1)),
        )
        for row, prompt in enumerate(prompts)
    ]


def tabulate(plan: Sequence[Planned], exchanges: Sequence[Exchange]) -> Requests:
    """Exchanges as columns. Lengths are the server's own where it told them, else the plan's (0 out when failed)."""

    def column(values: Sequence[float | None]) -> Any:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    planned = plan[: len(exchanges)]
    return Requests(
        row_id=np.array([exchange.row_id for exchange in exchanges], dtype=np.int64),
        due_s=column([exchange.due_s for exchange in exchanges]),
        sent_s=column([exchange.sent_s for exchange in exchanges]),
        first_token_s=column([next(iter(exchange.token_times_s), None) for exchange in exchanges]),
        last_token_s=column([next(reversed(exchange.token_times_s), None) for exchange in exchanges]),
        end_s=column([exchange.end_s for exchange in exchanges]),
        input_tokens=np.array(
            [
                one.input_tokens if exchange.input_tokens is None else exchange.input_tokens
                for one, exchange in zip(planned, exchanges, strict=True)
            ],
            dtype=np.int64,
        ),
        output_tokens=np.array(
            [
                len(exchange.token_times_s) if exchange.output_tokens is None else exchange.output_tokens
                for exchange in exchanges
            ],
            dtype=np.int64,
        ),
        cached_tokens=column([exchange.cached_tokens for exchange in exchanges]),
        status=np.array([exchange.status for exchange in exchanges], dtype=np.str_),
        error=tuple(exchange.error for exchange in exchanges),
        token_times_s=tuple(np.array(exchange.token_times_s, dtype=np.float64) for exchange in exchanges),
    )


def overlong(plan: Sequence[Planned], target: Target) -> int:
    """How many requests ask for more tokens than the model's context holds; the server will refuse them."""
    limit = target.max_model_len
    return 0 if limit is None else sum(one.input_tokens + one.output_tokens > limit for one in plan)


def _details(target: Target, plan: Sequence[Planned], requests: Requests) -> dict[str, Any]:
    asked = np.array([one.input_tokens for one in plan[: len(requests)]], dtype=np.int64)
    ok = requests.status == "ok"
    return {
        **verdict(requests, len(plan)),
        "planned": len(plan),
        "overlong": overlong(plan, target),
        "prompt_token_error": int(np.abs(requests.input_tokens - asked)[ok].sum()),
        "scheduler": target.scheduler,
    }


async def _warm(session: aiohttp.ClientSession, url: str) -> None:
    async def touch() -> None:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(url) as response:
                await response.read()

    await asyncio.gather(*(touch() for _ in range(WARM_CONNECTIONS)))


@contextlib.asynccontextmanager
async def _watching(session: aiohttp.ClientSession, playing: Playing, clock: Callable[[], float]) -> Any:
    """Watch the server's metrics page meanwhile; the list is filled when the block ends."""
    found: list[Observation] = []
    if not playing.watch_server:
        yield found
        return
    task = asyncio.create_task(Watch(session, playing.url, load_dialects(), clock).run())
    try:
        yield found
    finally:
        task.cancel()
        found += await task
