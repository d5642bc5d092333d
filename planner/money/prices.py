"""Ways to serve tokens and their prices, as a price table states them.

A plan's monthly bill is ``fixed + price * tokens + replica price * replicas``. Each of the three may have parts:
people and storage; egress, discounts and a share that falls back on another API; spot prices and energy. Idle replicas
are paid for: utilisation never scales the bill. All arithmetic is exact (Fraction of the decimals as written). Tokens
are tokens per month unless named.
"""

import tomllib
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from planner.catalog import Catalog
from planner.errors import CatalogError, CostError
from planner.slo import first_fault

_APART = ("input_usd_per_million", "cached_usd_per_million", "output_usd_per_million")


class Blend(BaseModel):
    """What a token is on average: weights of uncached input, cached input and output tokens; any unit, one for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Decimal = Field(ge=0)
    cached: Decimal = Field(default=Decimal(0), ge=0)
    output: Decimal = Field(ge=0)

    @model_validator(mode="after")
    def _is_something(self) -> "Blend":
        if not self.input + self.cached + self.output:
            raise ValueError("at least one of input, cached and output must be above 0")
        return self

    def of(self, input_usd: Decimal, cached_usd: Decimal, output_usd: Decimal) -> Fraction:
        """Mean price of a token of these prices."""
        paid = self.input * input_usd + self.cached * cached_usd + self.output * output_usd
        return Fraction(paid) / Fraction(self.input + self.cached + self.output)


class Plan(BaseModel):
    """One way to serve tokens, as a price table states it; USD.

    Tokens have one price, or three (input, cached input, output) that the table's ``[blend]`` weighs; ``api`` takes
    them from the catalogue. ``discount_ratio`` is taken off tokens, and off replicas where there are some.
    ``fallback_ratio`` of the tokens go to an API at ``fallback_usd_per_million_tokens``.

    A self-hosted plan may say what a replica costs and carries; then it needs
    ``ceil(tokens * peak_factor / replica_tokens_per_month)`` replicas, at least ``min_replicas``, plus
    ``spare_replicas``. ``spot_ratio`` of its replica hours are bought at ``spot_discount_ratio`` off, and
    ``spot_lost_ratio`` of those are lost to interruptions. A replica draws ``replica_watts`` times ``pue`` at
    ``usd_per_kwh``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    kind: Literal["api", "hybrid", "self_hosted"]
    fixed_usd_per_month: Decimal = Field(default=Decimal(0), ge=0)
    people_usd_per_month: Decimal = Field(default=Decimal(0), ge=0)
    storage_usd_per_month: Decimal = Field(default=Decimal(0), ge=0)
    api: str | None = None
    usd_per_1k_tokens: Decimal | None = Field(default=None, ge=0)
    usd_per_million_tokens: Decimal | None = Field(default=None, ge=0)
    input_usd_per_million: Decimal | None = Field(default=None, ge=0)
    cached_usd_per_million: Decimal | None = Field(default=None, ge=0)
    output_usd_per_million: Decimal | None = Field(default=None, ge=0)
    discount_ratio: Decimal = Field(default=Decimal(0), ge=0, lt=1)
    egress_usd_per_gb: Decimal = Field(default=Decimal(0), ge=0)
    bytes_per_token: Decimal = Field(default=Decimal(4), gt=0)
    fallback_ratio: Decimal = Field(default=Decimal(0), ge=0, le=1)
    fallback_usd_per_million_tokens: Decimal | None = Field(default=None, ge=0)
    replica_usd_per_month: Decimal | None = Field(default=None, ge=0)
    replica_tokens_per_month: Decimal | None = Field(default=None, gt=0)
    peak_factor: Decimal = Field(default=Decimal(1), ge=1)
    min_replicas: int = Field(default=1, ge=0)
    spare_replicas: int = Field(default=0, ge=0)
    spot_ratio: Decimal = Field(default=Decimal(0), ge=0, le=1)
    spot_discount_ratio: Decimal = Field(default=Decimal(0), ge=0, lt=1)
    spot_lost_ratio: Decimal = Field(default=Decimal(0), ge=0, lt=1)
    replica_watts: Decimal = Field(default=Decimal(0), ge=0)
    usd_per_kwh: Decimal = Field(default=Decimal(0), ge=0)
    pue: Decimal = Field(default=Decimal(1), ge=1)
    hours_per_month: Decimal = Field(default=Decimal(720), gt=0)
    claim_tokens_per_day: Decimal | None = Field(default=None, gt=0)
    claim_against: str | None = None

    @model_validator(mode="after")
    def _is_priced_once(self) -> "Plan":
        apart = (self.input_usd_per_million, self.cached_usd_per_million, self.output_usd_per_million)
        ways = (self.usd_per_1k_tokens, self.usd_per_million_tokens, self.api)
        if sum(way is not None for way in ways) + any(price is not None for price in apart) != 1:
            raise ValueError(
                "needs one of usd_per_1k_tokens, usd_per_million_tokens (0 is allowed), api, or the three of "
                "input_usd_per_million, cached_usd_per_million and output_usd_per_million"
            )
        if any(price is None for price in apart) and any(price is not None for price in apart):
            raise ValueError("input_, cached_ and output_usd_per_million go together")
        if (self.replica_usd_per_month is None) != (self.replica_tokens_per_month is None):
            raise ValueError("replica_usd_per_month and replica_tokens_per_month go together")
        if bool(self.fallback_ratio) != (self.fallback_usd_per_million_tokens is not None):
            raise ValueError("fallback_ratio and fallback_usd_per_million_tokens go together")
        if (self.claim_tokens_per_day is None) != (self.claim_against is None):
            raise ValueError("claim_tokens_per_day and claim_against go together")
        return self

    @property
    def usd_fixed(self) -> Fraction:
        """What is paid each month at any volume, replicas apart."""
        return sum(
            map(Fraction, (self.fixed_usd_per_month, self.people_usd_per_month, self.storage_usd_per_month)),
            Fraction(0),
        )

    @property
    def usd_per_token(self) -> Fraction:
        """Price of one more token, egress, discount and fallback with it; replicas apart."""
        own = (1 - Fraction(self.discount_ratio)) * self._list_price + self._egress
        away = Fraction(self.fallback_usd_per_million_tokens or 0) / 1_000_000
        ratio = Fraction(self.fallback_ratio)
        return own * (1 - ratio) + away * ratio

    @property
    def usd_per_replica(self) -> Fraction:
        """A replica's month: its price less discounts, and its energy."""
        cut = (1 - Fraction(self.discount_ratio)) * (1 - Fraction(self.spot_ratio) * Fraction(self.spot_discount_ratio))
        return Fraction(self.replica_usd_per_month or 0) * cut + self._energy

    @property
    def tokens_per_step(self) -> Fraction | None:
        """Monthly tokens that one replica carries at the mean, its share of the peak kept free; None when flat."""
        if self.replica_tokens_per_month is None:
            return None
        there = 1 - Fraction(self.spot_ratio) * Fraction(self.spot_lost_ratio)
        served = 1 - Fraction(self.fallback_ratio)
        if not served:
            return None
        return Fraction(self.replica_tokens_per_month) / Fraction(self.peak_factor) * there / served

    def replicas(self, tokens: Fraction) -> int:
        """Replicas paid for at a monthly volume; 0 for a plan without replicas."""
        step = self.tokens_per_step
        if step is None:
            return 0
        return max(self.min_replicas, -(-tokens // step)) + self.spare_replicas

    def utilisation(self, tokens: Fraction) -> Fraction | None:
        """Share of the paid replicas' capacity that is used, peaks and spares counted as idle; None when flat."""
        step, count = self.tokens_per_step, self.replicas(tokens)
        return None if step is None or not count else tokens / (step * Fraction(self.peak_factor) * count)

    def usd_per_month(self, tokens: Fraction) -> Fraction:
        """The bill at a monthly volume."""
        return self.usd_fixed + self.usd_per_token * tokens + self.usd_per_replica * self.replicas(tokens)

    def items(self, tokens: Fraction) -> dict[str, Fraction]:
        """The bill by what is paid for; what costs nothing is left out."""
        own = tokens * (1 - Fraction(self.fallback_ratio))
        count = self.replicas(tokens)
        found = {
            "fixed": Fraction(self.fixed_usd_per_month),
            "people": Fraction(self.people_usd_per_month),
            "storage": Fraction(self.storage_usd_per_month),
            "tokens": own * (1 - Fraction(self.discount_ratio)) * self._list_price,
            "egress": own * self._egress,
            "fallback": tokens
            * Fraction(self.fallback_ratio)
            * Fraction(self.fallback_usd_per_million_tokens or 0)
            / 1_000_000,
            "replicas": (self.usd_per_replica - self._energy) * count,
            "energy": self._energy * count,
        }
        return {name: usd for name, usd in found.items() if usd}

    @property
    def _list_price(self) -> Fraction:
        if self.usd_per_million_tokens is not None:
            return Fraction(self.usd_per_million_tokens) / 1_000_000
        return Fraction(self.usd_per_1k_tokens or 0) / 1000

    @property
    def _egress(self) -> Fraction:
        return Fraction(self.egress_usd_per_gb) * Fraction(self.bytes_per_token) / 10**9

    @property
    def _energy(self) -> Fraction:
        kwh = Fraction(self.replica_watts) * Fraction(self.pue) * Fraction(self.hours_per_month) / 1000
        return kwh * Fraction(self.usd_per_kwh)


class PriceTable(BaseModel):
    """Plans to choose from, as a TOML file states them: ``days_per_month``, ``[blend]`` and ``[[plan]]`` tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    days_per_month: Decimal = Field(default=Decimal(30), gt=0)
    note: str | None = None
    blend: Blend | None = None
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


def load_prices(path: Path, catalog: Catalog | None = None) -> PriceTable:
    """Read a price table, ``api`` looked up in ``catalog``. Raises CostError with file, field and value."""
    try:
        document = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise CostError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CostError(f"{path}: is not TOML: {error}") from error
    try:
        table = PriceTable.model_validate(document)
        return table.model_copy(update={"plan": tuple(_priced(plan, table, catalog) for plan in table.plan)})
    except ValidationError as error:
        raise CostError(f"{path}: {first_fault(error)}") from error
    except (CatalogError, CostError) as error:
        raise CostError(f"{path}: {error}") from error


def _priced(plan: Plan, table: PriceTable, catalog: Catalog | None) -> Plan:
    """The plan with one price per token, blended where it has three, and its month as long as the table's."""
    changes: dict[str, object] = {"hours_per_month": table.days_per_month * 24}
    prices: tuple[Decimal | None, ...] = tuple(getattr(plan, name) for name in _APART)
    if plan.api is not None:
        if catalog is None:
            raise CostError(f"plan {plan.name}: api {plan.api!r} needs a catalogue")
        entry = catalog.api(plan.api)
        prices = tuple(Decimal(str(usd)) for usd in (entry.input, entry.cached_input, entry.output))
        changes |= dict(zip(_APART, prices, strict=True))
    if None not in prices:
        if table.blend is None:
            raise CostError(
                f"plan {plan.name}: prices of input, cached and output need a table [blend] of their weights"
            )
        changes["usd_per_million_tokens"] = table.blend.of(*prices)  # type: ignore[arg-type]  # none is None
    return plan.model_copy(update=changes)
