"""Patterns of use priced: a fleet of one's own and an API for the same tokens, and what stands beside the engines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.catalog import Api, Catalog, Gpu, Pattern
from planner.errors import CapacityError
from planner.money.beside import Beside, Rules, beside
from planner.money.fleet import Fleet, Terms, plan_fleet
from planner.money.hardware import Layout
from planner.money.rent import offers
from planner.room.growth import Demand
from planner.slo import Slo
from planner.traces.trace import Trace, from_lengths

REQUESTS = 1500
LENGTH_CV = 1.0  # real conversations vary by about their mean


@dataclass(frozen=True, slots=True)
class Priced:
    """A pattern at the end of its months: its fleet (None, with the reason, where none keeps the promise), its API."""

    pattern: Pattern
    peak_per_s: float
    fleet: Fleet | None
    reason: str | None
    api: Api
    api_usd_per_month: float
    beside: Beside


def price(
    pattern: Pattern,
    book: Catalog,
    gpus: Sequence[Gpu],
    slo: Slo,
    *,
    layout: Layout = Layout(),  # noqa: B008 — a frozen value
    seed: int = 0,
    note: Callable[[str], None] | None = None,
) -> Priced:
    """Both bills of a pattern. Raises CatalogError where the catalogue lacks its model or API."""
    sheet, api = book.model(pattern.model), book.api(pattern.api)
    demand = Demand(pattern.requests_per_day / 86_400, pattern.peak_factor, pattern.growth_per_month, pattern.months)
    terms = Terms(pattern.discount_ratio, pattern.people_usd_per_month, pattern.storage_usd_per_month)
    fleet, reason = None, None
    try:
        found = offers(gpus, sheet, layout)
        fleet = plan_fleet(
            trace_of(pattern, seed), found, slo, demand, spare=pattern.spare, terms=terms,
            cached_ratio=pattern.cached_ratio, seed=seed, note=note,
        )  # fmt: skip
    except CapacityError as error:
        reason = str(error)
    peak, rules = demand.peak_per_s(demand.months), Rules(retrieval_ratio=pattern.retrieval_ratio)
    return Priced(
        pattern=pattern,
        peak_per_s=peak,
        fleet=fleet,
        reason=reason,
        api=api,
        api_usd_per_month=_api_bill(pattern, api, peak / pattern.peak_factor * 86_400 * 30),
        beside=beside(peak, pattern.prompt_tokens, pattern.output_tokens, rules),
    )


def trace_of(pattern: Pattern, seed: int) -> Trace:
    """Requests of the pattern's mean lengths, lognormal about them, arriving by chance."""
    draw = np.random.default_rng([seed, 0xFA7])
    spread = np.sqrt(np.log1p(LENGTH_CV**2))

    def lengths(mean: float) -> npt.NDArray[np.int64]:
        found = draw.lognormal(np.log(mean) - spread**2 / 2, spread, REQUESTS)
        return np.asarray(np.clip(np.rint(found * mean / found.mean()), 1, 16_000), dtype=np.int64)

    arrival_s = np.cumsum(draw.exponential(86_400 / pattern.requests_per_day, REQUESTS))
    return from_lengths(arrival_s, lengths(pattern.prompt_tokens), lengths(pattern.output_tokens), source=pattern.name)


def _api_bill(pattern: Pattern, api: Api, requests: float) -> float:
    cached = pattern.prompt_tokens * pattern.cached_ratio
    fresh = pattern.prompt_tokens - cached
    return requests * (fresh * api.input + cached * api.cached_input + pattern.output_tokens * api.output) / 1e6
