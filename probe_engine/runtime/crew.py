"""Threads that compute parts of one step side by side.

A step's rows do not look at each other, so each thread takes some of them through the whole model and they meet once,
at its end. Threads inside single operations meet some hundred times a step instead, and each time all of them wait for
the one that the operating system has set aside: on two busy cores that was a quarter of one thread's speed.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


class Crew:
    """``threads`` threads, torch's operations in each of them single-threaded; they end when nobody keeps it."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        outside = torch.get_num_threads()
        arrived = Barrier(threads + 1)
        self._pool = ThreadPoolExecutor(threads, "rows", initializer=_alone, initargs=(arrived,))
        for _ in range(threads):
            self._pool.submit(int)  # the pool starts a thread with each of its first tasks
        arrived.wait()
        torch.set_num_threads(outside)  # _alone has set it for threads to come, too

    def each(self, work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
        """``work`` of every part; raises what the first that failed raised, when all have ended."""
        futures = [self._pool.submit(work, part) for part in parts]
        failed = next((error for future in futures if (error := future.exception()) is not None), None)
        if failed is not None:
            raise failed
        return [future.result() for future in futures]


def _alone(arrived: Barrier) -> None:
    torch.set_num_threads(1)
    torch.get_num_threads()  # a thread takes its number from the process's when it first asks: now
    arrived.wait()
