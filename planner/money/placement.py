"""What if the shorter requests were served at the edge: latency with the network in it, replicas, bills, bytes saved.

Requests up to a prompt length go to small replicas at many sites near the users; the others to one cloud. Both sides
keep the same promise: a side's network round trip is taken off its limit on the first token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import numpy.typing as npt

from planner.errors import CapacityError
from planner.money.beside import Rules
from planner.money.fleet import HOURS_PER_MONTH
from planner.money.rent import Offer
from planner.room.capacity import Capacity, at_rate, search
from planner.room.growth import with_replicas
from planner.room.means import mean_figure
from planner.room.verdict import WARM_UP_RATIO, judge
from planner.sim import play
from planner.slo import Slo
from planner.traces.trace import Trace

REQUESTS = 3000
LEAST_ROWS = 100
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Side:
    """Where requests may be served: a replica, its network round trip, in how many sites, with how many spares each.

    ``usd_per_gb`` is paid for what goes to and fro between the users' sites and this one.
    """

    name: str
    offer: Offer
    round_trip_s: float
    sites: int = 1
    spare: int = 1
    usd_per_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """What one side has to do under a split; ``ttft_p95_s`` holds the round trip, None where nothing comes here."""

    ratio: float
    replicas: int
    usd_per_month: float
    ttft_p95_s: float | None
    gigabytes_per_month: float


@dataclass(frozen=True, slots=True)
class Split:
    """One split: prompts up to ``upto_tokens`` at the edge. ``reason`` says why it cannot be, else None."""

    upto_tokens: int
    edge: Part | None
    cloud: Part | None
    reason: str | None = None

    @property
    def usd_per_month(self) -> float | None:
        """Both sides' bills; None where one side cannot keep the promise."""
        return None if self.edge is None or self.cloud is None else self.edge.usd_per_month + self.cloud.usd_per_month


def splits(
    trace: Trace,
    edge: Side,
    cloud: Side,
    slo: Slo,
    peak_per_s: float,
    mean_per_s: float,
    shares: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    *,
    seed: int = 0,
    note: Callable[[str], None] | None = None,
) -> tuple[Split, ...]:
    """Each split that sends about one of ``shares`` of the requests to the edge, shortest prompts first."""
    found = []
    for share in shares:
        upto = 0 if share <= 0 else int(np.quantile(trace.input_tokens, share))
        near = trace.input_tokens <= upto
        try:
            one = Split(
                upto,
                _part(trace, near, edge, slo, peak_per_s, mean_per_s, seed),
                _part(trace, ~near, cloud, slo, peak_per_s, mean_per_s, seed),
            )
        except CapacityError as error:
            one = Split(upto, None, None, str(error))
        found.append(one)
        if note is not None:
            bill = one.reason or f"${one.usd_per_month:,.0f} a month"
            note(f"{near.mean():.0%} of the requests at the edge: {bill}")
    return tuple(found)


def best(found: Sequence[Split]) -> Split | None:
    """The cheapest split that can be; None when none can."""
    able = [one for one in found if one.usd_per_month is not None]
    return min(able, key=lambda one: (one.usd_per_month or 0.0, one.upto_tokens), default=None)


def _part(
    trace: Trace,
    chosen: npt.NDArray[np.bool_],
    side: Side,
    slo: Slo,
    peak_per_s: float,
    mean_per_s: float,
    seed: int,
) -> Part:
    rows = np.nonzero(chosen)[0]
    if not len(rows):
        return Part(0.0, 0, 0.0, None, 0.0)
    if len(rows) < LEAST_ROWS:
        raise CapacityError(f"{len(rows)} requests fall to the {side.name}: too few to tell, at least {LEAST_ROWS}")
    if slo.ttft_p95_s <= side.round_trip_s:
        raise CapacityError(
            f"{side.name}: its round trip of {side.round_trip_s:g} s uses up the first token's {slo.ttft_p95_s:g} s"
        )
    promise = slo.model_copy(update={"ttft_p95_s": slo.ttft_p95_s - side.round_trip_s})
    part, ratio = trace.take_rows(rows, name=side.name, seed=seed), len(rows) / len(trace)
    site_per_s = peak_per_s * ratio / side.sites
    each = max(ceil(site_per_s / _carried(part, side, promise, site_per_s, seed).requests_per_s - 1e-9), 1)
    played = at_rate(part, site_per_s, REQUESTS, seed)
    twin = with_replicas(side.offer.twin, each)
    verdict = judge(play(played, twin, seed=seed, warm_up_ratio=WARM_UP_RATIO), played.output_tokens, promise)
    while not verdict.kept:
        each += 1
        twin = with_replicas(side.offer.twin, each)
        verdict = judge(play(played, twin, seed=seed, warm_up_ratio=WARM_UP_RATIO), played.output_tokens, promise)
    ttft, replicas = verdict.value("TTFT p95"), (each + side.spare) * side.sites
    gigabytes = _bytes_of(part) * mean_per_s * ratio * HOURS_PER_MONTH * 3600 / 1e9
    return Part(
        ratio=ratio,
        replicas=replicas,
        usd_per_month=replicas * side.offer.usd_per_hour * HOURS_PER_MONTH + gigabytes * side.usd_per_gb,
        ttft_p95_s=None if ttft is None else ttft + side.round_trip_s,
        gigabytes_per_month=gigabytes,
    )


def _carried(part: Trace, side: Side, slo: Slo, per_s: float, seed: int) -> Capacity:
    """What one replica carries of these requests."""
    twin = replace(side.offer.twin, replicas=1)
    means = mean_figure(part, twin.model, twin.scheduler, slo)
    guess = means.requests_per_s * 0.7 if means is not None else per_s
    return search(at_rate(part, guess, REQUESTS, seed), twin, slo, guess=guess, seed=seed, tolerance=TOLERANCE)


def _bytes_of(part: Trace) -> float:
    """Bytes to and fro of a mean request."""
    rules = Rules()
    text = float(part.input_tokens.mean()) * rules.text_bytes_per_token
    return text + float(part.output_tokens.mean()) * rules.stream_bytes_per_token + 2 * rules.request_bytes
