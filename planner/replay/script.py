"""What is to be sent next: requests written out ahead of their time, so many at most, and turns that answers bring."""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from math import inf

from planner.replay.exchange import Exchange, Planned

ROOM_BYTES = 128 << 20
"""Bodies that may lie ready: a trace that has no more of them is written out before it begins."""

Follow = Callable[[Exchange], Iterable[Planned | Exchange]]


class Script:
    """Requests in the order in which they are due.

    ``requests`` are in that order, and are taken as there is room. ``follow`` gives what an answer makes due: requests,
    or exchanges that are over already because they can never be asked.
    """

    def __init__(
        self, requests: Iterable[Planned], follow: Follow = lambda _: (), room_bytes: int = ROOM_BYTES
    ) -> None:
        self._requests: Iterator[Planned] | None = iter(requests)
        self._follow = follow
        self._room_bytes = room_bytes
        self._ready: deque[Planned] = deque()
        self._ready_bytes = 0
        self._turns: list[tuple[float, int, Planned]] = []

    def write_on(self) -> bool:
        """Write out one more request; False when there is no room, or nothing left to write."""
        if self._requests is None or self._ready_bytes >= self._room_bytes:
            return False
        planned = next(self._requests, None)
        if planned is None:
            self._requests = None
            return False
        self._ready.append(planned)
        self._ready_bytes += len(planned.body)
        return True

    def due_s(self) -> float | None:
        """When the next request is due; None when there is none, until an answer brings one."""
        if not self._ready:
            self.write_on()
        due_s = min(self._ready[0].due_s if self._ready else inf, self._turns[0][0] if self._turns else inf)
        return None if due_s == inf else due_s

    def take(self) -> Planned:
        """The request that is due next."""
        if self._turns and (not self._ready or self._turns[0][0] < self._ready[0].due_s):
            return heapq.heappop(self._turns)[2]
        planned = self._ready.popleft()
        self._ready_bytes -= len(planned.body)
        return planned

    def answered(self, exchange: Exchange) -> list[Exchange]:
        """Take up what an answer makes due; gives back what is over with it."""
        over = []
        for one in self._follow(exchange):
            if isinstance(one, Exchange):
                over.append(one)
            else:
                heapq.heappush(self._turns, (one.due_s, one.row_id, one))
        return over
