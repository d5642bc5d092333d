"""What ``loadline engine gateway`` takes."""

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from probe_engine.gateway.errors import SettingsError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True, slots=True)
class Upstream:
    """One replica: its base URL, its weight, and where its GPU's memory is exposed, if anywhere."""

    url: str
    weight: float = 1.0
    gpu_metrics_url: str | None = None


class Limits(BaseModel):
    """None is no limit. Tokens are prompt and output together; a user is a tenant or an API key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_requests_per_min: Positive | None = None
    user_tokens_per_min: Positive | None = None
    user_tokens_per_day: Positive | None = None
    model_concurrency: Count | None = None
    tokens_per_s: Positive | None = None
    burst_s: Positive = 5.0


class GatewaySettings(Limits):
    """Settings of one gateway process.

    upstream: ``URL[,weight=2][,gpu=URL]``. routing: see ``router.py``; prefix_characters of the prompt are what
    ``prefix`` hashes, and load_bound is how far above the mean a load may go. max_in_flight: requests at once.
    burst_s: seconds of ``tokens_per_s`` that may come at once. breaker_*: see ``breaker.py``. retries: further replicas
    that are tried for a request of which no answer has come. cache_entries: 0 is no cache in the
    process; cache_redis_url: keep answers there instead. restart_command: what
    ``POST /admin/restart`` runs, split as a shell does, with the replica's URL in ``LOADLINE_REPLICA``.
    """

    upstream: Annotated[tuple[str, ...], Field(min_length=1)]
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8008
    routing: Literal["round_robin", "least_load", "prefix"] = "least_load"
    prefix_characters: Count = 256
    load_bound: Annotated[float, Field(ge=1)] = 1.25
    max_in_flight: Count = 1024
    max_body_bytes: Count = 16 * 1024 * 1024
    breaker_error_ratio: Share = 0.5
    breaker_error_window_s: Positive = 10.0
    breaker_least_requests: Count = 10
    breaker_p99_s: Positive = 10.0
    breaker_slow_for_s: Positive = 60.0
    breaker_gpu_memory_ratio: Share = 0.95
    breaker_queue: Count = 1000
    breaker_open_s: Positive = 30.0
    breaker_trials: Count = 3
    probe_interval_s: Positive = 2.0
    probe_timeout_s: Positive = 1.0
    unhealthy_after: Count = 2
    retries: Annotated[int, Field(ge=0)] = 2
    connect_timeout_s: Positive = 2.0
    answer_timeout_s: Positive = 600.0
    cache_entries: Annotated[int, Field(ge=0)] = 0
    cache_ttl_s: Positive = 300.0
    cache_redis_url: str | None = None
    auth_token_file: Path | None = None
    admin_token_file: Path | None = None
    upstream_token_file: Path | None = None
    restart_command: str | None = None

    @field_validator("upstream")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        urls = [parse_upstream(text).url for text in texts]
        twice = next((url for url in urls if urls.count(url) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} stands there twice")
        return texts

    @field_validator("restart_command")
    @classmethod
    def _splits(cls, text: str | None) -> str | None:
        if text is not None and not shlex.split(text):
            raise ValueError("a command is wanted, as 'systemctl restart engine'")
        return text

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """``upstream`` as values."""
        return tuple(map(parse_upstream, self.upstream))

    @property
    def limits(self) -> Limits:
        """The limits alone."""
        return Limits(**{name: getattr(self, name) for name in Limits.model_fields})


class UpGatewaySettings(GatewaySettings):
    """``[gateway]`` of ``loadline.toml``: ``loadline up`` runs one when ``enabled``, before the engine that it starts.

    upstream: replicas in its place; empty is that engine.
    """

    enabled: bool = False
    upstream: tuple[str, ...] = ()


def parse_upstream(text: str) -> Upstream:
    """``URL[,weight=NUMBER][,gpu=URL]``; ValueError says what is wrong."""
    url, *options = text.split(",")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{url!r} is no URL; an upstream looks like http://127.0.0.1:8000,weight=2")
    weight, gpu = 1.0, None
    for option in options:
        name, _, value = option.partition("=")
        if name == "weight":
            weight = _weight(value)
        elif name == "gpu" and urlsplit(value).hostname:
            gpu = value
        else:
            raise ValueError(f"{option!r} in {text!r}; weight=NUMBER and gpu=URL are allowed")
    return Upstream(url.rstrip("/"), weight, gpu)


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = 0.0
    if not 0 < weight < 1e6:
        raise ValueError(f"weight is {text!r}; a number above 0 is allowed")
    return weight


def read_config(path: Path) -> Mapping[str, Any]:
    """The table ``[gateway]`` of a TOML file, or the file itself when it has none; raises ``SettingsError``."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    table = found.get("gateway", found)
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: gateway is {table!r}; it must be a table")
    return table
