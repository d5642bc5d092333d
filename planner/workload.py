"""Shape a trace: cut, speed up, scale its lengths, repeat it; what it asks of a server is ``planner.profile``'s."""

from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from planner.errors import WorkloadError
from planner.profile import stats
from planner.trace import Flag, IntArray, Trace

__all__ = ["Shaping", "loop", "parse_window", "scale_tokens", "speed", "stats", "take", "window"]

_NS = 1_000_000_000


def window(trace: Trace, start_s: float, end_s: float) -> Trace:
    """Requests that arrive in [start, end) seconds of the trace; arrivals count from ``start_s`` afterwards.

    Raises WorkloadError when the window is empty or backwards.
    """
    if not 0 <= start_s < end_s:
        raise WorkloadError(f"window {start_s:g}:{end_s:g}: start must be at least 0 and before end (seconds)")
    start_ns, end_ns = round(start_s * _NS), round(end_s * _NS)
    first, last = np.searchsorted(trace.arrival_ns, [start_ns, end_ns], side="left")
    if first == last:
        raise WorkloadError(
            f"window {start_s:g}:{end_s:g} holds no request; {trace.header.source} has arrivals "
            f"from 0 to {trace.arrival_ns[-1] / _NS:g} s"
        )
    cut = trace.take_rows(np.arange(first, last), name="window", start_s=start_s, end_s=end_s)
    return replace(
        cut,
        arrival_ns=cut.arrival_ns - start_ns,
        header=replace(cut.header, origin_ns=cut.header.origin_ns + start_ns),
    )


def take(trace: Trace, count: int) -> Trace:
    """The first ``count`` requests. Raises WorkloadError when ``count`` is below 1."""
    if count < 1:
        raise WorkloadError(f"max requests {count}: must be at least 1")
    return trace.take_rows(np.arange(min(count, len(trace))), name="take", count=count)


def speed(trace: Trace, factor: float) -> Trace:
    """Play ``factor`` times as fast: every arrival divided by it, to the nearest ns; lengths and order are kept."""
    if not (factor > 0 and np.isfinite(factor)):
        raise WorkloadError(f"speed {factor:g}: must be a number above 0")
    played = trace.take_rows(np.arange(len(trace)), name="speed", factor=factor)
    return replace(played, arrival_ns=np.rint(trace.arrival_ns / factor).astype(np.int64))


def scale_tokens(trace: Trace, factor: float) -> Trace:
    """Multiply both lengths of every request by ``factor``, rounded up, at least 1.

    A row of zero tokens becomes one token and is flagged ``clamped``. Raises WorkloadError for a trace with prefix
    hashes: their blocks would no longer match the prompts.
    """
    if not (factor > 0 and np.isfinite(factor)):
        raise WorkloadError(f"token scale {factor:g}: must be a number above 0")
    if trace.column("prefix_hashes") is not None and factor != 1:
        raise WorkloadError(f"token scale {factor:g}: {trace.header.source} has prefix hashes, which fix its lengths")
    scaled = trace.take_rows(np.arange(len(trace)), name="scale_tokens", factor=factor)
    zero = (trace.input_tokens == 0) | (trace.output_tokens == 0)
    return replace(
        scaled,
        input_tokens=_scaled(trace.input_tokens, factor),
        output_tokens=_scaled(trace.output_tokens, factor),
        flags=np.where(zero, scaled.flags | np.uint32(Flag.CLAMPED), scaled.flags),
    )


def _scaled(tokens: IntArray, factor: float) -> IntArray:
    # A product such as 100 * 0.07 = 7.000000000000001 is 7, not 8: what floats add is taken off before rounding up.
    return np.maximum(np.ceil(tokens * factor - 1e-9 * np.maximum(tokens, 1)), 1).astype(np.int64)


def loop(trace: Trace, count: int, seed: int = 0) -> Trace:
    """``count`` requests: the trace over and over, each lap in its own order of gaps and lengths kept together.

    Lap 0 is the trace itself. Later laps shuffle blocks of 32 successive requests (seeded), so that bursts and the
    bond between gap and lengths stay while no lap repeats another. Row ids are renumbered from 0.
    """
    rows = len(trace)
    if rows < 2:
        raise WorkloadError(f"{trace.header.source}: {rows} request cannot be repeated; at least 2 are needed")
    gaps = np.diff(trace.arrival_ns, prepend=trace.arrival_ns[0])
    mean_gap = round(float(trace.arrival_ns[-1] - trace.arrival_ns[0]) / (rows - 1))
    gaps[0] = mean_gap
    generator = np.random.default_rng([seed, 0x10095])
    blocks = [np.arange(start, min(start + 32, rows)) for start in range(0, rows, 32)]
    order: list[IntArray] = [np.arange(rows)]
    while sum(len(part) for part in order) < count:
        order.append(np.concatenate([blocks[int(i)] for i in generator.permutation(len(blocks))]))
    index = np.concatenate(order)[:count]
    looped = trace.take_rows(index, name="loop", count=count, seed=seed)
    arrival = np.cumsum(gaps[index])
    return replace(looped, arrival_ns=arrival - arrival[0], row_id=np.arange(len(index), dtype=np.int64))


class Shaping(BaseModel):
    """The shaping options that replay and twin share; applied in the order window, max_requests, speed, token_scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_start_s: float | None = Field(default=None, ge=0)
    window_end_s: float | None = Field(default=None, gt=0)
    max_requests: int | None = Field(default=None, ge=1)
    speed: float = Field(default=1.0, gt=0)
    token_scale: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _window_is_whole(self) -> "Shaping":
        if (self.window_start_s is None) != (self.window_end_s is None):
            raise ValueError("window needs both its start and its end")
        return self

    def apply(self, trace: Trace) -> Trace:
        """The shaped trace. Raises WorkloadError."""
        if self.window_start_s is not None and self.window_end_s is not None:
            trace = window(trace, self.window_start_s, self.window_end_s)
        if self.max_requests is not None:
            trace = take(trace, self.max_requests)
        if self.speed != 1.0:
            trace = speed(trace, self.speed)
        if self.token_scale != 1.0:
            trace = scale_tokens(trace, self.token_scale)
        return trace


def parse_window(text: str) -> tuple[float, float]:
    """``60:120`` (seconds of the trace) to (60.0, 120.0). Raises WorkloadError."""
    start, colon, end = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return float(start), float(end)
    except ValueError:
        raise WorkloadError(f"window {text!r}: must be START:END in seconds, such as 0:600") from None
