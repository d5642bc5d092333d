"""The open loop: each request goes out when it is due, whatever became of those before it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from planner.replay.exchange import Clock, Exchange, Planned

SPIN_S = 0.0012
"""A sleep may end a millisecond late (epoll's grain); the last stretch before a due time is spent yielding instead."""

Send = Callable[[Planned], Coroutine[Any, Any, Exchange]]


async def play(
    plan: Iterable[Planned],
    send: Send,
    clock: Clock,
    stop: asyncio.Event,
    on_sent: Callable[[], None] = lambda: None,
    on_end: Callable[[Exchange], None] = lambda _: None,
) -> list[Exchange]:
    """Send every request of ``plan`` at its ``due_s`` on ``clock`` and wait for all; in the order of the plan.

    Never waits for an answer before sending. When ``stop`` is set, nothing more is sent and what is under way is
    cancelled; every request that was sent is in the answer.
    """
    under_way: list[asyncio.Task[Exchange]] = []
    stopped = asyncio.create_task(stop.wait())
    try:
        for planned in plan:
            await _until(planned.due_s, clock, stopped)
            if stop.is_set():
                break
            task = asyncio.create_task(send(planned))
            task.add_done_callback(lambda done: on_end(done.result()))
            under_way.append(task)
            on_sent()
        finished = asyncio.create_task(_all(under_way))
        await asyncio.wait((finished, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in under_way:
            task.cancel()  # does nothing to those that have ended
        await finished
        return [task.result() for task in under_way]
    finally:
        stopped.cancel()


async def _all(tasks: "list[asyncio.Task[Exchange]]") -> bool:
    if tasks:
        await asyncio.wait(tasks)
    return True


async def _until(due_s: float, clock: Clock, stopped: "asyncio.Task[bool]") -> None:
    rest = due_s - clock() - SPIN_S
    if rest > 0:
        await asyncio.wait({stopped}, timeout=rest)
    while clock() < due_s and not stopped.done():
        await asyncio.sleep(0)
