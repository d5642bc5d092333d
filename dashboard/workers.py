"""Threads that fetch, and that never keep the process alive: a source that hangs must not delay the end."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_Job = tuple[Future[Any], Callable[[], Any]]


class Workers(Executor):
    """``count`` daemon threads over one queue; ``shutdown`` waits for them at most ``patience_s``."""

    def __init__(self, count: int, *, patience_s: float = 1.0) -> None:
        self._patience_s = patience_s
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [Thread(target=self._work, name=f"dashboard-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(
        self, fn: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        """Run ``fn`` when a thread is free."""
        future: Future[Result] = Future()
        self._queue.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the threads once they have done what they are at."""
        for _ in self._threads:
            self._queue.put(None)
        until = monotonic() + self._patience_s
        for thread in self._threads if wait else ():
            thread.join(max(0.0, until - monotonic()))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            future, run = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(run())
            except Exception as error:  # belongs to whoever asks the future
                future.set_exception(error)
            del job, future, run
