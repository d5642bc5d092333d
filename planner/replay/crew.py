"""The processes that play one trace on one clock.

Whoever plays does nothing else: what watches the server, tells progress and keeps the journal is the process that leads
them. Only a replay that watches nothing and needs one process is played in the leading one.

Every process lays its share out and says that it is ready; then all are told the same monotonic time to count from
(one clock for all processes of a machine). What ended comes back in batches.
"""

import asyncio
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from planner.errors import ReplayError
from planner.replay.exchange import Exchange
from planner.replay.share import Share, Stage, Told

LEAD_S = 0.1
"""Between the last preparation and the first due time."""
BATCH_S = 0.25


async def play_shares(
    share: Share, ready: Callable[[], None], begin: Callable[[float], float], told: Told, stop: asyncio.Event
) -> tuple[list[Exchange], list[str]]:
    """Play ``share`` in as many processes as its playing asks for; what became of the requests, and what went wrong.

    ``ready`` is called when everything is laid out; ``begin`` makes the moment of the first request, on the monotonic
    clock, the moment that due times count from.
    """
    count = share.playing.processes
    if count > 1 or share.playing.watch_server:
        return await _Crew(share.split(count), told).play(ready, begin, stop)
    stage = Stage(share)
    ready()
    await stage.open()
    return await stage.play(begin(time.monotonic() + LEAD_S), told, stop), []


class _Crew:
    """The processes, seen from the one that leads them."""

    def __init__(self, shares: list[Share], told: Told) -> None:
        self._told = told
        self._found: list[Exchange] = []
        self._faults: list[str] = []
        self._ready = 0
        self._news = asyncio.Event()
        context = multiprocessing.get_context("spawn")
        self._pipes: dict[Connection, Any] = {}
        for share in shares:
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, share), daemon=True)
            process.start()
            theirs.close()
            self._pipes[ours] = process

    async def play(
        self, ready: Callable[[], None], begin: Callable[[float], float], stop: asyncio.Event
    ) -> tuple[list[Exchange], list[str]]:
        loop = asyncio.get_running_loop()
        everyone = list(self._pipes)
        for pipe in everyone:
            loop.add_reader(pipe.fileno(), self._hear, pipe)
        stopping = asyncio.create_task(self._stop_on(stop))
        try:
            await self._until(lambda: self._ready == len(everyone) or self._faults or stop.is_set())
            if self._faults:
                raise ReplayError(f"a playing process could not begin: {self._faults[0]}")
            ready()
            self._tell(begin(time.monotonic() + LEAD_S))
            await self._until(lambda: not self._pipes)
        finally:
            stopping.cancel()
            for pipe, process in list(self._pipes.items()):
                loop.remove_reader(pipe.fileno())
                process.kill()
        return self._found, self._faults

    def _hear(self, pipe: Connection) -> None:
        try:
            kind, what = pipe.recv()
        except (EOFError, OSError):
            kind, what = "fault", "it ended unexpectedly; what it had under way is missing"
        if kind == "ready":
            self._ready += 1
        elif kind == "batch":
            sent, ended = what
            self._told.sent(sent)
            for exchange in ended:
                self._told.ended(exchange)
            self._found += ended
        else:
            if kind == "fault":
                self._faults.append(str(what))
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            process = self._pipes.pop(pipe)
            pipe.close()
            process.join()
            process.close()
        self._news.set()

    async def _until(self, true: Callable[[], object]) -> None:
        while not true():
            self._news.clear()
            await self._news.wait()

    async def _stop_on(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._news.set()
        self._tell(None)

    def _tell(self, what: float | None) -> None:
        for pipe in self._pipes:
            pipe.send(what)


def _work(pipe: Connection, share: Share) -> None:
    """What each process does; it is told to stop through the pipe, so a signal to all of them is not its own."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        asyncio.run(_play(pipe, share))
        pipe.send(("done", None))
    except (OSError, ValueError, ReplayError) as error:
        pipe.send(("fault", f"{type(error).__name__}: {error}"))


async def _play(pipe: Connection, share: Share) -> None:
    stage = Stage(share)
    await stage.open()
    pipe.send(("ready", None))
    zero_s = await asyncio.to_thread(pipe.recv)
    if zero_s is None:
        return
    batch = _Batch(pipe)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_reader(pipe.fileno(), stop.set)
    sender = asyncio.create_task(batch.send_on())
    await stage.play(zero_s, Told(batch.sent, batch.ended), stop)
    sender.cancel()
    batch.send()


class _Batch:
    """Gathers what the leading process is to be told."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._sent = 0
        self._ended: list[Exchange] = []

    def sent(self, count: int) -> None:
        self._sent += count

    def ended(self, exchange: Exchange) -> None:
        self._ended.append(exchange)

    def send(self) -> None:
        self._pipe.send(("batch", (self._sent, self._ended)))
        self._sent, self._ended = 0, []

    async def send_on(self) -> None:
        while True:
            await asyncio.sleep(BATCH_S)
            self.send()
