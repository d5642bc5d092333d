"""Settings of ``loadline alerts serve``, declared once."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collector.model.durations import SHAPE, parse_duration_ms


def _duration(text: str) -> str:
    if not parse_duration_ms(text):
        raise ValueError(f"must be a duration above 0; {SHAPE}")
    return text


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("must be an address that begins with http:// or https://")
    return text


def _host_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be host:port, such as 127.0.0.1:25")
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
    slack_url_file: Path | None = Field(default=None, description="File with the address of a Slack incoming webhook.")
    pagerduty_key_file: Path | None = Field(default=None, description="File with a PagerDuty routing key (Events v2).")
    pagerduty_url: Address = Field(
        default="https://events.pagerduty.com/v2/enqueue", description="Where PagerDuty takes events."
    )
    email_to: tuple[str, ...] = Field(default=(), description="Addresses that get mails.")
    email_from: str = Field(default="loadline@localhost", description="Address that mails come from.")
    smtp: Annotated[str, AfterValidator(_host_port)] = Field(
        default="127.0.0.1:25", description="Mail server, host:port; TLS on port 587 and where smtp_user is given."
    )
    smtp_user: str = Field(default="", description="User of the mail server.")
    smtp_password_file: Path | None = Field(default=None, description="File with the password of smtp_user.")
    notify_config: Path | None = Field(
        default=None, description="File with group_by, its times and inhibit_rules, as Alertmanager writes them."
    )
    responses: Path | None = Field(
        default=None, description="TOML file with the catalogue of responses; without it none acts unasked."
    )
    gateway: Address | None = Field(default=None, description="Gateway whose admin API carries responses out.")
    gateway_token_file: Path | None = Field(default=None, description="File with the gateway's admin token.")
    operator_token_file: Path | None = Field(
        default=None, description="File with the bearer token for confirming, dismissing and undoing responses."
    )
    response_log: Path | None = Field(
        default=None, description="File that gets a line of JSON for each change of a response (beside the state file)."
    )
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

    @model_validator(mode="after")
    def _gateway_has_a_token(self) -> Self:
        if self.gateway is not None and self.gateway_token_file is None:
            raise ValueError("gateway needs gateway_token_file: the gateway's admin API asks for a token")
        return self

    @property
    def journal(self) -> Path | None:
        """Where changes of responses are written; None where there is no state file either."""
        if self.response_log is None and self.state is not None:
            return self.state.with_name("responses.jsonl")
        return self.response_log

    @property
    def interval_s(self) -> float:
        """``interval`` in seconds."""
        return (parse_duration_ms(self.interval) or 0) / 1000
