"""One running query: its deadline, the client that waits for it, and the end of the process.

A query runs in a thread and looks at its clock between the nodes of its expression. The clock raises the refusal once
it is called off or its time is up; the answer is then Prometheus's, at once, and the thread ends at its next look.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import anyio.to_thread
from starlette.requests import Request

from collector.api.errors import ApiError
from collector.api.parts import Parts

T = TypeVar("T")


class QueryClock:
    """Seconds for ``Engine``, until the query is called off, the process stops or the time is up."""

    def __init__(
        self, timeout_s: float, stopping: threading.Event, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._now_s = now_s
        self._ends_s = now_s() + timeout_s
        self._stopping = stopping
        self._called_off = False

    def __call__(self) -> float:
        """The time; ApiError once the query should end."""
        if refusal := self.refusal():
            raise refusal
        return self._now_s()

    def call_off(self) -> None:
        """Let the query end at its next look."""
        self._called_off = True

    def refusal(self) -> ApiError | None:
        """What to answer if the query was called off or ran out of time."""
        if self._is_canceled():
            return ApiError(503, "canceled", "query was canceled in expression evaluation")
        if self._now_s() >= self._ends_s:
            return ApiError(503, "timeout", "query timed out in expression evaluation")
        return None

    def _is_canceled(self) -> bool:
        return self._called_off or self._stopping.is_set()


async def run_query(
    parts: Parts, request: Request, timeout_s: float, work: Callable[[QueryClock], T], asked: Hashable = None
) -> T:
    """Run ``work`` in a thread; ApiError 503 when its time is up, the process stops or the client has gone.

    Where ``asked`` was answered quickly the last time, ``work`` is done at once, without a thread.
    """
    clock = QueryClock(timeout_s, parts.stopping)
    if refusal := clock.refusal():
        raise refusal
    pace = parts.pace

    def timed(clock: QueryClock) -> tuple[T, float]:
        began_s = pace.now_s()
        return work(clock), pace.now_s() - began_s

    result, took_s = timed(clock) if pace.is_quick(asked) else await _in_thread(request, timeout_s, clock, timed)
    if asked is not None:
        pace.note(asked, took_s)
    return result


async def _in_thread(request: Request, timeout_s: float, clock: QueryClock, work: Callable[[QueryClock], T]) -> T:
    running = asyncio.ensure_future(anyio.to_thread.run_sync(partial(work, clock), abandon_on_cancel=True))
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((running, leaving), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        refusal = clock.refusal() or ApiError(503, "canceled", "query was canceled in expression evaluation")
        clock.call_off()
        raise refusal
    finally:
        clock.call_off()
        leaving.cancel()
        running.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
