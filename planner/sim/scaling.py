"""Autoscalers in the simulation: what a policy sees at each tick, what it wants, and how late the fleet follows.

A policy is a function of a ``View`` of the fleet; ``scaler`` turns one into a script for ``play``. Metrics reach the
policy ``lag_s`` late, replicas serve ``cold_start_s`` after they are asked for and are billed from then on, and a fleet
shrinks only when fewer were wanted for ``cool_down_s`` on end.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil

from planner.errors import CapacityError
from planner.sim.clock import Clock
from planner.sim.pace import to_s, to_ticks
from planner.sim.simulate import Script, Stage

WINDOW = 8


@dataclass(frozen=True, slots=True)
class View:
    """What a policy knows: means over the last interval, ``lag_s`` ago.

    ``busy_ratio`` is the share of time in steps, ``kv_ratio`` of KV blocks in use, ``running``/``waiting`` requests of
    the fleet, ``ttft_s`` the mean of first tokens of requests that ended since, ``rate_per_s`` arrivals.
    """

    at_s: float
    replicas: int
    busy_ratio: float
    kv_ratio: float
    running: int
    waiting: int
    ttft_s: float
    rate_per_s: float
    recent_per_s: tuple[float, ...]


Policy = Callable[[View], int]


@dataclass(frozen=True, slots=True)
class Delays:
    """How slow scaling is, seconds, and the bounds of the fleet."""

    interval_s: float = 15.0
    lag_s: float = 15.0
    cold_start_s: float = 120.0
    cool_down_s: float = 300.0
    least: int = 1
    most: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise CapacityError(f"a fleet of {self.least} to {self.most} replicas: must be 1 or more, and rising")
        if self.interval_s <= 0 or min(self.lag_s, self.cold_start_s, self.cool_down_s) < 0:
            raise CapacityError("an autoscaler's interval must be above 0 s, its other delays at least 0 s")


@dataclass(slots=True)
class Record:
    """What a scaler did: (seconds, replicas wanted) at each change, and how often it turned round."""

    wanted: list[tuple[float, int]] = field(default_factory=list)
    flaps: int = 0


def scaler(policy: Policy, delays: Delays, until_s: float, record: Record) -> Script:
    """A script for ``play`` that scales by ``policy`` until ``until_s``, noting in ``record`` what it did."""

    def script(clock: Clock, stage: Stage) -> None:
        _Scaler(policy, delays, until_s, record, stage).start(clock)

    return script


class _Scaler:
    def __init__(self, policy: Policy, delays: Delays, until_s: float, record: Record, stage: Stage) -> None:
        self._policy, self._delays, self._until_s, self._record, self._stage = policy, delays, until_s, record, stage
        self._views: deque[View] = deque()
        self._rates: deque[float] = deque(maxlen=WINDOW)
        self._busy: dict[int, int] = {}
        self._arrived = 0
        self._firsts: list[float] = []
        self._coming = 0
        self._below_since_s: float | None = None
        self._below_most = 0
        self._last_change = 0
        stage.on_first_token = lambda row, first_s: self._firsts.append(first_s - float(stage.due_s[row]))

    def start(self, clock: Clock) -> None:
        self._record.wanted.append((0.0, len(clock.serving)))
        clock.at(to_ticks(self._delays.interval_s), self._tick)

    def _tick(self, clock: Clock) -> None:
        now_s, delays = to_s(clock.now), self._delays
        self._views.append(self._look(clock, now_s))
        while len(self._views) > 1 and self._views[1].at_s <= now_s - delays.lag_s:
            self._views.popleft()
        if self._views[0].at_s <= now_s - delays.lag_s:
            wanted = min(max(self._policy(self._views[0]), delays.least), delays.most)
            self._follow(clock, wanted, now_s)
        if now_s + delays.interval_s <= self._until_s:
            clock.at(clock.now + to_ticks(delays.interval_s), self._tick)

    def _look(self, clock: Clock, now_s: float) -> View:
        serving, interval = clock.serving, self._delays.interval_s
        for replica in serving:
            replica.catch_up(clock.now)
        busy = sum(r.log.busy_ticks - self._busy.get(r.index, 0) for r in serving)
        self._busy = {r.index: r.log.busy_ticks for r in serving}
        self._rates.append((clock.submitted - self._arrived) / interval)
        self._arrived = clock.submitted
        firsts, self._firsts = self._firsts, []
        count = max(len(serving), 1)
        return View(
            at_s=now_s,
            replicas=count + self._coming,
            busy_ratio=min(to_s(busy) / (interval * count), 1.0),
            kv_ratio=sum(r.scheduler.kv_usage for r in serving) / count,
            running=sum(r.scheduler.num_running for r in serving),
            waiting=sum(r.scheduler.num_waiting for r in serving),
            ttft_s=sum(firsts) / len(firsts) if firsts else 0.0,
            rate_per_s=self._rates[-1],
            recent_per_s=tuple(self._rates),
        )

    def _follow(self, clock: Clock, wanted: int, now_s: float) -> None:
        have = len(clock.serving) + self._coming
        if wanted >= have:
            self._below_since_s = None
        if wanted > have:
            for _ in range(wanted - have):
                self._coming += 1
                clock.at(clock.now + to_ticks(self._delays.cold_start_s), self._arrive)
            self._note(now_s, wanted, 1)
        elif wanted < have:
            if self._below_since_s is None:
                self._below_since_s, self._below_most = now_s, wanted
            self._below_most = max(self._below_most, wanted)
            if now_s - self._below_since_s >= self._delays.cool_down_s:
                spare = min(have - self._below_most, len(clock.serving) - 1)
                for replica in sorted(clock.serving, key=lambda r: (r.load, -r.index))[:spare]:
                    clock.drain(replica)
                self._below_since_s = None
                self._note(now_s, have - spare, -1)

    def _arrive(self, clock: Clock) -> None:
        self._coming -= 1
        clock.join(self._stage.new_replica())

    def _note(self, now_s: float, wanted: int, direction: int) -> None:
        self._record.wanted.append((now_s, wanted))
        if self._last_change and direction != self._last_change:
            self._record.flaps += 1
        self._last_change = direction


def proportional(ratio: float, replicas: int, tolerance: float = 0.1) -> int:
    """Kubernetes's HPA: replicas times observed over target, unchanged within a tenth of the target."""
    return replicas if abs(ratio - 1) <= tolerance else max(ceil(replicas * ratio - 1e-9), 1)
