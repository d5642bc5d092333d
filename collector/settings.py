"""What ``loadline collector serve`` may be told; also the ``[collector]`` section of ``loadline.toml``."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from collector.model.errors import QueryError
from collector.promql.durations import parse_duration_ms


def check_duration(text: str) -> str:
    """``text`` itself if it is a duration longer than nothing; ValueError otherwise."""
    try:
        duration_ms = parse_duration_ms(text)
    except QueryError as error:
        raise ValueError("a duration looks like 5s, 1h30m or 15d") from error
    if duration_ms <= 0:
        raise ValueError("a duration is longer than nothing")
    return text


Duration = Annotated[str, AfterValidator(check_duration)]
"""Text such as ``5s``, ``1h30m``, ``15d``."""

Port = Annotated[int, Field(ge=0, le=65_535)]
"""A TCP port; 0 lets the system choose."""


class CollectorSettings(BaseModel):
    """Settings of the collector process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: Port = 9190
    data: Path = Path("data/collector")
    scrape: tuple[str, ...] = ()
    config: Path | None = None
    interval: Duration = "5s"
    timeout: Duration = "5s"
    retention: Duration = "15d"
    lookback: Duration = "5m"
    query_timeout: Duration = "2m"
    left_open: bool = True
    query_max_samples: Annotated[int, Field(gt=0)] = 50_000_000
    max_body_bytes: Annotated[int, Field(gt=0)] = 64 << 20
    alerts_url: str = "http://127.0.0.1:9193"
    otlp_port: Port | None = None
    otlp_grpc_port: Port | None = None
    span_metrics: bool = True
    forward_remote_write: tuple[str, ...] = ()
    forward_otlp: tuple[str, ...] = ()
    forward_token_file: Path | None = None
    forward_config: Path | None = None
    auth_token_file: Path | None = None
    telemetry: bool = True

    def as_texts(self) -> dict[str, str]:
        """Every setting as a text, by the name of its option."""
        return {name.replace("_", "-"): _text(value) for name, value in self}


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def seconds(duration: str) -> float:
    """A checked duration in seconds."""
    return parse_duration_ms(duration) / 1000
