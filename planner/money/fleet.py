"""A whole fleet in one answer: the cheapest mix for the peak, spares that are lost in simulation, and the bill."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.money.gpu_mix import GpuMix
from planner.money.rent import Offer, rates_of, rent, share_of, slices_of
from planner.room.failure import Aftermath, fail
from planner.room.growth import Demand
from planner.room.means import mean_figure
from planner.slo import Slo
from planner.steps.attribution import Prices, Request, effective_prices, seconds_of
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace

HOURS_PER_MONTH = 720.0
DAYS_PER_MONTH = 30
MOST_ADDED = 3


@dataclass(frozen=True, slots=True)
class Terms:
    """What is paid beside GPUs: a discount on them, people and storage, $ per GB that leaves, bytes of a token."""

    discount_ratio: float = 0.0
    people_usd_per_month: float = 0.0
    storage_usd_per_month: float = 0.0
    egress_usd_per_gb: float = 0.0
    bytes_per_token: float = 4.0


@dataclass(frozen=True, slots=True)
class Group:
    """The replicas of one kind: how many serve the peak, how many with spares, what losing the spares did."""

    offer: Offer
    serving: int
    total: int
    aftermath: Aftermath | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """The answer. ``items`` is a month's bill by what is paid for; ``prices`` what a million tokens come to by it.

    ``tokens_per_month`` are those of the mean load, ``request`` its mean request.
    """

    peak_per_s: float
    mix: GpuMix
    groups: tuple[Group, ...]
    items: Mapping[str, float]
    request: Request
    requests_per_month: float
    prices: Prices

    @property
    def replicas(self) -> int:
        """Replicas of all kinds, spares with them."""
        return sum(group.total for group in self.groups)

    @property
    def usd_per_month(self) -> float:
        """The whole bill."""
        return sum(self.items.values())

    @property
    def tokens_per_month(self) -> float:
        """Tokens of all kinds."""
        return self.requests_per_month * (self.request.input + self.request.cached + self.request.output)


def plan_fleet(
    trace: Trace,
    found: Sequence[Offer],
    slo: Slo,
    demand: Demand,
    *,
    spare: int = 2,
    terms: Terms = Terms(),
    cached_ratio: float = 0.0,
    seed: int = 0,
    note: Callable[[str], None] | None = None,
) -> Fleet:
    """The cheapest fleet for the last month's peak that keeps ``slo`` with ``spare`` replicas of any kind gone.

    The bill is that of the fleet at that month's mean load. Raises CapacityError when no mix keeps the promise.
    """
    peak = demand.peak_per_s(demand.months)
    mix = rent(trace, found, slo, peak, seed=seed, note=note)
    slices = slices_of(trace)
    groups = []
    for at, offer in enumerate(found):
        serving = mix.counts[offer.name]
        if serving:
            part = share_of(trace, slices, mix.shares[:, at], rates_of(slices, peak), seed)
            total, aftermath = _with_spares(part, offer, slo, serving, spare, seed)
            groups.append(Group(offer, serving, total, aftermath))
            if note is not None:
                note(f"{offer.name}: {serving} serve the peak, {total} with {spare} that may be lost")
    request, month_requests = _mean_request(trace, cached_ratio), peak / demand.peak_factor * HOURS_PER_MONTH * 3600
    items = _items(groups, request, month_requests, terms)
    seconds = _seconds(groups, trace, slo, request)
    prices = effective_prices(sum(items.values()), month_requests, request, seconds)
    return Fleet(peak, mix, tuple(groups), items, request, month_requests, prices)


def _with_spares(
    part: Trace | None, offer: Offer, slo: Slo, serving: int, spare: int, seed: int
) -> tuple[int, Aftermath | None]:
    """(replicas that keep the promise again after ``spare`` are lost amid the peak, what the loss did)."""
    if part is None or not spare:
        return serving + spare, None
    for total in range(serving + spare, serving + spare + MOST_ADDED + 1):
        aftermath = fail(part, replace(offer.twin, replicas=total), slo, spare, seed=seed)
        if aftermath.survived:
            break
    return total, aftermath


def _mean_request(trace: Trace, cached_ratio: float) -> Request:
    prompt = float(np.mean(trace.input_tokens))
    return Request(prompt * (1 - cached_ratio), prompt * cached_ratio, float(np.mean(trace.output_tokens)))


def _items(groups: Sequence[Group], request: Request, requests: float, terms: Terms) -> dict[str, float]:
    kept = 1 - terms.discount_ratio
    found = {
        "GPUs that serve the peak": sum(g.offer.usd_per_hour * g.serving for g in groups) * HOURS_PER_MONTH * kept,
        "spare GPUs": sum(g.offer.usd_per_hour * (g.total - g.serving) for g in groups) * HOURS_PER_MONTH * kept,
        "people": terms.people_usd_per_month,
        "storage": terms.storage_usd_per_month,
        "egress": request.output * requests * terms.bytes_per_token / 1e9 * terms.egress_usd_per_gb,
    }
    return {name: usd for name, usd in found.items() if usd}


def _seconds(groups: Sequence[Group], trace: Trace, slo: Slo, request: Request) -> tuple[float, float, float]:
    """Engine time of a mean request by kind of token, over the kinds of replica by what they cost."""
    sums = np.zeros(3)
    for group in groups:
        model = group.offer.twin.model
        assert isinstance(model, LinearModel)  # offers are rooflines
        figure = mean_figure(trace, model, group.offer.twin.scheduler, slo)
        parts = np.array(seconds_of(model, request, figure.batch if figure is not None else 1))
        sums += parts / parts.sum() * group.offer.usd_per_hour * group.total
    return float(sums[0]), float(sums[1]), float(sums[2])
