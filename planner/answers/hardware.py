"""What fits where, and what to rent, as reports."""

from collections.abc import Sequence
from dataclasses import asdict

from planner.answers.inputs import plain, trace_inputs
from planner.catalog import Catalog, ModelSheet
from planner.money.gpu_mix import GpuMix
from planner.money.hardware import Fit
from planner.money.rent import Offer
from planner.report import Report, Table, shown
from planner.sim.simulate import versions
from planner.slo import Slo
from planner.traces.trace import Trace

MIX_REPAIRED = "a type was loaded up to {:.2f} times less than first thought, until the simulation kept the promise"
SHEETS = "step times are a roofline from data sheets, right to about a half: calibrate on the real thing before buying"


def fit_report(found: Sequence[Fit], sheet: ModelSheet, book: Catalog) -> Report:
    """Memory of each GPU of a replica, and the KV tokens that are left."""
    room = [one for one in found if one.fits]
    layout = found[0].layout
    ranks = f"{layout.data} x " if layout.data > 1 else ""
    where = f"{ranks}{layout.tensor} x {layout.pipeline} GPUs a replica, {layout.weights} weights, {layout.kv} KV"
    finding = (
        f"{sheet.name} ({where}) fits on {', '.join(one.gpu for one in room)}"
        if room
        else f"{sheet.name} ({where}) fits on none of {', '.join(one.gpu for one in found)}"
    )
    return Report(
        kind="fit",
        title=f"Memory of {sheet.name}",
        findings=(finding,),
        inputs={"model": sheet.model_dump(), "layout": asdict(layout), "catalogue_as_of": book.as_of},
        tables=(fit_table(found),),
        notes=("usable is 90% of the memory; a runtime's own 0.8 GB are taken off beside weights and activations",),
        result={"fits": plain([asdict(one) for one in found])},
        versions=versions(),
    )


def fit_table(found: Sequence[Fit]) -> Table:
    """How the memory of each GPU divides."""
    giga = 1e9
    rows = tuple(
        (
            one.gpu, one.usable_bytes / giga, one.weights_bytes / giga, one.activation_bytes / giga, one.all_kv_tokens,
            one.kv_tokens // 4096 * one.layout.data, one.fits,
        )
        for one in found
    )  # fmt: skip
    columns = ("GPU", "usable GB", "weights GB", "activations GB", "KV tokens", "requests of 4,096 tokens", "fits")
    return Table(title="Each GPU of a replica", columns=columns, rows=rows)


def mix_report(
    mix: GpuMix,
    found: Sequence[Offer],
    sheet: ModelSheet,
    book: Catalog,
    trace: Trace,
    slo: Slo,
    requests_per_s: float,
    seed: int,
) -> Report:
    """The GPUs to rent."""
    rented = {name: count for name, count in mix.counts.items() if count}
    words = ", ".join(f"{count} of {name}" for name, count in rented.items())
    rows = tuple(
        (offer.name, offer.usd_per_hour, offer.fit.kv_tokens, mix.counts[offer.name])
        for offer in found
    )  # fmt: skip
    notes = [SHEETS, f"prices are list prices as of {book.as_of} ({book.price_source}); --catalog replaces them"]
    if mix.load_factor > 1:
        notes.append(MIX_REPAIRED.format(mix.load_factor))
    return Report(
        kind="mix",
        title=f"GPUs for {sheet.name}",
        findings=(
            f"{words}: ${shown(mix.usd_per_hour)} an hour for {shown(requests_per_s)} requests/s, "
            "checked in the simulation",
        ),
        inputs={**trace_inputs(trace), "model": sheet.model_dump(), "slo": slo.model_dump(), "rate": requests_per_s},
        seed=seed,
        tables=(Table(title="Replicas", columns=("replica", "$ per hour", "KV tokens", "to rent"), rows=rows),),
        notes=tuple(notes),
        result={"counts": dict(mix.counts), "usd_per_hour": mix.usd_per_hour, "gap_ratio": mix.gap_ratio,
                "load_factor": mix.load_factor},
        versions=versions(),
    )  # fmt: skip
