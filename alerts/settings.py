"""Settings of ``loadline alerts serve``, declared once."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from alerts.duration import SHAPE, parse_duration_ms


def _duration(text: str) -> str:
    if not parse_duration_ms(text):
        raise ValueError(f"must be a duration above 0; {SHAPE}")
    return text


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("must be an address that begins with http:// or https://")
    return text


Address = Annotated[str, AfterValidator(_address)]


class AlertsSettings(BaseModel):
    """What ``serve`` takes; every field is a flag and an environment variable ``LOADLINE_ALERTS_<FIELD>``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on; beyond loopback a token is needed.")
    port: int = Field(default=9193, ge=0, le=65535, description="Port to listen on.")
    source: Address = Field(
        default="http://127.0.0.1:9190", description="Prometheus-compatible server to evaluate the rules against."
    )
    source_token_file: Path | None = Field(default=None, description="File with the bearer token of the source.")
    rules: tuple[Path, ...] = Field(default=(), description="Rule files; the packs that come along if none is given.")
    webhook: tuple[Address, ...] = Field(default=(), description="Addresses that get Alertmanager's webhook payload.")
    alertmanager: tuple[Address, ...] = Field(default=(), description="Alertmanagers, by root address.")
    state: Path | None = Field(
        default=None, description="File that keeps alerts and undelivered notifications over a restart."
    )
    interval: Annotated[str, AfterValidator(_duration)] = Field(
        default="30s", description="Time between evaluations of groups that give none."
    )
    external_url: Address = Field(
        default="http://127.0.0.1:8050", description="Page for people that notifications link to."
    )
    auth_token_file: Path | None = Field(default=None, description="File with the bearer token that clients must send.")

    @property
    def interval_s(self) -> float:
        """``interval`` in seconds."""
        return (parse_duration_ms(self.interval) or 0) / 1000
