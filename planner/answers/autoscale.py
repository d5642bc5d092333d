"""Autoscaling policies side by side, as a report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from planner.answers.inputs import plain, step_error, trace_inputs
from planner.report import Chart, Report, Series, Table, shown
from planner.room.autoscale import STARTS_S, Outcome, Question, best
from planner.sim.simulate import versions
from planner.steps.latency import StepModel


def autoscale_report(
    question: Question, outcomes: Sequence[Outcome], model: StepModel, chosen: str, starts: Mapping[str, Outcome]
) -> Report:
    """Cost and promise of each policy; the cheapest that keeps the promise is named.

    ``starts`` are the outcomes of the policy ``chosen`` with other ways to run replicas, by name.
    """
    promised = question.slo.goodput_ratio
    oracle = next(one for one in outcomes if one.policy == "oracle")
    first = best(outcomes, question.slo)
    if first.goodput_ratio >= promised:
        regret = first.replica_hours / oracle.replica_hours - 1
        finding = (
            f"the cheapest that keeps the promise is {first.policy}: {shown(first.replica_hours)} replica-hours, "
            f"${shown(first.cost_usd)}, {first.goodput_ratio:.1%} of the requests within it; "
            f"{regret:+.0%} against an oracle without delays"
        )
    else:
        finding = (
            f"no policy keeps the promise of {promised:.1%}; {first.policy} comes closest, {first.goodput_ratio:.1%}"
        )
    columns = (
        "policy", "replica-hours", "cost $", "in the promise", "TTFT p95 s", "violation min", "most", "changes", "flaps"
    )  # fmt: skip
    rows = tuple(
        (
            one.policy, one.replica_hours, one.cost_usd, one.goodput_ratio, one.ttft_p95_s, one.violation_s / 60,
            one.most_replicas, one.changes, one.flaps,
        )
        for one in sorted(outcomes, key=lambda one: (one.replica_hours, one.policy))
    )  # fmt: skip
    series = tuple(
        Series(name=one.policy, x=(one.cost_usd,), y=(one.goodput_ratio,), style="points") for one in outcomes
    )
    return Report(
        kind="autoscale",
        title=f"Autoscaling on {question.trace.header.source}",
        findings=(finding,),
        inputs={
            **trace_inputs(question.trace),
            "slo": question.slo.model_dump(),
            "one_replica_carries_per_s": question.per_replica_per_s,
            "delays": asdict(question.delays),
            "usd_per_replica_hour": question.usd_per_replica_hour,
        },
        seed=question.seed,
        model_error=step_error(model, None),
        tables=(
            Table(title="Policies, cheapest first", columns=columns, rows=rows, note=_NOTE),
            _starts_table(chosen, starts),
        ),
        charts=(Chart(title="Cost and promise", x_title="$", y_title="share in the promise", series=series),),
        notes=tuple(model.notes),
        result={
            "outcomes": plain([asdict(one) for one in outcomes]),
            "chosen": chosen,
            "starts": plain({name: asdict(one) for name, one in starts.items()}),
        },
        versions=versions(),
    )


def _starts_table(chosen: str, starts: Mapping[str, Outcome]) -> Table:
    """What the way of running replicas does to the chosen policy."""
    rows = tuple(
        (name, STARTS_S[name], one.replica_hours, one.cost_usd, one.goodput_ratio, one.violation_s / 60, one.flaps)
        for name, one in starts.items()
    )
    return Table(
        title=f"Cold starts of {chosen}",
        columns=("replicas are", "cold start s", "replica-hours", "cost $", "in the promise", "violation min", "flaps"),
        rows=rows,
        note="Prices are taken as the same; a function's is often higher per hour, a standby's is paid while it waits.",
    )


_NOTE = (
    "A minute of violation is one in which fewer requests than promised met every latency. Replicas are billed from "
    "when they serve until they have drained. The oracle knows the coming minute and has no delays: nobody can buy it."
)
