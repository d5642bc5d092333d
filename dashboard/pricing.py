"""Money from measurements: what a pool's replicas cost against an API that is asked for the same tokens."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import nan

from dashboard import quantity
from dashboard.prices import Prices
from dashboard.words import say
from planner.catalog import Api
from planner.money.cost import Plan, break_even

DAYS_PER_MONTH = 30
HOURS_PER_MONTH = 24 * DAYS_PER_MONTH
SECONDS_PER_MONTH = 3600 * HOURS_PER_MONTH


@dataclass(frozen=True, slots=True)
class Offer:
    """A replica's price and the API beside it."""

    usd_per_hour: float
    source: str
    api: Api
    as_of: str


@dataclass(frozen=True, slots=True)
class Against:
    """Where own replicas and the API cost the same, in words, and the API's price of this mix per token."""

    words: str
    tokens_per_day: float | None
    api_usd_per_token: float
    hours_per_month: int = HOURS_PER_MONTH


def offer_of(own: Mapping[str, str], pool: str, prices: Prices) -> Offer | str:
    """The prices to hold against each other; ``usd`` and ``api`` of the address go first. Text: why there are none."""
    typed = own.get("usd", "")
    try:
        usd = float(typed) if typed else None
    except ValueError:
        usd = nan
    if usd is not None and not 0 <= usd < 1e6:
        return say("usd={value}: must be a number of dollars an hour", value=typed[:20])
    replica = prices.replica(pool, usd)
    if replica is None:
        return say("What a replica of {pool} costs is not known: type it here, or serve with --prices.", pool=pool)
    return Offer(replica.usd_per_hour, replica.source, prices.api(own.get("api")), prices.catalog.as_of)


def api_usd_per_token(api: Api, prompt_tokens: float, output_tokens: float, cached_ratio: float) -> float:
    """Price of one token, in or out, of requests of this shape."""
    cached = prompt_tokens * cached_ratio
    usd = (prompt_tokens - cached) * api.input + cached * api.cached_input + output_tokens * api.output
    return usd / 1e6 / max(prompt_tokens + output_tokens, 1e-9)


def plans(offer: Offer, replica_req_per_s: float, tokens: float, usd_per_token: float) -> tuple[Plan, Plan]:
    """(own replicas, the API) as the planner's plans; a request has ``tokens`` in and out."""
    own = Plan(
        name="own replicas", kind="self_hosted", usd_per_million_tokens=Decimal(0),
        replica_usd_per_month=_decimal(offer.usd_per_hour * HOURS_PER_MONTH),
        replica_tokens_per_month=_decimal(replica_req_per_s * tokens * SECONDS_PER_MONTH),
    )  # fmt: skip
    return own, Plan(name=offer.api.name, kind="api", usd_per_million_tokens=_decimal(usd_per_token * 1e6))


def against(
    offer: Offer, replica_req_per_s: float, prompt_tokens: float, output_tokens: float, cached_ratio: float
) -> Against:
    """From which volume own replicas, each at its load line, cost less than the API."""
    per_token = api_usd_per_token(offer.api, prompt_tokens, output_tokens, cached_ratio)
    own, api = plans(offer, replica_req_per_s, prompt_tokens + output_tokens, per_token)
    found = break_even(own, api)
    if not found.crossovers:
        told = say("never: both cost the same")
        if found.cheaper is not None:
            told = say("never: {plan} cost less at every volume", plan=found.cheaper)
        return Against(told, None, per_token)
    first = float(found.crossovers[0].tokens) / DAYS_PER_MONTH
    change = found.crossovers[0]
    words = say(
        "from {volume} tokens a day {above} cost less, below it {below}",
        volume=quantity.count(first), above=change.cheaper_above, below=change.cheaper_below,
    )  # fmt: skip
    return Against(words, first, per_token)


def _decimal(value: float) -> Decimal:
    return Decimal(f"{value:.12g}")
