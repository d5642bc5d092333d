"""The shaping of a trace as one value, as replay and twin share it; ``planner.shaping`` does it, step by step."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

from planner.errors import WorkloadError
from planner.shaping.arrivals import fit, parse_arrivals, synthesise
from planner.shaping.cut import only, take, thin, window
from planner.shaping.lengths import scale_tokens
from planner.shaping.pace import dequantise, scale_rate, speed
from planner.shaping.repeat import loop, resample
from planner.traces.profile import stats
from planner.traces.trace import Trace

__all__ = ["Shaping", "loop", "parse_window", "scale_tokens", "speed", "stats", "take", "window"]


class Shaping(BaseModel):
    """The shaping options; applied in the order in which they stand here.

    ``requests`` is how many requests are made: drawn from the trace under ``arrivals``, else a bootstrap of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_start_s: float | None = Field(default=None, ge=0)
    window_end_s: float | None = Field(default=None, gt=0)
    models: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    share: float = Field(default=1.0, gt=0, le=1)
    dequantise: bool = False
    rate: float = Field(default=1.0, gt=0, le=1000)
    arrivals: str | None = None
    requests: int | None = Field(default=None, ge=1)
    max_requests: int | None = Field(default=None, ge=1)
    speed: float = Field(default=1.0, gt=0)
    token_scale: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _window_begins(self) -> "Shaping":
        if self.window_start_s is None and self.window_end_s is not None:
            raise ValueError("window needs its start")
        return self

    def apply(self, trace: Trace, *, playable: bool = True) -> Trace:
        """The shaped trace. Raises WorkloadError, also for one that cannot be played where it is to be ``playable``."""
        trace = self._cut(trace)
        if self.dequantise:
            trace = dequantise(trace, self.seed)
        if self.rate != 1.0:
            trace = scale_rate(trace, self.rate, self.seed)
        if self.arrivals is not None:
            trace = synthesise(trace, fit(trace, *parse_arrivals(self.arrivals)), self.requests, self.seed)
        elif self.requests is not None:
            trace = resample(trace, self.requests, self.seed)
        if self.max_requests is not None:
            trace = take(trace, self.max_requests)
        if self.speed != 1.0:
            trace = speed(trace, self.speed)
        if self.token_scale != 1.0:
            trace = scale_tokens(trace, self.token_scale)
        if playable:
            check_playable(trace)
        return trace

    def _cut(self, trace: Trace) -> Trace:
        if self.window_start_s is not None:
            trace = window(trace, self.window_start_s, self.window_end_s)
        if self.models:
            trace = only(trace, "model", self.models)
        if self.tenants:
            trace = only(trace, "tenant", self.tenants)
        return thin(trace, self.share, self.seed) if self.share != 1.0 else trace


_REMEDIES = {
    "arrival_ns": ("arrival times", "--arrivals, such as poisson:5,"),
    "input_tokens": ("prompt lengths", "--lengths-from TRACE"),
    "output_tokens": ("answer lengths", "--lengths-from TRACE"),
}


def check_playable(trace: Trace) -> None:
    """Raise WorkloadError when the source says no arrival or no length of any request, with what helps."""
    for name, (what, option) in _REMEDIES.items():
        if name in trace.missing and trace.missing[name].all():
            raise WorkloadError(
                f"{trace.header.source} has no {what}; `loadline replay convert` with {option} gives it some"
            )


def parse_window(text: str) -> tuple[float, float | None]:
    """``60:120`` (seconds of the trace) to (60.0, 120.0), ``60:`` to (60.0, None). Raises WorkloadError."""
    start, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return float(start or 0), float(end) if end.strip() else None
    except ValueError:
        raise WorkloadError(f"window {text!r}: must be START:END in seconds, such as 0:600") from None
