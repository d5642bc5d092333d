"""Autoscaling policies side by side on one trace: what each costs and how it keeps the promise."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from types import MappingProxyType

import numpy as np

from planner.errors import CapacityError
from planner.room.growth import with_replicas
from planner.room.verdict import met
from planner.sim import Played, Twin, play
from planner.sim.scaling import Delays, Policy, Record, View, proportional, scaler
from planner.slo import Slo
from planner.traces.trace import Trace

UTILISATION_TARGET = 0.7
KV_TARGET = 0.7
WAITING_TARGET = 2.0
LOAD_TARGET_RATIO = 0.8
ORACLE_STEP_S = 60.0
STARTS_S: Mapping[str, float] = MappingProxyType({"vm": 300.0, "container": 120.0, "serverless": 30.0, "warm": 10.0})
"""Seconds from asking for a replica until it serves: a machine that boots, pulls an image and loads weights; a
container on a node that is there; a function whose image and weights are cached; a replica that stands by. Rounded
figures to begin with: ``loadline engine bench`` and ``loadline_model_load_seconds`` tell one's own."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy on one trace. ``violation_s`` is the time in minutes of which the goodput promised was missed."""

    policy: str
    replica_hours: float
    cost_usd: float
    goodput_ratio: float
    ttft_p95_s: float | None
    violation_s: float
    most_replicas: int
    changes: int
    flaps: int


@dataclass(frozen=True, slots=True)
class Question:
    """What the policies are compared on. ``per_replica_per_s`` is what one replica carries under the promise."""

    trace: Trace
    twin: Twin
    slo: Slo
    per_replica_per_s: float
    delays: Delays
    usd_per_replica_hour: float = 0.0
    seed: int = 0


def policies(question: Question) -> dict[str, Policy]:
    """The policies by name; each is a function of what it sees, so a trace is played the same for all."""
    slo, seats = question.slo, question.twin.scheduler.max_num_seqs
    peak = _needed(question, _peak_per_s(question.trace))
    steady = _needed(question, len(question.trace) / max(question.trace.duration_s, 1.0))

    def by_load(view: View) -> int:
        return _needed(question, view.rate_per_s)

    def predictive(view: View) -> int:
        rates = np.array(view.recent_per_s)
        slope = float(np.polyfit(np.arange(len(rates)), rates, 1)[0]) if len(rates) > 2 else 0.0
        ahead = (question.delays.cold_start_s + question.delays.lag_s) / question.delays.interval_s
        spread = 1.645 * float(rates.std()) if len(rates) > 2 else 0.0
        return _needed(question, max(float(rates.mean()) + max(slope, 0.0) * ahead + spread, 0.0))

    def keda(view: View) -> int:
        waiting = ceil(view.waiting / WAITING_TARGET) if view.waiting else 0
        running = ceil(view.running / (seats * UTILISATION_TARGET))
        return max(waiting, running, 1)

    oracle = _oracle(question)
    return {
        "static for the peak": lambda view: peak,
        "static for the mean": lambda view: steady,
        "HPA on utilisation": lambda view: proportional(view.busy_ratio / UTILISATION_TARGET, view.replicas),
        "HPA on KV use": lambda view: proportional(view.kv_ratio / KV_TARGET, view.replicas),
        "HPA on queue": lambda view: proportional(
            max(view.waiting / view.replicas / WAITING_TARGET, view.running / view.replicas / seats), view.replicas
        ),
        "HPA on TTFT": lambda view: proportional(min(view.ttft_s / (slo.ttft_p95_s / 2), 2.0), view.replicas),
        "KEDA on requests": keda,
        "by arrival rate": by_load,
        "predictive": predictive,
        "oracle": oracle,
    }


def compare(question: Question, note: Callable[[str], None] | None = None) -> tuple[Outcome, ...]:
    """Play the trace once per policy. Same question, same answer."""
    if len(question.trace) < 100:
        raise CapacityError(f"{len(question.trace)} requests are too few to compare policies on: at least 100")
    found = []
    for name, policy in policies(question).items():
        outcome = _play(question, name, policy)
        found.append(outcome)
        if note is not None:
            note(f"{name}: {outcome.replica_hours:.3g} replica-hours, {outcome.goodput_ratio:.1%} in the promise")
    return tuple(found)


def best(outcomes: Sequence[Outcome], slo: Slo) -> Outcome:
    """The cheapest policy that keeps the promised goodput; where none does, the one that comes closest."""
    real = [one for one in outcomes if one.policy != "oracle"]
    keeping = [one for one in real if one.goodput_ratio >= slo.goodput_ratio]
    if keeping:
        return min(keeping, key=lambda one: (one.replica_hours, one.policy))
    return max(real, key=lambda one: (one.goodput_ratio, one.policy))


def start_s(name: str) -> float:
    """Cold start of a way to run replicas. Raises CapacityError."""
    if name not in STARTS_S:
        raise CapacityError(f"start {name!r}: must be one of {', '.join(STARTS_S)}")
    return STARTS_S[name]


def other_starts(question: Question, policy: str) -> dict[str, Outcome]:
    """The same policy with each way to run replicas, by name. Raises CapacityError for an unknown policy."""
    if policy not in policies(question):
        raise CapacityError(f"policy {policy!r}: must be one of {', '.join(policies(question))}")
    found = {}
    for name, seconds in STARTS_S.items():
        other = replace(question, delays=replace(question.delays, cold_start_s=seconds))
        found[name] = _play(other, policy, policies(other)[policy])
    return found


def _play(question: Question, name: str, policy: Policy) -> Outcome:
    delays, trace = question.delays, question.trace
    first = View(0.0, 1, 0.0, 0.0, 0, 0, 0.0, _first_rate(trace), (_first_rate(trace),))
    static = name.startswith("static")
    start = policy(first) if static or name == "oracle" else _needed(question, _first_rate(trace))
    start = min(max(start, delays.least), delays.most)
    record = Record()
    instant = Delays(delays.interval_s, 0.0, 0.0, 0.0, delays.least, delays.most)
    script = scaler(policy, instant if name == "oracle" else delays, trace.duration_s, record)
    played = play(trace, with_replicas(question.twin, start), seed=question.seed, script=None if static else script)
    return _outcome(question, name, played, record)


def _outcome(question: Question, name: str, played: Played, record: Record) -> Outcome:
    good = met(played, question.trace.output_tokens, question.slo)
    hours = float(played.alive_s.sum()) / 3600
    ttft = np.where(np.isnan(played.first_token_s), np.inf, played.first_token_s - played.due_s)
    p95 = float(np.quantile(ttft, 0.95, method="higher"))
    minute = (played.due_s // 60).astype(np.int64)
    counts = np.bincount(minute)
    kept = np.bincount(minute, weights=good)
    missed = (counts > 0) & (kept < question.slo.goodput_ratio * counts)
    return Outcome(
        policy=name,
        replica_hours=hours,
        cost_usd=hours * question.usd_per_replica_hour,
        goodput_ratio=float(good.mean()),
        ttft_p95_s=p95 if np.isfinite(p95) else None,
        violation_s=float(missed.sum()) * 60.0,
        most_replicas=max((count for _, count in record.wanted), default=len(played.alive_s)),
        changes=max(len(record.wanted) - 1, 0),
        flaps=record.flaps,
    )


def _needed(question: Question, per_s: float) -> int:
    return max(ceil(per_s / (question.per_replica_per_s * LOAD_TARGET_RATIO)), 1)


def _oracle(question: Question) -> Policy:
    """Knows the arrivals of the coming minute and has no delays: a lower bound for the cost of keeping up."""
    arrival_s = question.trace.arrival_ns / 1e9

    def policy(view: View) -> int:
        begin, end = np.searchsorted(arrival_s, [view.at_s, view.at_s + ORACLE_STEP_S])
        return _needed(question, int(end - begin) / ORACLE_STEP_S)

    return policy


def _peak_per_s(trace: Trace) -> float:
    minutes = (trace.arrival_ns // (60 * 10**9)).astype(np.int64)
    return float(np.bincount(minutes - minutes[0]).max()) / 60.0


def _first_rate(trace: Trace) -> float:
    span = min(max(trace.duration_s, 1.0), 60.0)
    return float(np.searchsorted(trace.arrival_ns, trace.arrival_ns[0] + span * 1e9)) / span
