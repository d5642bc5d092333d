"""Priority classes with ageing: urgent requests first, and yet nobody waits for ever.

A request's place is ``arrival_s + priority * ageing_s``, least first; a lower priority number is more urgent (as in
vLLM). So a class is worth ``ageing_s`` of waiting, and a request is never passed by one of a class ``d`` more urgent
that arrived more than ``d * ageing_s`` after it: only finitely many go before it, whatever the load.
"""

from probe_engine.sched.request import Request
from probe_engine.sched.request_heap import RequestHeap
from probe_engine.sched.waiting_queue import FirstCome


class PriorityQueue(FirstCome):
    """Ordered by class and age; the least urgent running request is preempted, the latest admitted among equals."""

    __slots__ = ("_ageing_s", "_heap")

    def __init__(self, ageing_s: float) -> None:
        super().__init__()
        self._ageing_s = ageing_s
        self._heap = RequestHeap()

    def add(self, request: Request) -> None:
        """To its place."""
        self._heap.push(self._place(request), request)
        self.waiting += 1

    def put_back(self, request: Request) -> None:
        """To its old place, before its equals."""
        self._heap.push(self._place(request), request, first=True)
        self.waiting += 1

    def remove(self, request: Request) -> None:
        """Wherever it is."""
        self._heap.remove(request)
        self.waiting -= 1

    def head(self, now_s: float, running: int) -> Request | None:
        """The most urgent, counting age."""
        least = self._heap.peek()
        return None if least is None else least[1]

    def take(self, request: Request) -> None:
        """Off the heap."""
        self.remove(request)

    def victim(self, running: dict[Request, None]) -> Request:
        """The least urgent, counting age; the latest admitted among equals."""
        return max(reversed(list(running)), key=self._place)

    def _place(self, request: Request) -> float:
        return request.arrival_s + request.priority * self._ageing_s
