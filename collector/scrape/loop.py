"""Do something at every step of an interval, beginning at an offset within it, until told to stop."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

TOLERANCE_RATIO = 0.01
"""A step late by no more than this share of the interval counts as on time: regular timestamps pack best."""


async def every(
    interval_s: float,
    offset_s: float,
    action: Callable[[int], Awaitable[None]],
    stop: asyncio.Event,
    now_s: Callable[[], float] = time.time,
) -> None:
    """Await ``action(timestamp_ms)`` at each ``offset_s + k * interval_s`` of Unix time.

    Steps that pass while an action runs are left out. Returns once ``stop`` is set and the running action has ended.
    """
    last_due_s = -math.inf
    while not stop.is_set():
        due_s = next_step_s(now_s(), interval_s, offset_s)
        if due_s == last_due_s:  # the timer went off a moment early
            due_s += interval_s
        if await _stopped_within(stop, due_s - now_s()):
            return
        last_due_s = due_s
        began_s = now_s()
        on_time = abs(began_s - due_s) <= max(0.002, interval_s * TOLERANCE_RATIO)
        await action(round((due_s if on_time else began_s) * 1000))


def next_step_s(now_s: float, interval_s: float, offset_s: float) -> float:
    """First step of the grid that is after ``now_s``."""
    return (math.floor((now_s - offset_s) / interval_s) + 1) * interval_s + offset_s


async def _stopped_within(stop: asyncio.Event, delay_s: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), max(0.0, delay_s))
    except TimeoutError:
        return False
    return True
