"""Sends each request when it is due, whatever became of those before it; a script tells what is due when."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf

from planner.replay.alarm import Alarm
from planner.replay.exchange import Exchange, Planned
from planner.replay.script import Script

Start = Callable[[Planned, Callable[[Exchange], None]], Exchange]
EARLY_S = 120e-6
"""The alarm rings so much before a due time, and the rest is spun away: waking up takes a while that varies."""
SPARE_S = 0.005
"""Requests are written ahead only while none is due for so long."""


class Player:
    """Plays one script. ``start`` sends a request, ``cancel`` ends all that are under way.

    ``zero_s`` is the monotonic time that due times count from.
    """

    def __init__(
        self,
        script: Script,
        start: Start,
        cancel: Callable[[], None],
        zero_s: float,
        on_sent: Callable[[], None] = lambda: None,
        on_end: Callable[[Exchange], None] = lambda _: None,
    ) -> None:
        self._script = script
        self._start = start
        self._cancel = cancel
        self._zero_s = zero_s
        self._on_sent = on_sent
        self._on_end = on_end
        self._sent: list[Exchange] = []
        self._ended = 0
        self._over = asyncio.Event()
        self._alarm = Alarm(self._go)
        self._stopped = False
        self._next_s = inf
        self._writing = False

    async def play(self, stop: asyncio.Event) -> list[Exchange]:
        """Send every request at its time and wait for all; in the order in which they were sent.

        When ``stop`` is set, nothing more is sent and what is under way is cancelled; every request that was sent is
        in the answer.
        """
        stopping = asyncio.create_task(self._stop_on(stop))
        try:
            with _without_pauses():
                self._go()
                await self._over.wait()
        finally:
            self._alarm.close()
            stopping.cancel()
        return self._sent

    def _go(self) -> None:
        """Send what is due and set the alarm for what comes next."""
        while not self._stopped and (due_s := self._script.due_s()) is not None:
            due_s += self._zero_s
            if due_s - EARLY_S > time.monotonic():
                self._next_s = due_s - EARLY_S
                self._alarm.at(self._next_s)
                self._write_on()
                return
            planned = self._script.take()
            while time.monotonic() < due_s:
                pass
            self._sent.append(self._start(planned, self._one_ended))
            self._on_sent()
        self._next_s = inf
        self._look()

    def _write_on(self) -> None:
        """Write requests ahead, one at each turn of the loop, for as long as none is due soon."""
        if not self._writing and time.monotonic() + SPARE_S < self._next_s and self._script.write_on():
            self._writing = True
            asyncio.get_running_loop().call_soon(self._wrote)

    def _wrote(self) -> None:
        self._writing = False
        if not self._stopped:
            self._write_on()

    def _one_ended(self, exchange: Exchange) -> None:
        over = [exchange, *self._script.answered(exchange)]
        self._sent += over[1:]
        self._ended += len(over)
        for one in over:
            self._on_end(one)
        due_s = self._script.due_s()
        if due_s is not None and self._zero_s + due_s - EARLY_S < self._next_s:
            self._go()
        else:
            self._look()

    def _look(self) -> None:
        if self._ended == len(self._sent) and (self._stopped or self._script.due_s() is None):
            self._over.set()

    async def _stop_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._stopped = True
        self._cancel()
        self._look()


@contextmanager
def _without_pauses() -> Iterator[None]:
    """No garbage collections, whose pauses grow with all that is there; what is played makes next to no cycles."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
