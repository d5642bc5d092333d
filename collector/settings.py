"""What ``loadline collector serve`` may be told; also the ``[collector]`` section of ``loadline.toml``."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from collector.model.durations import SHAPE, parse_duration_ms


def check_duration(text: str) -> str:
    """``text`` itself if it is a duration longer than nothing; ValueError otherwise."""
    if milliseconds(text) <= 0:
        raise ValueError("a duration is longer than nothing")
    return text


def _check_any(text: str) -> str:
    milliseconds(text)
    return text


Duration = Annotated[str, AfterValidator(check_duration)]
"""Text such as ``5s``, ``1h30m``, ``15d``."""

DurationOrNone = Annotated[str, AfterValidator(_check_any)]
"""The same, or ``0``."""

Positive = Annotated[int, Field(gt=0)]

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
    retention_bytes: Positive | None = None
    downsample_after: Duration | None = None
    out_of_order: DurationOrNone = "10m"
    cache_bytes: Positive = 64 << 20
    lookback: Duration = "5m"
    query_timeout: Duration = "2m"
    left_open: bool = True
    delayed_name_removal: bool = False
    query_max_samples: Positive = 50_000_000
    max_body_bytes: Positive = 64 << 20
    cors_origin: tuple[str, ...] = ()
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
    return milliseconds(duration) / 1000


def milliseconds(duration: str) -> int:
    """A duration in milliseconds; ValueError where it is none."""
    duration_ms = parse_duration_ms(duration)
    if duration_ms is None:
        raise ValueError(SHAPE)
    return duration_ms
