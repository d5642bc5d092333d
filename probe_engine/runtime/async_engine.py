"""The engine in a thread of its own, for asyncio: requests in through an inbox, tokens out in one batch per step.

The thread owns the engine; the event loop's thread owns the streams. They meet in ``_inbox`` (a deque) and in
``call_soon_threadsafe``, once per step whatever the number of requests.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import Event, Thread

from probe_engine.errors import QueueFull, Stopping, WorkerLost
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.sched import FinishReason
from probe_engine.telemetry.metrics import Gauges

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 2.0

OnFinished = Callable[[Generation, TokenOutput], None]


class OutputStream:
    """Outputs of some generations, as they come: an async iterator over batches that ends when all have finished.

    ``index`` maps request id to the generation's place in the list that was submitted. ``close()`` aborts whatever
    has not finished; it must be called when the reader stops early.
    """

    def __init__(self, generations: Sequence[Generation], abort: Callable[[str], None]) -> None:
        self.index: Mapping[str, int] = {generation.request_id: at for at, generation in enumerate(generations)}
        self._open = set(self.index)
        self._abort = abort
        self._pending: list[TokenOutput] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, output: TokenOutput) -> None:
        """Engine side, on the event loop's thread."""
        if output.finish_reason is not None:
            self._open.discard(output.request_id)
        if self._closed:
            return
        self._pending.append(output)
        self._wake()

    def close(self) -> None:
        """Abort what has not finished and end the iteration; harmless when all has."""
        self._closed = True
        for request_id in self._open:
            self._abort(request_id)
        self._open.clear()
        self._wake()

    def __aiter__(self) -> "OutputStream":
        return self

    async def __anext__(self) -> list[TokenOutput]:
        while not self._pending:
            if self._closed or not self._open:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        batch, self._pending = self._pending, []
        return batch

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class AsyncEngine:
    """Runs ``engine`` in a thread.

    ``max_queue``: most requests that may wait; more raise ``QueueFull``. ``on_finished`` is called on the event
    loop's thread with each generation that ended, however it ended.
    """

    def __init__(self, engine: Engine, *, max_queue: int, on_finished: OnFinished | None = None) -> None:
        self.engine = engine
        self.max_queue = max_queue
        self._on_finished = on_finished
        self._inbox: deque[Generation | str] = deque()
        self._wake = Event()
        self._stopping = False
        self.lost: str | None = None  # why nothing can be computed any more
        self._serving: dict[str, tuple[OutputStream, Generation]] = {}
        self._thread: Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start the thread; must be called on the event loop that will read the streams."""
        self._loop = asyncio.get_running_loop()
        self.engine.metrics.gauges = self.gauges
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """End every request with an error, then the thread; returns after at most ``STOP_TIMEOUT_S`` and a step."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT_S)
            if self._thread.is_alive():
                log.warning("the engine's step still runs after %s s; leaving it behind", STOP_TIMEOUT_S)

    @property
    def serving(self) -> int:
        """Requests accepted and not yet ended."""
        return len(self._serving)

    def in_use(self, request_id: str) -> bool:
        """Whether a request of this id is being served."""
        return request_id in self._serving

    def gauges(self) -> Gauges:
        """As the engine's, with those in the inbox counted as waiting."""
        now = self.engine.gauges()
        return replace(now, waiting=now.waiting + len(self._inbox))

    def submit(self, generations: Sequence[Generation]) -> OutputStream:
        """Take all of ``generations`` or none; raises ``RequestRefused``, ``QueueFull`` or ``Stopping``."""
        if self._stopping:
            raise Stopping("the engine is shutting down")
        if self.lost is not None:
            raise Stopping(self.lost)
        for generation in generations:
            self.engine.scheduler.check(generation.request())
        waiting = self.gauges().waiting
        if waiting + len(generations) > self.max_queue:
            raise QueueFull(waiting, self.max_queue)
        stream = OutputStream(generations, self._abort)
        for generation in generations:
            self._serving[generation.request_id] = (stream, generation)
        self._inbox.extend(generations)
        self._wake.set()
        return stream

    def _abort(self, request_id: str) -> None:
        self._inbox.append(request_id)
        self._wake.set()

    def _run(self) -> None:
        engine = self.engine
        while True:
            outputs = self._take_inbox()
            if self._stopping:
                break
            if engine.has_work:
                try:
                    outputs += engine.step()
                except WorkerLost as error:
                    log.error("the engine can compute nothing any more: %s", error)
                    self.lost = str(error)
                    outputs += engine.fail_all("worker_lost", str(error))
                except Exception as error:
                    log.exception("the engine's bookkeeping failed; every request ends with an error")
                    outputs += engine.fail_all("step_failed", f"the engine failed: {error}")
                self._hand_over(outputs)
                if engine.stalled:
                    engine.stalled = False
                    self._wake.wait(engine.pause_s)
                    self._wake.clear()
                continue
            self._hand_over(outputs)
            engine.idle()
            self._wake.wait()
            self._wake.clear()
        self._hand_over(outputs + engine.fail_all("shutdown", "the engine is shutting down"))

    def _take_inbox(self) -> list[TokenOutput]:
        outputs: list[TokenOutput] = []
        while self._inbox:
            wanted = self._inbox.popleft()
            if isinstance(wanted, str):
                aborted = self.engine.abort(wanted)
                if aborted is not None:
                    outputs.append(aborted)
                continue
            try:
                self.engine.add(wanted)
            except Exception as error:
                outputs.append(TokenOutput(wanted.request_id, None, "", FinishReason.ABORT, error=str(error)))
        return outputs

    def _hand_over(self, outputs: list[TokenOutput]) -> None:
        if not outputs or self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._deliver, outputs)
        except RuntimeError:
            log.warning("%d outputs came after the event loop had closed", len(outputs))

    def _deliver(self, outputs: list[TokenOutput]) -> None:
        for output in outputs:
            entry = self._serving.get(output.request_id)
            if entry is None:
                continue
            stream, generation = entry
            if output.finish_reason is not None:
                del self._serving[output.request_id]
                if self._on_finished is not None:
                    self._on_finished(generation, output)
            stream.put(output)
