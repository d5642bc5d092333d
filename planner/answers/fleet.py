"""A whole fleet as a report: what to rent, what may be lost, what it costs, and what an API would."""

from collections.abc import Sequence
from dataclasses import asdict

from planner.answers.hardware import MIX_REPAIRED, SHEETS, fit_table
from planner.answers.inputs import plain, trace_inputs
from planner.catalog import Api, Catalog, ModelSheet
from planner.money.fleet import DAYS_PER_MONTH, Fleet, Terms
from planner.money.rent import Offer
from planner.report import Cell, Report, Table, shown
from planner.room.failure import Aftermath
from planner.room.growth import Demand
from planner.sim.simulate import versions
from planner.slo import Slo
from planner.traces.trace import Trace


def fleet_report(
    fleet: Fleet,
    found: Sequence[Offer],
    sheet: ModelSheet,
    book: Catalog,
    apis: Sequence[Api],
    trace: Trace,
    slo: Slo,
    demand: Demand,
    terms: Terms,
    *,
    spare: int,
    seed: int,
) -> Report:
    """Memory, mix, N+k, bill and the API beside it, in one document."""
    rented = ", ".join(f"{group.total} of {group.offer.name}" for group in fleet.groups)
    prices = fleet.prices
    when = "" if not demand.months else f", {demand.months} months from now"
    findings = [
        f"{rented} keep the promise at the peak of {shown(fleet.peak_per_s)} requests/s{when} with any {spare} of a "
        f"kind gone: ${shown(fleet.usd_per_month)} a month",
        f"per million tokens that is ${_usd(prices.input)} input, ${_usd(prices.cached)} cached, "
        f"${_usd(prices.output)} output, at the mean load of that month "
        f"({shown(fleet.tokens_per_month / 1e6)} M tokens)",
        *(_lost(group.offer.name, group.aftermath) for group in fleet.groups if group.aftermath is not None),
        *(_api_words(fleet, api) for api in apis),
    ]
    rows = tuple(
        (
            offer.name, offer.usd_per_hour, offer.fit.kv_tokens, fleet.mix.counts[offer.name],
            next((group.total for group in fleet.groups if group.offer is offer), 0),
        )
        for offer in found
    )  # fmt: skip
    notes = [
        SHEETS,
        f"prices are list prices as of {book.as_of} ({book.price_source}); --catalog replaces them",
        "spares are counted for each kind, since requests of one kind may not fit on another",
        "a bill is divided among tokens as the modelled time is; idle time is paid in proportion",
    ]
    if fleet.mix.load_factor > 1:
        notes.append(MIX_REPAIRED.format(fleet.mix.load_factor))
    return Report(
        kind="fleet",
        title=f"A fleet for {sheet.name}",
        findings=tuple(findings),
        inputs={
            **trace_inputs(trace),
            "model": sheet.model_dump(),
            "slo": slo.model_dump(),
            "demand": asdict(demand),
            "spare_replicas": spare,
            "terms": asdict(terms),
        },
        seed=seed,
        tables=(
            Table(title="Replicas", columns=("replica", "$ per hour", "KV tokens", "serving", "to rent"), rows=rows),
            fit_table([offer.fit for offer in found]),
            Table(title="A month's bill", columns=("for", "USD"), rows=tuple(fleet.items.items())),
            _api_table(fleet, apis),
        ),
        notes=tuple(notes),
        result={
            "usd_per_month": fleet.usd_per_month,
            "replicas": fleet.replicas,
            "items": dict(fleet.items),
            "counts": {group.offer.name: {"serving": group.serving, "total": group.total} for group in fleet.groups},
            "aftermath": plain({g.offer.name: asdict(g.aftermath) for g in fleet.groups if g.aftermath is not None}),
            "usd_per_million": asdict(prices),
            "tokens_per_month": fleet.tokens_per_month,
            "gap_ratio": fleet.mix.gap_ratio,
            "load_factor": fleet.mix.load_factor,
            "apis": {api.name: _api_bill(fleet, api) for api in apis},
        },
        versions=versions(),
    )


def _api_bill(fleet: Fleet, api: Api) -> float:
    """What the API would ask for the same tokens."""
    one = fleet.request
    per_request = (one.input * api.input + one.cached * api.cached_input + one.output * api.output) / 1e6
    return per_request * fleet.requests_per_month


def _api_words(fleet: Fleet, api: Api) -> str:
    """Whether the API is cheaper, and from which volume this fleet pays; the fleet's bill does not fall below it."""
    bill = _api_bill(fleet, api)
    even = fleet.tokens_per_month * fleet.usd_per_month / bill if bill else None
    cheaper = "less" if bill < fleet.usd_per_month else "more"
    text = f"{api.name} asks ${shown(bill)} a month for the same tokens, {cheaper} than this fleet"
    if even is None:
        return f"{text}: it never pays"
    beyond = "" if even <= fleet.tokens_per_month else ", more than this fleet is sized for"
    return f"{text}; it pays from {shown(even / DAYS_PER_MONTH / 1e6)} M tokens a day{beyond}"


def _api_table(fleet: Fleet, apis: Sequence[Api]) -> Table:
    own: tuple[Cell, ...] = ("this fleet", fleet.prices.input, fleet.prices.cached, fleet.prices.output)
    rows: list[tuple[Cell, ...]] = [(*own, fleet.usd_per_month)]
    rows.extend((api.name, api.input, api.cached_input, api.output, _api_bill(fleet, api)) for api in apis)
    return Table(
        title="USD per million tokens",
        columns=("served by", "input", "cached", "output", "USD a month"),
        rows=tuple(rows),
        note="The same tokens for all; an API's models are other models, and its tokens are not counted alike.",
    )


def _lost(name: str, after: Aftermath) -> str:
    lost = f"losing {after.lost_replicas} of {after.replicas} {name} at the peak ({after.lost} requests sent again)"
    if after.recovery_s is None:
        return f"{lost}: the promise is not kept again"
    return f"{lost}: the promise is kept again after {shown(after.recovery_s)} s"


def _usd(value: float | None) -> str:
    return shown(value)
