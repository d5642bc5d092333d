"""The open loop: each request goes out when it is due, whatever became of those before it."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from planner.replay.alarm import Alarm
from planner.replay.exchange import Exchange, Planned

Start = Callable[[Planned, Callable[[Exchange], None]], Exchange]
EARLY_S = 120e-6
"""The alarm rings so much before a due time, and the rest is spun away: waking up takes a while that varies."""


class Player:
    """Plays one plan. ``start`` sends a request, ``cancel`` ends all that are under way.

    ``zero_s`` is the monotonic time that due times count from.
    """

    def __init__(
        self,
        plan: Sequence[Planned],
        start: Start,
        cancel: Callable[[], None],
        zero_s: float,
        on_sent: Callable[[], None] = lambda: None,
        on_end: Callable[[Exchange], None] = lambda _: None,
    ) -> None:
        self._plan = plan
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

    async def play(self, stop: asyncio.Event) -> list[Exchange]:
        """Send every request at its time and wait for all; in the order of the plan.

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
        plan = self._plan
        while not self._stopped and len(self._sent) < len(plan):
            planned = plan[len(self._sent)]
            due_s = self._zero_s + planned.due_s
            if due_s - EARLY_S > time.monotonic():
                self._alarm.at(due_s - EARLY_S)
                return
            while time.monotonic() < due_s:
                pass
            self._sent.append(self._start(planned, self._one_ended))
            self._on_sent()
        self._look()

    def _one_ended(self, exchange: Exchange) -> None:
        self._ended += 1
        self._on_end(exchange)
        self._look()

    def _look(self) -> None:
        if self._ended == len(self._sent) and (self._stopped or len(self._sent) == len(self._plan)):
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
