"""From which monthly volume one way to serve tokens is cheaper than another.

Replicas come in whole pieces, so a bill is a staircase and two plans may cross more than once. All arithmetic is exact.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from planner.money.prices import Plan, PriceTable, load_prices

MAX_STEPS = 1000

_MOVED = (
    "fixed_usd_per_month", "people_usd_per_month", "storage_usd_per_month", "usd_per_1k_tokens",
    "usd_per_million_tokens", "egress_usd_per_gb", "fallback_usd_per_million_tokens", "replica_usd_per_month",
    "replica_tokens_per_month", "replica_watts",
)  # fmt: skip

Swing = tuple[str, Fraction | None, Fraction | None]
"""What was moved, and the break-even with it lower and higher."""


@dataclass(frozen=True, slots=True)
class Crossover:
    """A monthly volume at which the cheaper of two plans changes.

    ``equal``: both cost the same there. ``step``: a replica is added just above it, and the order flips with the jump.
    """

    tokens: Fraction
    kind: Literal["equal", "step"]
    cheaper_below: str
    cheaper_above: str


@dataclass(frozen=True, slots=True)
class PairAnswer:
    """Two plans against each other.

    ``verdict``: ``break_even`` (they cross), ``never`` (one is cheaper at every volume; named in ``cheaper``) or
    ``same`` (equal at every volume). ``searched_to`` bounds the search when a plan is a staircase, else None.
    """

    a: str
    b: str
    verdict: Literal["break_even", "never", "same"]
    crossovers: tuple[Crossover, ...]
    cheaper: str | None
    searched_to: Fraction | None


@dataclass(frozen=True, slots=True)
class Reach:
    """Volumes (from, to] at which one plan is the cheapest of all; ``to`` is None when nothing ends it."""

    plan: str
    from_tokens: Fraction
    to_tokens: Fraction | None


def horizon(plans: Sequence[Plan]) -> Fraction | None:
    """Volume up to which staircases are searched: ``MAX_STEPS`` of the smallest step; None when no plan has steps."""
    steps = [step for plan in plans if (step := plan.tokens_per_step) is not None]
    return min(steps) * MAX_STEPS if steps else None


def break_even(a: Plan, b: Plan) -> PairAnswer:
    """Where the cheaper of two plans changes, exactly."""
    limit = horizon((a, b))
    changes: list[Crossover] = []
    before = 0
    name = {-1: a.name, 1: b.name}
    for start, end in _segments((a, b), limit):
        # On (start, end] both bills are straight lines; just above start they have these heights.
        gap = _height(a, start, end) - _height(b, start, end)
        slope = a.usd_per_token - b.usd_per_token
        sign = _sign(gap) or _sign(slope)
        if before and sign and sign != before:
            changes.append(Crossover(start, "step" if gap else "equal", name[before], name[sign]))
        before = sign or before
        if gap and slope and _sign(gap) != _sign(slope):
            meet = start - gap / slope
            if end is None or meet < end:
                changes.append(Crossover(meet, "equal", name[sign], name[-sign]))
                before = -sign
    if changes:
        return PairAnswer(a.name, b.name, "break_even", tuple(changes), None, limit)
    if before == 0:
        return PairAnswer(a.name, b.name, "same", (), None, limit)
    return PairAnswer(a.name, b.name, "never", (), name[before], limit)


def cheapest(plans: Sequence[Plan]) -> tuple[Reach, ...]:
    """Which plan is the cheapest from which volume on; plans that never appear are dominated.

    Ties go to the plan that is listed first.
    """
    limit = horizon(plans)
    points = {Fraction(0)}
    for i, a in enumerate(plans):
        for b in plans[i + 1 :]:
            points.update(change.tokens for change in break_even(a, b).crossovers)
    points.update(start for start, _ in _segments(plans, limit))
    ordered = sorted(point for point in points if limit is None or point <= limit)
    reaches: list[Reach] = []
    for start, end in zip(ordered, [*ordered[1:], None], strict=True):
        inside = (start + end) / 2 if end is not None else start + (limit or 1)
        best = min(plans, key=lambda plan: plan.usd_per_month(inside))
        if reaches and reaches[-1].plan == best.name:
            reaches[-1] = Reach(best.name, reaches[-1].from_tokens, end)
        else:
            reaches.append(Reach(best.name, start, end))
    return tuple(reaches)


def tornado(a: Plan, b: Plan, swing: Fraction = Fraction(1, 5)) -> tuple[Swing, ...]:
    """First break-even when each price (and what a replica carries) in turn is ``swing`` lower and higher.

    (what, low, high), widest first.

    None stands for "never".
    """
    rows: list[Swing] = []
    for plan in (a, b):
        for name in _MOVED:
            value = getattr(plan, name)
            if not value or (name == "replica_watts" and not plan.usd_per_kwh):
                continue
            ends: list[Fraction | None] = []
            for factor in (1 - swing, 1 + swing):
                moved = plan.model_copy(update={name: Fraction(value) * factor})
                answer = break_even(*((moved, b) if plan is a else (a, moved)))
                ends.append(answer.crossovers[0].tokens if answer.crossovers else None)
            rows.append((f"{plan.name} {name}", ends[0], ends[1]))
    return tuple(sorted(rows, key=_width, reverse=True))


def _width(row: Swing) -> tuple[bool, Fraction]:
    _, low, high = row
    if low is None or high is None:
        return True, Fraction(0)
    return False, abs(high - low)


def _segments(plans: Sequence[Plan], limit: Fraction | None) -> Iterator[tuple[Fraction, Fraction | None]]:
    """Stretches (start, end] on which no plan adds a replica; the last ends at ``limit`` or never."""
    edges = {Fraction(0)}
    for plan in plans:
        step = plan.tokens_per_step
        if step is not None and limit is not None:
            first = max(plan.min_replicas, 1)
            edges.update(step * k for k in range(first, int(limit // step) + 1))
    ordered = sorted(edge for edge in edges if limit is None or edge < limit)
    yield from zip(ordered, [*ordered[1:], limit], strict=True)


def _height(plan: Plan, start: Fraction, end: Fraction | None) -> Fraction:
    """The bill just above ``start`` on a stretch without new replicas."""
    inside = (start + end) / 2 if end is not None else start + 1
    return plan.usd_per_month(inside) - plan.usd_per_token * (inside - start)


def _sign(value: Fraction) -> int:
    return (value > 0) - (value < 0)


__all__ = [
    "Crossover",
    "PairAnswer",
    "Plan",
    "PriceTable",
    "Reach",
    "Swing",
    "break_even",
    "cheapest",
    "horizon",
    "load_prices",
    "tornado",
]
