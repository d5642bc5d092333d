"""What serving tokens costs under each plan, and from which volume one plan is cheaper than another.

A plan's monthly bill is ``fixed + price * tokens + replica price * replicas``. Replicas come in whole pieces, so the
bill is a staircase and two plans may cross more than once; idle replicas are paid for (utilisation never scales the
bill). All arithmetic is exact (Fraction of the decimals as written). Tokens are tokens per month unless named.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planner.errors import CostError
from planner.slo import first_fault

MAX_STEPS = 1000

Swing = tuple[str, Fraction | None, Fraction | None]
"""What was moved, and the break-even with it lower and higher."""


class Plan(BaseModel):
    """One way to serve tokens, as a price table states it; USD.

    A self-hosted plan may say what a replica costs and carries; then it needs
    ``ceil(tokens * peak_factor / replica_tokens_per_month)`` replicas, at least ``min_replicas``, plus
    ``spare_replicas``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    kind: Literal["api", "hybrid", "self_hosted"]
    fixed_usd_per_month: Decimal = Field(default=Decimal(0), ge=0)
    usd_per_1k_tokens: Decimal | None = Field(default=None, ge=0)
    usd_per_million_tokens: Decimal | None = Field(default=None, ge=0)
    replica_usd_per_month: Decimal | None = Field(default=None, ge=0)
    replica_tokens_per_month: Decimal | None = Field(default=None, gt=0)
    peak_factor: Decimal = Field(default=Decimal(1), ge=1)
    min_replicas: int = Field(default=1, ge=0)
    spare_replicas: int = Field(default=0, ge=0)
    claim_tokens_per_day: Decimal | None = Field(default=None, gt=0)
    claim_against: str | None = None

    @model_validator(mode="after")
    def _is_priced_once(self) -> "Plan":
        if (self.usd_per_1k_tokens is None) == (self.usd_per_million_tokens is None):
            raise ValueError("needs one of usd_per_1k_tokens and usd_per_million_tokens (0 is allowed)")
        if (self.replica_usd_per_month is None) != (self.replica_tokens_per_month is None):
            raise ValueError("replica_usd_per_month and replica_tokens_per_month go together")
        if (self.claim_tokens_per_day is None) != (self.claim_against is None):
            raise ValueError("claim_tokens_per_day and claim_against go together")
        return self

    @property
    def usd_per_token(self) -> Fraction:
        """Price of one token."""
        if self.usd_per_million_tokens is not None:
            return Fraction(self.usd_per_million_tokens) / 1_000_000
        return Fraction(self.usd_per_1k_tokens or 0) / 1000

    @property
    def tokens_per_step(self) -> Fraction | None:
        """Monthly tokens that one replica carries at the mean, its share of the peak kept free; None when flat."""
        if self.replica_tokens_per_month is None:
            return None
        return Fraction(self.replica_tokens_per_month) / Fraction(self.peak_factor)

    def replicas(self, tokens: Fraction) -> int:
        """Replicas paid for at a monthly volume; 0 for a plan without replicas."""
        step = self.tokens_per_step
        if step is None:
            return 0
        return max(self.min_replicas, -(-tokens // step)) + self.spare_replicas

    def usd_per_month(self, tokens: Fraction) -> Fraction:
        """The bill at a monthly volume."""
        replicas = self.replicas(tokens) * Fraction(self.replica_usd_per_month or 0)
        return Fraction(self.fixed_usd_per_month) + self.usd_per_token * tokens + replicas


class PriceTable(BaseModel):
    """Plans to choose from, as a TOML file states them: ``days_per_month`` and ``[[plan]]`` tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days_per_month: Decimal = Field(default=Decimal(30), gt=0)
    note: str | None = None
    plan: tuple[Plan, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "PriceTable":
        names = [plan.name for plan in self.plan]
        if len(set(names)) != len(names):
            raise ValueError(f"plan names must differ, found {', '.join(names)}")
        for plan in self.plan:
            if plan.claim_against is not None and plan.claim_against not in names:
                raise ValueError(f"plan {plan.name}: claim_against {plan.claim_against!r} is not one of {names}")
        return self


def load_prices(path: Path) -> PriceTable:
    """Read a price table. Raises CostError with file, field and value."""
    try:
        document = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise CostError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CostError(f"{path}: is not TOML: {error}") from error
    try:
        return PriceTable.model_validate(document)
    except ValidationError as error:
        raise CostError(f"{path}: {first_fault(error)}") from error


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
    """First break-even when each price in turn is ``swing`` lower and higher: (what, low, high), widest first.

    None stands for "never".
    """
    rows: list[Swing] = []
    for plan in (a, b):
        for name in ("fixed_usd_per_month", "usd_per_1k_tokens", "usd_per_million_tokens", "replica_usd_per_month"):
            value = getattr(plan, name)
            if not value:
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
