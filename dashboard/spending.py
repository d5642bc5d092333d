"""What pools spend and what a token of theirs comes to: arithmetic on rows of replicas and token rates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import combinations

from dashboard.prices import Prices
from dashboard.pricing import DAYS_PER_MONTH, Offer, api_usd_per_token, plans
from dashboard.words import joined, say
from planner.catalog import Api
from planner.money.cost import Plan, break_even, tornado

Row = Sequence[float | None]
Rows = Mapping[str, Row]
POINTS = 61
SWING = Fraction(1, 5)
FIGURES = {
    "fixed_usd_per_month": "$ a month", "usd_per_1k_tokens": "$ per 1k tokens",
    "usd_per_million_tokens": "$ per 1M tokens", "replica_usd_per_month": "$ a replica month",
    "replica_tokens_per_month": "tokens a replica month",
}  # fmt: skip
"""What a plan's fields are called where one of them is moved."""
MILLION = 1e6


@dataclass(frozen=True, slots=True)
class Flow:
    """Tokens per second: prompts that were computed, prompts that the cache had, outputs."""

    computed: float
    cached: float
    output: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.computed + self.cached + self.output

    def at_list(self, api: Api) -> float:
        """$ per second that an API charges for this flow."""
        return (self.computed * api.input + self.cached * api.cached_input + self.output * api.output) / MILLION


@dataclass(frozen=True, slots=True)
class Effective:
    """$ per million tokens; the three directions in the proportions of an API's list prices."""

    blended: float
    input: float
    cached: float
    output: float


def effective(usd_per_hour: float, flow: Flow, api: Api) -> Effective | None:
    """What tokens come to when ``usd_per_hour`` makes ``flow``; None where nothing flows."""
    listed = flow.at_list(api)
    if flow.total <= 0 or listed <= 0:
        return None
    share = usd_per_hour / 3600 / listed
    blended = usd_per_hour / 3600 / flow.total * MILLION
    return Effective(blended, api.input * share, api.cached_input * share, api.output * share)


def flow_of(prompt: float | None, cached: float | None, output: float | None) -> Flow | None:
    """The flow of one moment; an engine that tells no cached tokens has none. None where tokens are not told."""
    if prompt is None or output is None:
        return None
    hit = min(cached or 0.0, prompt)
    return Flow(prompt - hit, hit, output)


def spend(replicas: Rows, prices: Prices, usd: float | None) -> dict[str, list[float | None]]:
    """$ per hour by pool; pools without a price are left out."""
    priced = {pool: prices.replica(pool, usd) for pool in replicas}
    return {
        pool: [None if count is None else count * price.usd_per_hour for count in replicas[pool]]
        for pool, price in priced.items()
        if price is not None
    }


def blended(spent: Rows, prompts: Rows, outputs: Rows) -> dict[str, list[float | None]]:
    """$ per million tokens, in and out, by pool over time; gaps where no token flows."""
    return {
        pool: [
            usd / 3600 / (prompt + output) * MILLION
            if usd is not None and prompt is not None and output is not None and prompt + output > 0
            else None
            for usd, prompt, output in zip(spent[pool], prompts[pool], outputs[pool], strict=True)
        ]
        for pool in spent
        if pool in prompts and pool in outputs
    }


def hours(row: Row, step_s: int) -> float:
    """Summed over a window: what a row of counts comes to in hours."""
    return sum(value for value in row if value is not None) * step_s / 3600


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Bills of plans against daily tokens, where they cross, and what moves the first crossing.

    ``swings`` are (what, at -20%, at +20%), tokens a day, of the two plans of ``pair``.
    """

    tokens_per_day: tuple[float, ...]
    bills: Mapping[str, tuple[float, ...]]
    crossings: tuple[tuple[float, str], ...]
    pair: str
    middle: float | None
    swings: tuple[tuple[str, float, float], ...]
    never: tuple[str, ...]


def derived_plans(
    offer: Offer, replica_req_per_s: float, prompt: float, output: float, cached: float
) -> tuple[Plan, Plan]:
    """(own replicas, API) for requests of this shape, as the pool carries them."""
    per_token = api_usd_per_token(offer.api, prompt, output, cached)
    return plans(offer, replica_req_per_s, prompt + output, per_token)


def break_evens(table: Sequence[Plan], today: float, days: Decimal = Decimal(DAYS_PER_MONTH)) -> BreakEven:
    """Every pair of ``table``; ``today`` (tokens a day) is kept in sight."""
    per_month = Fraction(days)
    crossings: list[tuple[float, str]] = []
    never: list[str] = []
    for a, b in combinations(table, 2):
        answer = break_even(a, b)
        if answer.crossovers:
            first = answer.crossovers[0]
            told = say("{cheaper} below {dearer}", cheaper=first.cheaper_above, dearer=first.cheaper_below)
            crossings.append((float(first.tokens / per_month), told))
        elif answer.cheaper is not None:
            dearer = b.name if answer.cheaper == a.name else a.name
            never.append(
                say("{cheaper} costs less than {dearer} at every volume", cheaper=answer.cheaper, dearer=dearer)
            )
        else:
            never.append(say("{a} and {b} cost the same", a=a.name, b=b.name))
    a, b = _ends(table)
    rows = tornado(a, b, SWING)
    found = break_even(a, b).crossovers
    swings = [
        (_moved(what), float(low / per_month), float(high / per_month))
        for what, low, high in rows
        if low is not None and high is not None
    ]
    near = [tokens for tokens, _ in crossings] + ([today] if today > 0 else [])
    low, high = min(near, default=1e6) / 20, max(near, default=1e8) * 10
    volumes = tuple(low * (high / low) ** (index / (POINTS - 1)) for index in range(POINTS))
    return BreakEven(
        volumes,
        {plan.name: tuple(float(plan.usd_per_month(Fraction(one) * per_month)) for one in volumes) for plan in table},
        tuple(sorted(crossings)),
        say("{a} and {b}", a=a.name, b=b.name),
        float(found[0].tokens / per_month) if found else None,
        tuple(swings),
        tuple(never),
    )


def _ends(table: Sequence[Plan]) -> tuple[Plan, Plan]:
    """The plans whose break-even is taken apart: an API and a plan of one's own, or the first two."""
    api = next((plan for plan in table if plan.kind == "api"), table[0])
    hosted = next((plan for plan in table if plan.kind == "self_hosted"), None)
    own = hosted or next(one for one in table if one is not api)
    return own, api


def _moved(what: str) -> str:
    """``own replica_usd_per_month`` as a person says it."""
    plan, _, name = what.rpartition(" ")
    return joined((plan, FIGURES.get(name, name.replace("_", " "))))
