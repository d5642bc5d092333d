"""What ``loadline dashboard serve`` takes, checked once."""

from ipaddress import ip_network
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class DashboardSettings(BaseModel):
    """Settings of the dashboard's server. Raises pydantic's ValidationError, which names field, value and reason."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field("http://127.0.0.1:9190", description="address of a Prometheus-compatible server")
    host: str = Field("127.0.0.1", description="address to listen on; beyond loopback needs auth_token_file")
    port: int = Field(8050, ge=1, le=65_535, description="port to listen on")
    slo: Path | None = Field(None, description="TOML file with the promise; its defaults otherwise")
    path_prefix: str = Field("/", description="path under which a proxy serves the dashboard")
    auth_token_file: Path | None = Field(None, description="file with the token that viewers need")
    source_token_file: Path | None = Field(None, description="file with the token that the source needs")
    grafana_url: str = Field("", description="address of a Grafana in which queries can be opened too")
    grafana_datasource: str = Field("", description="uid of its data source; its default one if empty")
    alerts: str = Field("http://127.0.0.1:9193", description="address of the alerts process; none if empty")
    alerts_token_file: Path | None = Field(None, description="file with the token that the alerts process needs")
    operator_token_file: Path | None = Field(None, description="file with the token of those who may change things")
    trusted_proxy: tuple[str, ...] = Field((), description="networks of proxies whose user_header is believed")
    user_header: str = Field("X-Forwarded-User", description="header in which a trusted proxy names its user")
    operators: tuple[str, ...] = Field((), description="users of a trusted proxy who are operators; * for all")
    prices: Path | None = Field(None, description="TOML file with what replicas cost")
    catalog: Path | None = Field(None, description="YAML file with own entries for the planner's catalogue")
    replay_targets: tuple[str, ...] = Field((), description="servers that traces may be played against")
    runs: Path = Field(Path("data/runs"), description="folder of runs")
    traces: tuple[Path, ...] = Field((Path("samples/traces"),), description="folders of traces to choose from")
    uploads: Path = Field(Path("data/traces"), description="folder for traces that are uploaded")
    max_upload_mb: int = Field(2000, ge=1, description="largest trace that may be uploaded, MB")
    threads: int = Field(8, ge=1, le=64, description="requests answered at once")

    @field_validator("path_prefix")
    @classmethod
    def _slashes(cls, prefix: str) -> str:
        if any(character in prefix for character in "?#\\ \"'<>") or "//" in prefix:
            raise ValueError("a path prefix looks like /loadline/")
        return f"/{prefix.strip('/')}/" if prefix.strip("/") else "/"

    @field_validator("grafana_url")
    @classmethod
    def _grafana(cls, address: str) -> str:
        if address and not address.startswith(("http://", "https://")):
            raise ValueError("a Grafana looks like http://127.0.0.1:3000")
        return address.rstrip("/")

    @field_validator("source")
    @classmethod
    def _address(cls, source: str) -> str:
        if not source.startswith(("http://", "https://")):
            raise ValueError("a source looks like http://127.0.0.1:9190")
        return source.rstrip("/")

    @field_validator("alerts")
    @classmethod
    def _alerts(cls, address: str) -> str:
        if address and not address.startswith(("http://", "https://")):
            raise ValueError("an alerts process looks like http://127.0.0.1:9193")
        return address.rstrip("/")

    @field_validator("replay_targets")
    @classmethod
    def _targets(cls, targets: tuple[str, ...]) -> tuple[str, ...]:
        if any(not target.startswith(("http://", "https://", "twin:", "engine:")) for target in targets):
            raise ValueError("a target looks like http://127.0.0.1:8000, twin:model.json or engine:MODEL")
        return tuple(target.rstrip("/") for target in targets)

    @field_validator("trusted_proxy")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError("a trusted proxy looks like 127.0.0.1 or 10.0.0.0/8") from error
        return networks
