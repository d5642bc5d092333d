"""What ``loadline dashboard serve`` takes, checked once."""

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
