"""Serve a trace with a scheduler and steps, on a clock that only steps and waiting move.

So an idle hour takes no time, and a step takes exactly what it was measured to take: arrivals are the trace's, the
scheduler and (with ``EngineSteps``) the computing are the engine's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from probe_engine.experiments.steps import Steps
from probe_engine.experiments.trace import TraceRequest
from probe_engine.sched import Request, Scheduler, SchedulerConfig, SchedulerOutput

Shape = Callable[[int, Request], None]


@dataclass(slots=True)
class Memory:
    """Where the KV blocks' tokens were, summed over time (token seconds) from the first finished request on, while
    others waited: neither filling up nor running empty is in it.

    held: keys and values that are there. reserved: not yet, but the request will fill them. wasted: allocated, and
    never filled. free: not allocated.
    """

    held: float = 0.0
    reserved: float = 0.0
    wasted: float = 0.0
    free: float = 0.0

    def shares(self) -> dict[str, float]:
        """Each as a share of all of the memory; all 0 where nobody ever waited."""
        total = self.held + self.reserved + self.wasted + self.free
        parts = {"held": self.held, "reserved": self.reserved, "wasted": self.wasted, "free": self.free}
        return {name: part / total if total else 0.0 for name, part in parts.items()}


@dataclass(slots=True)
class Outcome:
    """What serving a trace came to. Times are seconds on the driven clock.

    requests: in the order of arrival, all ended. busy_s: time in steps. decodes: tokens that decode steps gave.
    gaps_s: every gap between tokens, where they were recorded.
    """

    requests: list[Request]
    makespan_s: float = 0.0
    busy_s: float = 0.0
    steps: int = 0
    decode_steps: int = 0
    decodes: int = 0
    most_running: int = 0
    preemptions: int = 0
    prefix_share: float = 0.0
    memory: Memory = field(default_factory=Memory)

    @property
    def output_tokens(self) -> int:
        """Tokens that all requests got."""
        return sum(request.output_tokens for request in self.requests)

    @property
    def tokens_per_s(self) -> float:
        """Output tokens a second."""
        return self.output_tokens / self.makespan_s

    @property
    def mean_batch(self) -> float:
        """Decodes in a step that had any."""
        return self.decodes / self.decode_steps if self.decode_steps else 0.0

    @property
    def ttft_s(self) -> list[float]:
        """Of each request."""
        return [ttft for request in self.requests if (ttft := request.timeline.ttft_s) is not None]

    @property
    def e2e_s(self) -> list[float]:
        """Of each request."""
        return [e2e for request in self.requests if (e2e := request.timeline.e2e_s) is not None]

    @property
    def per_token_s(self) -> list[float]:
        """End-to-end latency per output token of each request: the normalised latency of Orca's and vLLM's papers."""
        pairs = [(request.timeline.e2e_s, request.output_tokens) for request in self.requests]
        return [e2e_s / tokens for e2e_s, tokens in pairs if e2e_s is not None and tokens]

    @property
    def gaps_s(self) -> list[float]:
        """Between one token and the next, of all requests that recorded them."""
        return [gap for request in self.requests for gap in request.timeline.gaps_s]


def drive(
    config: SchedulerConfig,
    trace: Sequence[TraceRequest],
    steps: Steps,
    *,
    shape: Shape | None = None,
    watch_memory: bool = False,
) -> Outcome:
    """Serve ``trace`` (in the order of arrival) to the end.

    shape: may change each request (class, tenant, recorded times) before it is queued. watch_memory: fill ``memory``,
    which costs time in proportion to the running requests.
    """
    scheduler = Scheduler(config)
    requests = [Request(f"r{at}", row.prompt_tokens, row.output_tokens, row.arrival_s) for at, row in enumerate(trace)]
    if shape is not None:
        for at, request in enumerate(requests):
            shape(at, request)
    outcome = Outcome(requests)
    arriving, now_s, ended_any = 0, 0.0, False
    while True:
        while arriving < len(requests) and requests[arriving].arrival_s <= now_s:
            steps.begin(requests[arriving])
            scheduler.add(requests[arriving])
            arriving += 1
        output = scheduler.schedule(now_s)
        if output is None:
            soonest = [when for when in (scheduler.wake_s(),) if when is not None]
            soonest += [requests[arriving].arrival_s] if arriving < len(requests) else []
            if not soonest:
                break
            now_s = max(now_s, min(soonest))
            continue
        took_s = steps.execute(output)
        if watch_memory and scheduler.num_waiting and ended_any:
            _weigh(scheduler, outcome.memory, took_s)
        now_s += took_s
        _count(outcome, output, scheduler, took_s)
        for ended in scheduler.update(output, {}, now_s):
            ended_any = True
            steps.end(ended)
    outcome.makespan_s = now_s - requests[0].arrival_s
    outcome.preemptions = scheduler.preemptions
    asked = scheduler.prefix_queries_tokens
    outcome.prefix_share = scheduler.prefix_hits_tokens / asked if asked else 0.0
    return outcome


def _count(outcome: Outcome, output: SchedulerOutput, scheduler: Scheduler, took_s: float) -> None:
    outcome.steps += 1
    outcome.busy_s += took_s
    outcome.decode_steps += bool(output.stats.decode_seqs)
    outcome.decodes += output.stats.decode_seqs
    outcome.most_running = max(outcome.most_running, scheduler.num_running)


def _weigh(scheduler: Scheduler, memory: Memory, took_s: float) -> None:
    """Add up where the blocks' tokens are while the step runs."""
    size = scheduler.config.block_size
    held = reserved = allocated = 0
    for request in scheduler.requests:
        room = len(request.block_table) * size
        there = request.computed_tokens if room else 0
        last = request.prompt_tokens + request.max_tokens - 1  # the last token's keys are never needed
        held += there
        reserved += max(0, min(room, last) - there)
        allocated += room
    memory.held += held * took_s
    memory.reserved += reserved * took_s
    memory.wasted += (allocated - held - reserved) * took_s
    memory.free += (scheduler.num_blocks * size - allocated) * took_s


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed; NaN where there is none."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)] if ordered else float("nan")


def mean(values: Sequence[float]) -> float:
    """The mean; NaN where there is none."""
    return sum(values) / len(values) if values else float("nan")
