"""The event loop: arrivals, ends of steps and timers in the order of time. It knows no trace and no metric.

At one tick, arrivals come first, then timers, then ends of steps: a request that arrives as a step ends is there for
the next one, as in the engine; requests that arrive together go into one step together.
"""

from collections.abc import Callable, Iterator, Sequence
from heapq import heappop, heappush

from planner.sim.gateway import Gateway
from planner.sim.pace import to_s, to_ticks
from planner.sim.replica import Replica
from planner.sim.router import Router
from probe_engine.gateway.errors import Refused
from probe_engine.sched import Request, RequestRefused, SchedulerOutput

Arrival = tuple[int, Request]
Action = Callable[["Clock"], None]
_NEVER = 1 << 200


class Clock:
    """Replicas behind a router on one clock of ticks.

    ``serving`` are the replicas that the router may choose from; ``submitted`` counts the requests given to them. While
    there are none, requests wait for the first to come. ``on_refusal`` is told of requests that the scheduler would
    never serve or that ``gateway``, where there is one, turns away; ``on_drop`` of those whose deadline passed while
    they waited. A gateway routes in place of ``route``.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        route: Router,
        on_finish: Callable[[Request], None],
        on_refusal: Callable[[Request, Exception], None],
        on_drop: Callable[[Request], None] | None = None,
        gateway: Gateway | None = None,
    ) -> None:
        self.now = 0
        self.replicas: list[Replica] = []
        self.serving: list[Replica] = []
        self._route = route
        self._on_finish = on_finish
        self._on_refusal = on_refusal
        self._on_drop = on_drop
        self._gateway = gateway
        self._ends: list[tuple[int, int]] = []
        self._timers: list[tuple[int, int, Action]] = []
        self.submitted = 0
        self._made = 0
        self._touched: list[Replica] = []
        self._held: list[Request] = []
        for replica in replicas:
            self.join(replica)

    def at(self, tick: int, action: Action) -> None:
        """Do ``action`` at ``tick``; one that lies in the past is done at once."""
        self._made += 1
        heappush(self._timers, (max(tick, self.now), self._made, action))

    def join(self, replica: Replica) -> None:
        """A replica serves from now on."""
        replica.index = len(self.replicas)
        replica.started = self.now
        self.replicas.append(replica)
        self.serving.append(replica)
        held, self._held = self._held, []
        for request in held:
            self.submit(request)

    def drain(self, replica: Replica) -> None:
        """A replica takes no more requests, ends those it has, and stops."""
        self.serving.remove(replica)
        if not replica.load:
            replica.stopped = self.now

    def kill(self, replica: Replica) -> tuple[Request, ...]:
        """A replica is gone at once, the step under way with it; the requests that it had."""
        if replica in self.serving:
            self.serving.remove(replica)
        replica.due = None
        replica.stopped = self.now
        lost = replica.scheduler.requests
        replica.load = 0
        if self._gateway is not None:
            for request in lost:
                self._gateway.lost(request, to_s(self.now))
        return lost

    def submit(self, request: Request) -> None:
        """A request comes now."""
        if not self.serving:
            self._held.append(request)
            return
        gateway = self._gateway
        if gateway is None:
            replica = self.serving[self._route(self.serving, self.submitted)]
        else:
            try:
                replica = gateway.send(request, self.serving, to_s(self.now))
            except Refused as refusal:
                self._on_refusal(request, refusal)
                return
        self.submitted += 1
        try:
            replica.add(request)
        except RequestRefused as refusal:
            if gateway is not None:
                gateway.untold(request, to_s(self.now))
            self._on_refusal(request, refusal)
            return
        self._touched.append(replica)

    def run(self, arrivals: Iterator[Arrival]) -> int:
        """Play ``arrivals`` (sorted by tick) until every replica is idle and no timer left; the last event's tick."""
        ends, timers, replicas = self._ends, self._timers, self.replicas
        upcoming = next(arrivals, None)
        while True:
            due = upcoming[0] if upcoming is not None else _NEVER
            timer = timers[0][0] if timers else _NEVER
            end = ends[0][0] if ends else _NEVER
            if upcoming is not None and due <= end and due <= timer:
                self.now = due
                self.submit(upcoming[1])
                upcoming = next(arrivals, None)
                if upcoming is None or upcoming[0] != due:
                    self._settle()
            elif timers and timer <= end:
                self.now, _, action = heappop(timers)
                action(self)
                self._settle()
            elif ends:
                _, index = heappop(ends)
                replica = replicas[index]
                if replica.due != end:
                    continue  # this run of steps was cut short, or its replica is gone
                self.now = end
                output = replica.output
                ended = replica.end(end)
                if self._gateway is not None and output is not None:
                    _tell(self._gateway, output, ended, to_s(end))
                for request in ended:
                    self._on_finish(request)
                self._begin(replica)
            else:
                return self.now

    def _settle(self) -> None:
        """Replicas that requests came to begin a step, or end their run of steps with the one under way."""
        for replica in self._touched:
            if replica.due is None:
                self._begin(replica)
            elif (end := replica.interrupt(self.now)) is not None:
                heappush(self._ends, (end, replica.index))
        self._touched.clear()

    def _begin(self, replica: Replica) -> None:
        end = replica.begin(self.now)
        if replica.dropping:
            for request in replica.take_dropped():
                if self._gateway is not None:
                    self._gateway.untold(request, to_s(self.now))
                if self._on_drop is not None:
                    self._on_drop(request)
        if end is not None:
            heappush(self._ends, (end, replica.index))
        elif replica.load:
            self._wake(replica)
        elif replica not in self.serving and replica.stopped is None:
            replica.stopped = self.now

    def _wake(self, replica: Replica) -> None:
        """Ask again when the replica's queue says that time alone will make somebody ready."""
        due_s = replica.scheduler.wake_s()
        if due_s is None:
            return

        def ask(clock: "Clock") -> None:
            if replica.due is None and replica.stopped is None:
                clock._begin(replica)

        self.at(max(to_ticks(due_s), self.now + 1), ask)


def _tell(gateway: Gateway, output: SchedulerOutput, ended: Sequence[Request], now_s: float) -> None:
    """Let a gateway know whose first token and whose last came with a step."""
    for chunk in output.prefills:
        if chunk.samples and not chunk.request.preemptions:
            gateway.answered(chunk.request, now_s)
    for request in ended:
        gateway.ended(request, now_s)
