"""Dated lists of GPUs, models, API prices (each with its source) and patterns; one's own file replaces entries."""

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.errors import CatalogError
from planner.slo import first_fault


class Gpu(BaseModel):
    """A GPU: memory and bandwidth in GB (10^9), dense 16-bit TFLOPS, $ per hour (None: no price known)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory_gb: float = Field(gt=0)
    bandwidth_gb_s: float = Field(gt=0)
    tflops: float = Field(gt=0)
    usd_per_hour: float | None = Field(default=None, ge=0)
    instance: str | None = None
    source: str = ""


class ModelSheet(BaseModel):
    """A decoder model's shape; ``params_b`` billions of parameters, ``active_b`` those that one token uses."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    params_b: float = Field(gt=0)
    active_b: float | None = Field(default=None, gt=0)
    layers: int = Field(gt=0)
    hidden: int = Field(gt=0)
    intermediate: int = Field(gt=0)
    kv_heads: int = Field(gt=0)
    head_dim: int = Field(gt=0)
    vocab: int = Field(gt=0)
    source: str = ""


class Api(BaseModel):
    """An API's list price, $ per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    input: float = Field(ge=0)
    cached_input: float = Field(ge=0)
    output: float = Field(ge=0)
    source: str = ""


class Pattern(BaseModel):
    """A way in which an organisation runs a model: load, lengths, growth, and what it pays beside GPUs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    what: str = ""
    model: str
    api: str
    requests_per_day: float = Field(gt=0)
    prompt_tokens: float = Field(ge=1)
    output_tokens: float = Field(ge=1)
    cached_ratio: float = Field(default=0.0, ge=0, lt=1)
    peak_factor: float = Field(default=3.0, ge=1)
    growth_per_month: float = Field(default=0.2, gt=-1)
    months: int = Field(default=6, ge=0, le=120)
    spare: int = Field(default=2, ge=0)
    people_usd_per_month: float = Field(default=0.0, ge=0)
    storage_usd_per_month: float = Field(default=0.0, ge=0)
    discount_ratio: float = Field(default=0.0, ge=0, lt=1)
    retrieval_ratio: float = Field(default=0.5, ge=0, le=1)


class Catalog(BaseModel):
    """Everything that a list holds; ``as_of`` is the day on which its prices were those of their sources."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    as_of: str
    price_source: str = ""
    gpus: tuple[Gpu, ...] = ()
    models: tuple[ModelSheet, ...] = ()
    apis: tuple[Api, ...] = ()
    patterns: tuple[Pattern, ...] = ()

    def gpu(self, name: str) -> Gpu:
        """A GPU by name, in any case. Raises CatalogError."""
        found: Gpu = _named(self.gpus, name, "GPU")
        return found

    def model(self, name: str) -> ModelSheet:
        """A model by name, in any case. Raises CatalogError."""
        found: ModelSheet = _named(self.models, name, "model")
        return found

    def api(self, name: str) -> Api:
        """An API by name, in any case. Raises CatalogError."""
        found: Api = _named(self.apis, name, "API")
        return found

    def pattern(self, name: str) -> Pattern:
        """A pattern of use by name, in any case. Raises CatalogError."""
        found: Pattern = _named(self.patterns, name, "pattern")
        return found


def load_catalog(own: Path | None = None) -> Catalog:
    """The shipped lists, entries of ``own`` (YAML of the same form) in place of those of the same name."""
    parts = [_parse(entry.read_text(), entry.name) for entry in sorted(files(__name__).iterdir(), key=lambda e: e.name)
             if entry.name.endswith(".yaml")]  # fmt: skip
    if own is not None:
        try:
            parts.append(_parse(own.read_text(), str(own)))
        except OSError as error:
            raise CatalogError(f"{own}: cannot be read: {error.strerror}") from error
    return Catalog(
        as_of=", ".join(dict.fromkeys(part.as_of for part in parts if part.gpus or part.models or part.apis)),
        price_source=next((part.price_source for part in reversed(parts) if part.price_source), ""),
        gpus=_merged(part.gpus for part in parts),
        models=_merged(part.models for part in parts),
        apis=_merged(part.apis for part in parts),
        patterns=_merged(part.patterns for part in parts),
    )


def _parse(text: str, where: str) -> Catalog:
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CatalogError(f"{where}: is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(document, dict):
        raise CatalogError(f"{where}: is not a mapping of as_of, gpus, models and apis")
    try:
        return Catalog.model_validate({**document, "as_of": str(document.get("as_of", "undated"))})
    except ValidationError as error:
        raise CatalogError(f"{where}: {first_fault(error)}") from error


def _merged(lists: Iterable[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple({entry.name.lower(): entry for entries in lists for entry in entries}.values())


def _named(entries: tuple[Any, ...], name: str, what: str) -> Any:
    for entry in entries:
        if entry.name.lower() == name.lower():
            return entry
    raise CatalogError(f"{what} {name!r}: must be one of {', '.join(entry.name for entry in entries)}")
