"""How many replicas the coming months need, with some to spare for failures, each count verified by simulation."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod

from planner.errors import CapacityError
from planner.room.capacity import MIN_REQUESTS, Capacity, Note, at_rate, holds_at
from planner.room.failure import Aftermath, fail
from planner.room.verdict import Verdict
from planner.sim import Twin
from planner.slo import Slo
from planner.traces.trace import Trace

REQUESTS_PER_REPLICA = 400
MOST_SIMULATED = 32
MOST_ADDED = 2


@dataclass(frozen=True, slots=True)
class Demand:
    """What is expected: today's mean rate, how far the peak exceeds it, growth per month as a ratio, months ahead.

    ``events`` are (month, factor): a launch or a campaign that multiplies that month's peak.
    """

    baseline_per_s: float
    peak_factor: float
    growth_per_month: float
    months: int
    events: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.baseline_per_s > 0:
            raise CapacityError(f"baseline {self.baseline_per_s:g} requests/s: must be above 0")
        if self.peak_factor < 1:
            raise CapacityError(f"peak factor {self.peak_factor:g}: must be at least 1")
        if self.growth_per_month <= -1:
            raise CapacityError(f"growth {self.growth_per_month:g} per month: must be above -1 (0.2 is 20%)")
        if not 0 <= self.months <= 120:
            raise CapacityError(f"months {self.months}: must be between 0 and 120")
        for month, factor in self.events:
            if not 0 <= month <= self.months or not factor > 0:
                raise CapacityError(
                    f"event {month}:{factor:g}: must be a month from 0 to {self.months} and a factor above 0"
                )

    def peak_per_s(self, month: int) -> float:
        """Peak rate ``month`` months from now, its events in it."""
        event = prod(factor for at, factor in self.events if at == month)
        return self.baseline_per_s * self.peak_factor * (1 + self.growth_per_month) ** month * event


def parse_event(text: str) -> tuple[int, float]:
    """``MONTH:FACTOR``, such as 3:2.5. Raises CapacityError."""
    month, _, factor = text.partition(":")
    try:
        return int(month), float(factor)
    except ValueError as error:
        raise CapacityError(f"event {text!r}: must be MONTH:FACTOR, such as 3:2.5") from error


@dataclass(frozen=True, slots=True)
class Need:
    """Replicas for one month's peak.

    ``serving`` keep the promise at the peak; ``serving_low`` to ``serving_high`` is what the 90% interval of the rate
    comes to, None where there is none. ``total`` adds the spares, so that with ``spare`` replicas gone the peak is
    still served. ``verified``: simulated with the spares gone; beyond 32 replicas it is extrapolated instead.
    ``aftermath`` is the loss of the spares in the middle of the peak, with its retries; None where none was simulated.
    """

    month: int
    peak_per_s: float
    serving: int
    total: int
    verified: bool
    ttft_p95_s: float | None
    goodput_ratio: float | None
    aftermath: Aftermath | None = None
    serving_low: int | None = None
    serving_high: int | None = None


def needs(
    trace: Trace,
    twin: Twin,
    slo: Slo,
    demand: Demand,
    capacity: Capacity,
    *,
    spare: int = 2,
    domain_replicas: int = 1,
    requests: int = MIN_REQUESTS,
    seed: int = 0,
    note: Note | None = None,
) -> tuple[Need, ...]:
    """Replicas needed month by month; ``capacity`` is that of ``twin`` and gives the first guess.

    Each count is the smallest that holds in simulation, found by stepping up or down from the guess. ``spare`` counts
    failure domains of ``domain_replicas`` each (a node with two replicas loses both). The spares are lost in the middle
    of the peak; where the rest does not recover from the requests that come again, one more is added, up to twice.
    """
    gone = spare * domain_replicas
    per_replica = capacity.requests_per_s / capacity.replicas
    cache: dict[tuple[int, float], Verdict] = {}

    def verdict(replicas: int, rate: float) -> Verdict:
        key = (replicas, rate)
        if key not in cache:
            fleet = with_replicas(twin, replicas)
            enough = max(requests, REQUESTS_PER_REPLICA * replicas)
            cache[key] = holds_at(trace, fleet, slo, rate, requests=enough, seed=seed)
        return cache[key]

    rows: list[Need] = []
    for month in range(demand.months + 1):
        rate = demand.peak_per_s(month)
        guess = max(ceil(rate / per_replica), 1)
        if guess > MOST_SIMULATED:
            rows.append(_with_range(Need(month, rate, guess, guess + gone, False, None, None), capacity))
            continue
        serving = _smallest(guess, lambda count, rate=rate: verdict(count, rate).kept)  # type: ignore[misc]
        found = verdict(serving, rate)
        total, aftermath = serving + gone, None
        if gone:
            peak = at_rate(trace, rate, max(requests, REQUESTS_PER_REPLICA * total), seed)
            total, aftermath = _surviving(peak, twin, slo, total, gone, seed)
        ttft, goodput = found.value("TTFT p95"), found.value("Goodput")
        rows.append(_with_range(Need(month, rate, serving, total, True, ttft, goodput, aftermath), capacity))
        if note is not None:
            note(f"month {month}: {rate:.4g} requests/s at the peak need {serving}, with {gone} spare {total}")
    return tuple(rows)


def safe_months(needed: tuple[Need, ...], replicas: int) -> int | None:
    """Last month whose peak ``replicas`` still serve with the spares gone; None when not even this month's."""
    safe = None
    for need in needed:
        if need.total > replicas:
            break
        safe = need.month
    return safe


def _with_range(need: Need, capacity: Capacity) -> Need:
    """``need`` with the counts that the ends of the rate's interval come to."""
    if capacity.likely_low is None or capacity.likely_high is None:
        return need
    ends = (capacity.likely_high, capacity.likely_low)
    few, many = (ceil(need.peak_per_s * capacity.replicas / rate) for rate in ends)
    return replace(need, serving_low=min(few, need.serving), serving_high=max(many, need.serving))


def with_replicas(twin: Twin, replicas: int) -> Twin:
    """The same fleet with another number of replicas."""
    return replace(twin, replicas=replicas)


def _surviving(peak: Trace, twin: Twin, slo: Slo, total: int, gone: int, seed: int) -> tuple[int, Aftermath]:
    """(smallest count from ``total`` on that survives losing ``gone``, at most two more, what the loss did)."""
    for count in range(total, total + MOST_ADDED + 1):
        aftermath = fail(peak, with_replicas(twin, count), slo, gone, seed=seed)
        if aftermath.survived:
            break
    return count, aftermath


def _smallest(guess: int, holds: Callable[[int], bool]) -> int:
    """Smallest count that holds, at most 1.5 times the guess and two; counts are taken to be monotone."""
    if holds(guess):
        while guess > 1 and holds(guess - 1):
            guess -= 1
        return guess
    most = ceil(guess * 1.5) + 2
    for count in range(guess + 1, most + 1):
        if holds(count):
            return count
    raise CapacityError(f"{most} replicas do not keep the promise at a load that {guess} should carry")
