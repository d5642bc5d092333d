"""The promise: what latency, success and goodput a service owes its users."""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.errors import SloError


class Slo(BaseModel):
    """A promise on percentiles over all requests; latencies in seconds from the moment a request was due.

    ``goodput_ratio`` is the share of requests that must each meet the three latencies (``itl_p95_s`` against the
    request's own time per output token) and succeed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft_p95_s: float = Field(default=0.8, gt=0, description="95th percentile of time to first token, seconds")
    itl_p95_s: float = Field(default=0.05, gt=0, description="95th percentile of the gap between tokens, seconds")
    e2e_p95_s: float = Field(default=12.0, gt=0, description="95th percentile of whole-request latency, seconds")
    success_ratio: float = Field(default=0.999, gt=0, le=1, description="share of requests that must succeed")
    goodput_ratio: float = Field(default=0.95, gt=0, le=1, description="share of requests that must meet every latency")


def load_slo(path: Path) -> Slo:
    """Read a promise from TOML: the table ``[slo]``, or the whole file. Raises SloError."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SloError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SloError(f"{path}: is not TOML: {error}") from error
    table = document.get("slo", document)
    try:
        return Slo.model_validate(table)
    except ValidationError as error:
        raise SloError(f"{path}: {first_fault(error)}") from error


def first_fault(error: ValidationError) -> str:
    """One line for the first fault that pydantic found: field, what is wrong, the value."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "document"
    return f"{where}: {fault['msg'].lower()}, found {fault.get('input')!r}"[:200]
