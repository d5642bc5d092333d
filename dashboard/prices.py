"""What tokens and replicas cost: the operator's price list (TOML), dated, and the planner's catalogue of API prices."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dashboard.errors import SettingsError
from dashboard.words import say
from planner.catalog import Api, Catalog, load_catalog
from planner.errors import CatalogError
from planner.money.cost import Plan
from planner.slo import first_fault

ANY = "*"


class PoolPrice(BaseModel):
    """What one replica of a pool costs an hour: said outright, or ``gpus`` of a ``gpu`` of the catalogue."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_replica_hour: float | None = Field(None, ge=0)
    gpu: str | None = None
    gpus: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _priced_once(self) -> "PoolPrice":
        if (self.usd_per_replica_hour is None) == (self.gpu is None):
            raise ValueError("needs one of usd_per_replica_hour and gpu")
        return self


class PriceList(BaseModel):
    """A file of one's own: ``as_of``, ``[pools.NAME]`` (``*``: all others), ``api``, ``[[plan]]`` for break-evens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: str = Field(min_length=1)
    api: str | None = None
    pools: dict[str, PoolPrice] = {}
    days_per_month: Decimal = Field(default=Decimal(30), gt=0)
    plan: tuple[Plan, ...] = ()


@dataclass(frozen=True, slots=True)
class Priced:
    """A replica's price, $ per hour, the GPUs in it, and where the price is from, with its date."""

    usd_per_hour: float
    gpus: float
    source: str


@dataclass(frozen=True, slots=True)
class Prices:
    """``catalog`` is the planner's; ``own`` the operator's list, None without one."""

    catalog: Catalog
    own: PriceList | None = None

    def replica(self, pool: str, usd_per_hour: float | None = None) -> Priced | None:
        """What a replica of ``pool`` costs; ``usd_per_hour`` (from the address) goes before the list. None: unknown."""
        if usd_per_hour is not None:
            return Priced(usd_per_hour, self._gpus(pool), "as typed on this page")
        entry = self._entry(pool)
        if entry is None or self.own is None:
            return None
        if entry.usd_per_replica_hour is not None:
            source = say("price list of {date}", date=self.own.as_of)
            return Priced(entry.usd_per_replica_hour, entry.gpus, source)
        gpu = self.catalog.gpu(entry.gpu or "")
        source = say("{n} × {gpu}, catalogue of {date}", n=f"{entry.gpus:g}", gpu=gpu.name, date=self.catalog.as_of)
        return Priced((gpu.usd_per_hour or 0.0) * entry.gpus, entry.gpus, source)

    def api(self, name: str | None = None) -> Api:
        """The API to hold against: ``name``, else the list's, else the catalogue's first."""
        wanted = name or (self.own.api if self.own is not None else None)
        found = {api.name: api for api in self.catalog.apis}
        return found.get(wanted or "", self.catalog.apis[0])

    def _entry(self, pool: str) -> PoolPrice | None:
        pools: Mapping[str, PoolPrice] = self.own.pools if self.own is not None else {}
        return pools.get(pool) or pools.get(ANY)

    def _gpus(self, pool: str) -> float:
        entry = self._entry(pool)
        return entry.gpus if entry is not None else 1.0


def load_list(path: Path | None, catalog: Catalog) -> PriceList | None:
    """Read a price list; every GPU and API that it names must be in the catalogue, priced. Raises SettingsError."""
    if path is None:
        return None
    try:
        found = PriceList.model_validate(tomllib.loads(path.read_text("utf-8"), parse_float=Decimal))
        for name, pool in found.pools.items():
            if pool.gpu is not None and catalog.gpu(pool.gpu).usd_per_hour is None:
                raise SettingsError(f"{path}: pools.{name}: the catalogue has no price for GPU {pool.gpu!r}")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"--prices: {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: is not TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {first_fault(error)}") from error
    except CatalogError as error:
        raise SettingsError(f"{path}: {error}") from error
    known = [api.name for api in catalog.apis]
    if found.api is not None and found.api not in known:
        raise SettingsError(f"{path}: api is {found.api!r}; must be one of {', '.join(known)}")
    return found


def load(own: Path | None = None, catalog: Path | None = None) -> Prices:
    """The planner's catalogue, entries of the file ``catalog`` in place of its own, and the list ``own``."""
    try:
        listed = load_catalog(catalog)
    except CatalogError as error:
        raise SettingsError(f"--catalog: {error}") from error
    return Prices(listed, load_list(own, listed))
