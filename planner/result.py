"""The result of playing a trace: one schema for a replay against a server and for a run of the twin.

Times are seconds from the start of the run. Definitions (one for all): TTFT = first token - due (or - sent);
TPOT = (last token - first token) / (output tokens - 1); ITL = gaps between a request's tokens, pooled; E2E = end - due
(or - sent). A request that did not end well has no latency and counts against goodput.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from planner.errors import RunError
from planner.slo import Slo, first_fault

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FORMAT = "loadline-run"
VERSION = 1
STATUSES = ("ok", "error", "timeout", "cancelled", "rejected", "unfinished")
_TIMES = ("due_s", "sent_s", "first_token_s", "last_token_s", "end_s")
_ARRAYS = (*_TIMES, "row_id", "input_tokens", "output_tokens", "cached_tokens", "status")
PERCENTILES = (50.0, 90.0, 95.0, 99.0)


class RunHeader(BaseModel):
    """What was played, against what, and how.

    ``trace_sha256`` is ``Trace.sha256()`` of the shaped trace; ``shaping`` is what ``workload.Shaping`` dumps;
    ``details`` holds what only one kind has (the twin's steps outside the hull, the replay's lag verdict …). Requests
    due before ``warm_up_s`` were played and are left out of every figure.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["replay", "twin"]
    target: str
    model: str
    trace: str
    trace_sha256: str
    shaping: dict[str, Any] = {}
    seed: int = 0
    slo: Slo | None = None
    started_at: str | None = None
    versions: dict[str, str] = {}
    details: dict[str, Any] = {}
    warm_up_s: float = 0.0


STEP_SIGNALS = {
    "prefill_tokens": "step_prefill_tokens",
    "prefill_attention": "step_prefill_attention",
    "decode_seqs": "step_decode_sequences",
    "decode_kv_tokens": "step_decode_kv_tokens",
}
"""Signal whose growth over an interval is a field of ``Observation``."""


class Observation(BaseModel):
    """What the engine did in one step, or summed over one interval: the ground that a step-time model is fitted on.

    ``wall_s`` is the summed wall time of the steps. Times are seconds on the run's clock (or any one clock).
    ``ttft_sum_s``/``ttft_count`` are the increase of the engine's own TTFT histogram.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    steps: float = 1.0
    wall_s: float
    prefill_tokens: float
    prefill_attention: float
    decode_seqs: float
    decode_kv_tokens: float
    start_s: float | None = None
    end_s: float | None = None
    ttft_sum_s: float | None = None
    ttft_count: float | None = None


@dataclass(frozen=True, slots=True)
class Requests:
    """One row per request of the shaped trace, in its order; every array is (rows,).

    Times are float64 seconds from the run's start, NaN where the event never came. ``cached_tokens`` is float64, NaN
    where the server did not say; ``server_ttft_s`` (from the arrival at the server) and ``server_queue_s``, which a
    join with the server's spans fills, likewise. ``token_times_s`` has one array per request or is None.
    """

    row_id: IntArray
    due_s: FloatArray
    sent_s: FloatArray
    first_token_s: FloatArray
    last_token_s: FloatArray
    end_s: FloatArray
    input_tokens: IntArray
    output_tokens: IntArray
    cached_tokens: FloatArray
    status: npt.NDArray[np.str_]
    error: tuple[str | None, ...]
    server_ttft_s: FloatArray | None = None
    token_times_s: tuple[FloatArray, ...] | None = None
    server_queue_s: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.row_id)

    def take(self, index: IntArray) -> "Requests":
        """The rows at ``index``, in its order."""
        columns = {name: getattr(self, name)[index] for name in _ARRAYS}
        server, queue, tokens = self.server_ttft_s, self.server_queue_s, self.token_times_s
        return Requests(
            **columns,
            error=tuple(self.error[row] for row in index.tolist()),
            server_ttft_s=None if server is None else server[index],
            server_queue_s=None if queue is None else queue[index],
            token_times_s=None if tokens is None else tuple(tokens[row] for row in index.tolist()),
        )


@dataclass(frozen=True, slots=True)
class Distribution:
    """A latency over the requests (or gaps) that have it, seconds; all None when nothing has it."""

    n: int
    mean: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: FloatArray) -> "Distribution":
        """From values in seconds; NaN are left out."""
        kept = values[~np.isnan(values)]
        if not len(kept):
            return cls(0, None, None, None, None, None, None)
        p50, p90, p95, p99 = (float(v) for v in np.percentile(kept, PERCENTILES))
        return cls(len(kept), float(kept.mean()), p50, p90, p95, p99, float(kept.max()))


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in numbers. ``latency`` holds ttft_due_s, ttft_sent_s, itl_s, tpot_s, e2e_due_s, e2e_sent_s, lag_s.

    ``goodput_ratio`` is the share of all requests that met the SLO, ``goodput_per_s`` their rate; None without SLO.
    """

    requests: int
    by_status: Mapping[str, int]
    duration_s: float
    requests_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    latency: Mapping[str, Distribution]
    success_ratio: float
    goodput_ratio: float | None
    goodput_per_s: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """A played trace: header, one row per request, and what the engine did meanwhile."""

    header: RunHeader
    requests: Requests
    observations: tuple[Observation, ...] = field(default=())

    def doubt(self, name: str) -> str | None:
        """Why the run ``name`` should not be trusted, by its own verdict; None where it may be."""
        if self.header.details.get("valid") is not False:
            return None
        reasons = "; ".join(map(str, self.header.details.get("reasons", ()))) or "no reason is given"
        return f"{name} is not a valid run ({reasons}): what was measured is not what was asked for"

    def measured(self) -> "Run":
        """The run without its warm-up."""
        if not self.header.warm_up_s:
            return self
        kept = np.flatnonzero(self.requests.due_s >= self.header.warm_up_s)
        return replace(
            self, requests=self.requests.take(kept), header=self.header.model_copy(update={"warm_up_s": 0.0})
        )

    def latencies(self) -> dict[str, FloatArray]:
        """Latencies in seconds by name, (rows,) with NaN where a request has none; ``itl_s`` is (gaps,), pooled."""
        r = self.requests
        ok = r.status == "ok"
        first, last, end = (np.where(ok, t, np.nan) for t in (r.first_token_s, r.last_token_s, r.end_s))
        with np.errstate(divide="ignore", invalid="ignore"):
            tpot = np.where(r.output_tokens > 1, (last - first) / (r.output_tokens - 1), np.nan)
        gaps: list[FloatArray] = []
        if r.token_times_s is not None:
            gaps = [np.diff(times) for times, good in zip(r.token_times_s, ok, strict=True) if good and len(times) > 1]
        return {
            "ttft_due_s": first - r.due_s,
            "ttft_sent_s": first - r.sent_s,
            "itl_s": np.concatenate(gaps) if gaps else np.zeros(0),
            "tpot_s": tpot,
            "e2e_due_s": end - r.due_s,
            "e2e_sent_s": end - r.sent_s,
            "lag_s": r.sent_s - r.due_s,
        }

    def good(self, slo: Slo) -> npt.NDArray[np.bool_]:
        """Which requests met every latency of the promise and succeeded, (rows,)."""
        found = self.latencies()
        tpot = found["tpot_s"]
        return np.asarray(
            (self.requests.status == "ok")
            & (found["ttft_due_s"] <= slo.ttft_p95_s)
            & (np.isnan(tpot) | (tpot <= slo.itl_p95_s))
            & (found["e2e_due_s"] <= slo.e2e_p95_s)
        )

    def summary(self, slo: Slo | None = None) -> Summary:
        """The run in numbers without its warm-up, goodput under ``slo`` or, without one, under the header's."""
        if self.header.warm_up_s:
            return self.measured().summary(slo)
        r = self.requests
        slo = slo or self.header.slo
        ok = r.status == "ok"
        names, counts = np.unique(r.status, return_counts=True)
        ends = r.end_s[~np.isnan(r.end_s)]
        duration = float(ends.max() - r.due_s.min()) if len(ends) else 0.0
        per_s = 1.0 / duration if duration > 0 else 0.0
        good = self.good(slo) if slo is not None else None
        return Summary(
            requests=len(r),
            by_status={str(name): int(count) for name, count in zip(names, counts, strict=True)},
            duration_s=duration,
            requests_per_s=float(ok.sum()) * per_s,
            input_tokens_per_s=float(r.input_tokens[ok].sum()) * per_s,
            output_tokens_per_s=float(r.output_tokens[ok].sum()) * per_s,
            latency={name: Distribution.of(values) for name, values in self.latencies().items()},
            success_ratio=float(ok.mean()) if len(r) else 0.0,
            goodput_ratio=float(good.mean()) if good is not None and len(r) else None,
            goodput_per_s=float(good.sum()) * per_s if good is not None else None,
        )

    def write(self, path: Path) -> None:
        """Write as JSON, NaN as null. Raises RunError when the file cannot be written."""
        r = self.requests
        columns: dict[str, Any] = {name: getattr(r, name).tolist() for name in _ARRAYS}
        columns["error"] = list(r.error)
        if r.server_ttft_s is not None:
            columns["server_ttft_s"] = r.server_ttft_s.tolist()
        if r.server_queue_s is not None:
            columns["server_queue_s"] = r.server_queue_s.tolist()
        if r.token_times_s is not None:
            columns["token_times_s"] = [times.tolist() for times in r.token_times_s]
        document = {
            "format": FORMAT,
            "version": VERSION,
            "header": self.header.model_dump(mode="json"),
            "requests": columns,
            "observations": [o.model_dump(mode="json", exclude_none=True) for o in self.observations],
        }
        try:
            path.write_bytes(orjson.dumps(document))
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error


class _Columns(BaseModel):
    model_config = ConfigDict(extra="forbid")

    row_id: list[int]
    due_s: list[float]
    sent_s: list[float | None]
    first_token_s: list[float | None]
    last_token_s: list[float | None]
    end_s: list[float | None]
    input_tokens: list[int]
    output_tokens: list[int]
    cached_tokens: list[float | None]
    status: list[Literal["ok", "error", "timeout", "cancelled", "rejected", "unfinished"]]
    error: list[str | None]
    server_ttft_s: list[float | None] | None = None
    server_queue_s: list[float | None] | None = None
    token_times_s: list[list[float]] | None = None


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["loadline-run"]
    version: Literal[1]
    header: RunHeader
    requests: _Columns
    observations: list[Observation] = []


def run_schema() -> dict[str, Any]:
    """JSON Schema of a run file."""
    return _Document.model_json_schema()


def read_run(path: Path) -> Run:
    """Read and validate a run file. Raises RunError with file, field and value."""
    try:
        document = _Document.model_validate(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise RunError(f"{path}: is not JSON: {error}") from error
    except ValidationError as error:
        raise RunError(f"{path}: is not a run: {first_fault(error)}") from error
    columns = document.requests
    rows = len(columns.row_id)
    for name, values in columns:
        if values is not None and len(values) != rows:
            raise RunError(f"{path}: requests.{name} has {len(values)} rows, row_id has {rows}")
    if len(set(columns.row_id)) != rows:
        raise RunError(f"{path}: requests.row_id names a row twice")
    requests = Requests(
        row_id=np.array(columns.row_id, dtype=np.int64),
        due_s=_floats(columns.due_s),
        sent_s=_floats(columns.sent_s),
        first_token_s=_floats(columns.first_token_s),
        last_token_s=_floats(columns.last_token_s),
        end_s=_floats(columns.end_s),
        input_tokens=np.array(columns.input_tokens, dtype=np.int64),
        output_tokens=np.array(columns.output_tokens, dtype=np.int64),
        cached_tokens=_floats(columns.cached_tokens),
        status=np.array(columns.status, dtype=np.str_),
        error=tuple(columns.error),
        server_ttft_s=None if columns.server_ttft_s is None else _floats(columns.server_ttft_s),
        server_queue_s=None if columns.server_queue_s is None else _floats(columns.server_queue_s),
        token_times_s=None if columns.token_times_s is None else tuple(_floats(t) for t in columns.token_times_s),
    )
    return Run(document.header, requests, tuple(document.observations))


def _floats(values: Sequence[float | None]) -> FloatArray:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
