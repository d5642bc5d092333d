"""Serve a trace with several replicas behind a router, on one driven clock."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import count

from probe_engine.experiments.steps import StepCost
from probe_engine.experiments.trace import PREFIX_BLOCK_TOKENS, TraceRequest
from probe_engine.gateway.ring import hash64
from probe_engine.gateway.router import Candidate, Router
from probe_engine.sched import Request, Scheduler, SchedulerConfig, SchedulerOutput


@dataclass(frozen=True, slots=True)
class FleetOutcome:
    """requests: all ended. placed: how many each replica got. prompt_tokens, cached_tokens: of all; cached were found
    in the replica's prefix cache. prefill_tokens: computed by each replica.
    """

    requests: list[Request]
    placed: list[int]
    prompt_tokens: int
    cached_tokens: int
    prefill_tokens: list[int]
    makespan_s: float

    @property
    def hit_ratio(self) -> float:
        """Prompt tokens found in a cache."""
        return self.cached_tokens / self.prompt_tokens

    @property
    def unevenness(self) -> float:
        """Prompt tokens computed by the busiest replica, against the mean."""
        return max(self.prefill_tokens) * len(self.prefill_tokens) / sum(self.prefill_tokens)

    @property
    def ttft_s(self) -> list[float]:
        """Time to first token of each request."""
        return [ttft_s for one in self.requests if (ttft_s := one.timeline.ttft_s) is not None]


class _Replica:
    def __init__(self, name: str, config: SchedulerConfig, cost: StepCost) -> None:
        self.name = name
        self.scheduler = Scheduler(config)
        self.placed = 0
        self.prefill_tokens = 0
        self.step: SchedulerOutput | None = None
        self._cost = cost

    def begin(self, now_s: float) -> float | None:
        """Start the next step, if there is one; when it ends."""
        self.step = self.scheduler.schedule(now_s)
        if self.step is None:
            return None
        self.prefill_tokens += self.step.stats.prefill_tokens
        return now_s + self._cost.seconds(self.step.stats)

    def complete(self, now_s: float) -> None:
        """The step that runs has ended."""
        if self.step is not None:
            self.scheduler.update(self.step, {}, now_s)


def drive_fleet(
    trace: Sequence[TraceRequest],
    replicas: int,
    router: Router,
    config: SchedulerConfig,
    cost: StepCost,
    prefix_blocks: int,
) -> FleetOutcome:
    """Serve ``trace`` (in the order of arrival) to the end.

    config: of each replica, in blocks of ``PREFIX_BLOCK_TOKENS``. prefix_blocks: how many of the prompt's blocks are
    hashed for the router; what a gateway does with the first characters of a prompt.
    """
    fleet = {f"replica-{at}": _Replica(f"replica-{at}", config, cost) for at in range(replicas)}
    requests: list[Request] = []
    ends: list[tuple[float, int, _Replica]] = []
    numbers = count()
    now_s = 0.0

    def begin(replica: _Replica) -> None:
        end_s = replica.begin(now_s)
        if end_s is not None:
            heappush(ends, (end_s, next(numbers), replica))

    def complete_until(until_s: float) -> None:
        nonlocal now_s
        while ends and ends[0][0] <= until_s:
            now_s, _, replica = heappop(ends)
            replica.complete(now_s)
            begin(replica)

    for at, row in enumerate(trace):
        complete_until(row.arrival_s)
        now_s = row.arrival_s
        loads = [
            Candidate(one.name, load=one.scheduler.num_running + one.scheduler.num_waiting) for one in fleet.values()
        ]
        chosen = fleet[router.choose(loads, hash64(",".join(map(str, row.prefix[:prefix_blocks]))))]
        whole = row.prompt_tokens // PREFIX_BLOCK_TOKENS
        request = Request(f"r{at}", row.prompt_tokens, row.output_tokens, now_s, list(row.prefix[:whole]))
        chosen.scheduler.add(request)
        chosen.placed += 1
        requests.append(request)
        if chosen.step is None:
            begin(chosen)
    complete_until(float("inf"))
    return FleetOutcome(
        requests,
        [one.placed for one in fleet.values()],
        sum(one.prompt_tokens for one in requests),
        sum(one.cached_tokens for one in requests),
        [one.prefill_tokens for one in fleet.values()],
        now_s,
    )
