"""The event loop: arrivals and ends of steps in the order of time. It knows no trace and no metric."""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from planner.sim.replica import Replica
from planner.sim.router import Router
from probe_engine.sched import Request, RequestRefused

Arrival = tuple[float, Request]


def run(
    arrivals: Iterator[Arrival],
    replicas: Sequence[Replica],
    route: Router,
    on_finish: Callable[[Request], None],
    on_refusal: Callable[[Request, RequestRefused], None],
) -> float:
    """Play ``arrivals`` (sorted by time) until every replica is idle; the time of the last event, seconds.

    A request that arrives as a step ends is there for the next one, as in the engine; requests that arrive together
    go into one step together. ``on_refusal`` is told of requests that the scheduler would never serve.
    """
    ends: list[tuple[float, int]] = []
    upcoming = next(arrivals, None)
    number = 0
    now = 0.0
    touched: list[int] = []
    while upcoming is not None or ends:
        if upcoming is not None and (not ends or upcoming[0] <= ends[0][0]):
            now, request = upcoming
            index = route(replicas, number)
            number += 1
            upcoming = next(arrivals, None)
            try:
                replicas[index].scheduler.add(request)
                touched.append(index)
            except RequestRefused as refusal:
                on_refusal(request, refusal)
            if upcoming is not None and upcoming[0] == now:
                continue
            for index in touched:
                _begin(replicas, index, ends, now)
            touched.clear()
        else:
            now, index = heappop(ends)
            for request in replicas[index].end(now):
                on_finish(request)
            _begin(replicas, index, ends, now)
    return now


def _begin(replicas: Sequence[Replica], index: int, ends: list[tuple[float, int]], now: float) -> None:
    if replicas[index].output is None:
        end = replicas[index].begin(now)
        if end is not None:
            heappush(ends, (end, index))
