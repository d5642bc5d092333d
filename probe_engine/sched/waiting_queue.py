"""Who waits, and who is next: the part of the scheduler that a policy replaces.

A queue orders and never admits: the scheduler asks for the ``head``, finds out whether its blocks can be had, and says
what became of it. ``policies.py`` has the choice.
"""

from collections import deque
from typing import Protocol

from probe_engine.sched.request import Request


class WaitingQueue(Protocol):
    """One policy's order of waiting requests. Deterministic: the same calls give the same answers.

    ``waiting`` is how many wait. ``head`` stays the same until time passes or another method is called.
    """

    waiting: int

    def add(self, request: Request) -> None:
        """``request`` arrived."""

    def put_back(self, request: Request) -> None:
        """``request`` was preempted and waits again."""

    def remove(self, request: Request) -> None:
        """``request``, which waits, has been aborted or dropped."""

    def head(self, now_s: float, running: int) -> Request | None:
        """Who is next; None when nobody may be admitted now, beside ``running`` running requests."""

    def take(self, request: Request) -> None:
        """``request``, the head, has been admitted; its ``cached_tokens`` are known."""

    def blocked(self, request: Request) -> None:
        """``request``, the head, found too few blocks."""

    def victim(self, running: dict[Request, None]) -> Request:
        """Who of ``running`` (in order of admission, not empty) gives up its blocks."""

    def started(self, request: Request) -> None:
        """``request`` has its first token of this admission and decodes from now on."""

    def ended(self, request: Request) -> None:
        """``request`` decodes no more: it finished or was preempted."""

    def wake_s(self, running: int) -> float | None:
        """When time alone will make a head of somebody; None when it will not."""


class FirstCome:
    """First come, first served; the preempted go first, the latest admitted is preempted.

    What the other policies do not change, they take from here.
    """

    __slots__ = ("_queue", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._queue: deque[Request] = deque()

    def add(self, request: Request) -> None:
        """To the end."""
        self._queue.append(request)
        self.waiting += 1

    def put_back(self, request: Request) -> None:
        """To the front."""
        self._queue.appendleft(request)
        self.waiting += 1

    def remove(self, request: Request) -> None:
        """Wherever it is."""
        self._queue.remove(request)
        self.waiting -= 1

    def head(self, now_s: float, running: int) -> Request | None:
        """The front."""
        return self._queue[0] if self._queue else None

    def take(self, request: Request) -> None:
        """Off the front."""
        self._queue.popleft()
        self.waiting -= 1

    def blocked(self, request: Request) -> None:
        """It stays the head, and holds the queue."""

    def victim(self, running: dict[Request, None]) -> Request:
        """The latest admitted."""
        return next(reversed(running))

    def started(self, request: Request) -> None:
        """Nothing to account."""

    def ended(self, request: Request) -> None:
        """Nothing to account."""

    def wake_s(self, running: int) -> float | None:
        """Never: whoever waits is the head already."""
        return None
