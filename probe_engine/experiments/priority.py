"""``priority``: what urgent requests gain from classes, what the others pay, and what ageing gives back to them."""

import random
from dataclasses import replace

from probe_engine.experiments.drive import Outcome, drive, mean, quantile
from probe_engine.experiments.figure import Bars
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Cell, Claim, Report
from probe_engine.experiments.steps import StepCost
from probe_engine.experiments.trace import TraceRequest, paced
from probe_engine.sched import Request, SchedulerConfig

MAX_MODEL_LEN = 4096
BATCH = 16
URGENT, PATIENT = 0, 9
URGENT_SHARE = 0.2
OVERLOAD = 1.3  # times what the engine serves: a queue stands nearly all the time
BASE = SchedulerConfig(
    num_blocks=BATCH * MAX_MODEL_LEN // 16, max_model_len=MAX_MODEL_LEN, max_num_seqs=BATCH, prefix_cache=False
)


def run(options: Options) -> Report:
    """First come first served, strict classes, and classes with ageing, on the same overload."""
    trace = options.taken(MAX_MODEL_LEN, 2000, 800)
    rng = random.Random(options.seed)
    classes = [URGENT if rng.random() < URGENT_SHARE else PATIENT for _ in trace]
    options.tell(f"priority: {len(trace)} requests, {classes.count(URGENT)} of them urgent")
    cost = options.cost()
    served, ageing_s = serve(trace, classes, cost)
    rows = [row(name, outcome) for name, outcome in served.items()]
    first, strict, _ = served.values()
    urgent = [quantile(ttfts(one, URGENT), 0.95) for one in served.values()]
    late = [mean(ttfts(one, PATIENT)) for one in served.values()]
    longest = tuple(max(ttfts(one, PATIENT)) for one in served.values())
    return Report(
        name="priority",
        title="Priority classes and ageing",
        question=(
            "Under overload, how much sooner do urgent requests get their first token when they may pass the others, "
            "and how long can the others be kept waiting?"
        ),
        answer=(
            f"p95 time to first token of urgent requests: {urgent[0]:.2f} s in order of arrival, {urgent[1]:.2f} s "
            f"with strict classes, {urgent[2]:.2f} s with ageing."
        ),
        setup={
            **options.setup(),
            "requests": len(trace),
            "urgent": f"{URGENT_SHARE:.0%} of requests, drawn with the seed (class {URGENT}; the others {PATIENT})",
            "load": f"{OVERLOAD:.0%} of what the engine serves",
            "running at once": BATCH,
            "step times": cost.source,
            "error of the step times": None if cost.error_ratio is None else f"{cost.error_ratio:.0%}",
            "ageing": f"{ageing_s:.2f} s of waiting make up for one class",
        },
        rows=rows,
        figures=(
            Bars(
                "Time to first token (s)",
                tuple(served),
                (("urgent, p95", tuple(urgent)), ("patient, mean", tuple(late))),
                "s",
            ),
            Bars("Longest wait of a patient request (s)", tuple(served), (("", longest),), "s"),
        ),
        claims=(
            Claim(
                "p95 TTFT of urgent requests, order of arrival against strict classes",
                "high-priority requests up to 1.5 times faster, tails by an order of magnitude",
                "Sun et al., OSDI 2024 (Llumnix)",
                urgent[0] / urgent[1],
                "times",
                "Llumnix moves running requests between replicas; here one replica reorders its queue, and the queue "
                "stands all the time, so who passes it gains nearly all of the wait.",
            ),
            Claim(
                "Throughput, strict classes against order of arrival",
                "unchanged",
                "conservation: order moves waiting about, it makes none and saves none",
                strict.tokens_per_s / first.tokens_per_s,
                "times",
                "the same tokens are computed in another order.",
            ),
        ),
        notes=(
            "A request is never passed by one that came more than (difference in class) times the ageing later; with "
            "strict classes a patient request waits until no urgent one does.",
            "The scheduler is the engine's; each step takes what the engine's steps were measured to take, by a linear "
            "fit, so that the three orders differ by nothing else.",
        ),
        holds=urgent[1] <= urgent[2] < urgent[0] and late[1] >= late[2],
    )


def serve(trace: tuple[TraceRequest, ...], classes: list[int], cost: StepCost) -> tuple[dict[str, Outcome], float]:
    """Each policy's outcome, and the ageing (s) that one had: a tenth of what the backlog takes, over the classes."""

    def shape(at: int, request: Request) -> None:
        request.priority = classes[at]

    capacity_s = drive(BASE, paced(trace, 0), cost).makespan_s
    rhythm = paced(trace, OVERLOAD * (trace[-1].arrival_s or 1.0) / capacity_s)
    ageing_s = max(1e-6, 0.1 * capacity_s / (PATIENT - URGENT))
    policies = {
        "order of arrival": BASE,
        "strict classes": replace(BASE, policy="priority", priority_ageing_s=1e9),
        "classes with ageing": replace(BASE, policy="priority", priority_ageing_s=ageing_s),
    }
    return {name: drive(config, rhythm, cost, shape=shape) for name, config in policies.items()}, ageing_s


def ttfts(outcome: Outcome, priority: int) -> list[float]:
    """Times to first token (s) of one class."""
    mine = (request.timeline.ttft_s for request in outcome.requests if request.priority == priority)
    return [ttft_s for ttft_s in mine if ttft_s is not None]


def row(name: str, outcome: Outcome) -> dict[str, Cell]:
    """A policy as a row."""
    urgent, patient = ttfts(outcome, URGENT), ttfts(outcome, PATIENT)
    return {
        "policy": name,
        "urgent TTFT p50 s": quantile(urgent, 0.5),
        "urgent TTFT p95 s": quantile(urgent, 0.95),
        "patient TTFT p50 s": quantile(patient, 0.5),
        "patient TTFT mean s": mean(patient),
        "patient TTFT p95 s": quantile(patient, 0.95),
        "patient longest s": max(patient, default=float("nan")),
        "tokens/s": outcome.tokens_per_s,
    }
