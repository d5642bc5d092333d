"""Patterns of use and their prices, as a report."""

from collections.abc import Sequence

from planner.answers.hardware import SHEETS
from planner.catalog import Catalog
from planner.money.patterns import Priced
from planner.report import Report, Table, shown
from planner.sim.simulate import versions
from planner.slo import Slo


def patterns_report(found: Sequence[Priced], book: Catalog, slo: Slo, seed: int) -> Report:
    """A fleet of one's own against an API for each pattern, and what stands beside the engines."""
    rows = tuple(
        (
            one.pattern.name, one.pattern.model, one.peak_per_s, one.fleet.replicas if one.fleet else None,
            one.fleet.usd_per_month if one.fleet else None, one.api.name, one.api_usd_per_month,
        )
        for one in found
    )  # fmt: skip
    sizes = tuple(
        (
            one.pattern.name, one.beside.in_bits_per_s / 1e6, one.beside.out_bits_per_s / 1e6,
            one.beside.cache_bytes / 1e9, one.beside.vector_replicas,
        )
        for one in found
    )  # fmt: skip
    columns = ("pattern", "model", "peak requests/s", "replicas", "own fleet $ a month", "API", "API $ a month")
    return Report(
        kind="patterns",
        title="Patterns of use, priced",
        findings=tuple(_words(one) for one in found),
        inputs={"slo": slo.model_dump(), **{one.pattern.name: one.pattern.model_dump() for one in found}},
        seed=seed,
        tables=(
            Table(title="Bills at the end of the months", columns=columns, rows=rows),
            Table(
                title="Beside the engines, at the peak",
                columns=("pattern", "in Mbit/s", "out Mbit/s", "cache GB", "vector database replicas"),
                rows=sizes,
                note="The cache has 30% to spare, the vector database two replicas; rules of thumb, not simulated.",
            ),
        ),
        notes=(
            SHEETS,
            f"prices are those of {book.as_of} ({book.price_source}); --catalog replaces them and the patterns",
            "an API's models are other models: a bill says nothing of what the answers are worth",
        ),
        result={"patterns": [_figures(one) for one in found]},
        versions=versions(),
    )


def _words(one: Priced) -> str:
    name, bill = one.pattern.name, shown(one.api_usd_per_month)
    if one.fleet is None:
        return f"{name}: no fleet keeps the promise ({one.reason}); {one.api.name} asks ${bill} a month"
    own = one.fleet.usd_per_month
    cheaper = "own fleet" if own < one.api_usd_per_month else one.api.name
    counts = ", ".join(f"{group.total} of {group.offer.name}" for group in one.fleet.groups)
    return (
        f"{name}: {cheaper} is cheaper, ${shown(own)} a month for {counts} and people against ${bill} at {one.api.name}"
    )


def _figures(one: Priced) -> dict[str, object]:
    return {
        "name": one.pattern.name,
        "peak_per_s": one.peak_per_s,
        "usd_per_month": one.fleet.usd_per_month if one.fleet else None,
        "items": dict(one.fleet.items) if one.fleet else None,
        "reason": one.reason,
        "api": one.api.name,
        "api_usd_per_month": one.api_usd_per_month,
        "cache_bytes": one.beside.cache_bytes,
        "in_bits_per_s": one.beside.in_bits_per_s,
        "out_bits_per_s": one.beside.out_bits_per_s,
        "vector_replicas": one.beside.vector_replicas,
    }
