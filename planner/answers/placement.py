"""Edge and cloud under several splits, as a report."""

from collections.abc import Sequence
from dataclasses import asdict

from planner.answers.hardware import SHEETS
from planner.answers.inputs import plain, trace_inputs
from planner.money.placement import Part, Side, Split, best
from planner.report import Cell, Chart, Report, Series, Table, shown
from planner.sim.simulate import versions
from planner.slo import Slo
from planner.traces.trace import Trace


def placement_report(
    found: Sequence[Split], edge: Side, cloud: Side, trace: Trace, slo: Slo, peak_per_s: float, seed: int
) -> Report:
    """What each split costs and how soon its first tokens come."""
    rows = tuple(
        (
            one.upto_tokens, one.edge.ratio if one.edge else None, *_cells(one.edge), *_cells(one.cloud),
            one.usd_per_month, one.reason or "",
        )
        for one in found
    )  # fmt: skip
    columns = (
        "prompts up to", "at the edge", "edge replicas", "edge TTFT p95 s", "edge GB", "cloud replicas",
        "cloud TTFT p95 s", "cloud GB", "$ a month", "cannot be, since",
    )  # fmt: skip
    able = [one for one in found if one.usd_per_month is not None]
    bills = Series(
        name="both sides",
        x=tuple(one.edge.ratio if one.edge else None for one in able),
        y=tuple(one.usd_per_month for one in able),
    )
    return Report(
        kind="placement",
        title=f"Edge and cloud for {trace.header.source}",
        findings=_words(found, edge, cloud),
        inputs={
            **trace_inputs(trace),
            "slo": slo.model_dump(),
            "peak_per_s": peak_per_s,
            "edge": _side(edge),
            "cloud": _side(cloud),
        },
        seed=seed,
        tables=(Table(title="Splits by prompt length", columns=columns, rows=rows, note=_NOTE),),
        charts=(Chart(title="Bill by split", x_title="share at the edge", y_title="$ a month", series=(bills,)),)
        if able
        else (),
        notes=(SHEETS, "the edge's model may be a smaller one: nothing is said of what its answers are worth"),
        result={"splits": [{**plain(asdict(one)), "usd_per_month": one.usd_per_month} for one in found]},
        versions=versions(),
    )


_NOTE = (
    "TTFT holds the network's round trip. Every site has its spares. GB are those to and fro in a month at the mean "
    "load; where the edge serves, they stay near the users."
)


def _cells(part: Part | None) -> tuple[Cell, Cell, Cell]:
    return (None, None, None) if part is None else (part.replicas, part.ttft_p95_s, part.gigabytes_per_month)


def _words(found: Sequence[Split], edge: Side, cloud: Side) -> tuple[str, ...]:
    chosen = best(found)
    if chosen is None or chosen.edge is None or chosen.cloud is None:
        return ("no split keeps the promise", *(one.reason or "" for one in found[:1]))
    whole = next((one.usd_per_month for one in found if one.edge is not None and one.edge.ratio == 0), None)
    against = "" if whole is None else f"; all in the cloud: ${shown(whole)}"
    at_edge = f"{chosen.edge.replicas} of {edge.offer.name} at {edge.sites} sites" if chosen.edge.replicas else "none"
    return (
        f"cheapest with {chosen.edge.ratio:.0%} of the requests at the edge (prompts up to {chosen.upto_tokens} "
        f"tokens): ${shown(chosen.usd_per_month)} a month; at the edge {at_edge}, in the cloud "
        f"{chosen.cloud.replicas} of {cloud.offer.name}{against}",
    )


def _side(side: Side) -> dict[str, object]:
    return {
        "replica": side.offer.name, "model": side.offer.fit.model, "round_trip_s": side.round_trip_s,
        "sites": side.sites, "spare": side.spare, "usd_per_gb": side.usd_per_gb,
    }  # fmt: skip
