"""Least slack first: who must start soonest to keep its TTFT deadline is next.

The deadline is the request's own, else ``ttft_slo_s`` after its arrival; slack is what is left of it now, less the time
that computing the prompt takes. Those that cannot keep it any more would, served in order, make the next ones late
too: they form a second queue, of which one goes first in every ``LATE_SHARE`` admissions. So a late request with ``k``
before it is admitted within ``LATE_SHARE * (k + 1)`` admissions: nobody starves.
"""

from collections import deque

from probe_engine.sched.request import Request
from probe_engine.sched.request_heap import RequestHeap
from probe_engine.sched.waiting_queue import FirstCome

LATE_SHARE = 4


class SlackQueue(FirstCome):
    """Preempted requests go before all; then by slack, with a share for the late.

    ttft_slo_s: what is promised to requests that bring no deadline. prefill_s_per_token: how long a prompt's token
    takes; 0 orders by deadline alone.
    """

    __slots__ = ("_heap", "_late", "_prefill_s_per_token", "_ttft_slo_s", "_turn")

    def __init__(self, ttft_slo_s: float, prefill_s_per_token: float) -> None:
        super().__init__()
        self._ttft_slo_s = ttft_slo_s
        self._prefill_s_per_token = prefill_s_per_token
        self._heap = RequestHeap()
        self._late: deque[Request] = deque()
        self._turn = 0

    def add(self, request: Request) -> None:
        """By the last moment at which it can start."""
        deadline_s = request.arrival_s + self._ttft_slo_s if request.deadline_s is None else request.deadline_s
        self._heap.push(deadline_s - request.prompt_tokens * self._prefill_s_per_token, request)
        self.waiting += 1

    def remove(self, request: Request) -> None:
        """Wherever it is."""
        if request in self._heap:
            self._heap.remove(request)
        elif request in self._late:
            self._late.remove(request)
        else:
            self._queue.remove(request)
        self.waiting -= 1

    def head(self, now_s: float, running: int) -> Request | None:
        """A preempted one, one of the late whose turn it is, or the one of least slack."""
        if self._queue:
            return self._queue[0]
        least = self._heap.peek()
        while least is not None and least[0] < now_s:
            self._heap.remove(least[1])
            self._late.append(least[1])
            least = self._heap.peek()
        if self._late and (least is None or self._turn % LATE_SHARE == LATE_SHARE - 1):
            return self._late[0]
        return None if least is None else least[1]

    def take(self, request: Request) -> None:
        """Off its queue; preempted ones take no turn."""
        if not (self._queue and self._queue[0] is request):
            self._turn += 1
        self.remove(request)
