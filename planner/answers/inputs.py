"""What every answer states of its inputs, and how its figures are written."""

from typing import Any

import numpy as np

from planner.report import StepError, shown
from planner.steps.latency import StepModel
from planner.traces.trace import Trace
from planner.traces.workload import stats

LEAST_TOLD = 0.01


def step_error(model: StepModel, outside_ratio: float | None = None) -> StepError:
    """The model's error on what it was not fitted on, or on its fit where nothing was held out."""
    error = model.held_out or model.fit
    return StepError(
        mean=error.mean,
        p90=error.p90,
        bias=error.bias,
        observations=error.observations,
        held_out=model.held_out is not None,
        outside_hull_ratio=outside_ratio,
    )


def extrapolated(outside_ratio: float) -> str:
    """What a headline adds where the model is asked for more than it was fitted on."""
    if outside_ratio < LEAST_TOLD:
        return ""
    return f" (extrapolated: {outside_ratio:.0%} of the steps are larger than any that the model was fitted on)"


def trace_inputs(trace: Trace) -> dict[str, Any]:
    """What was played: the trace in a few figures, and what was done to it."""
    found = stats(trace)
    return {
        "trace": trace.header.source,
        "trace_sha256": trace.sha256()[:16],
        "requests": found.rows,
        "rate_per_s": found.mean_per_s,
        "peak_60_s_per_s": found.peak_60s_per_s,
        "gap_cv": found.gap_cv,
        "input_tokens": {"mean": found.input_tokens.mean, "p50": found.input_tokens.p50, "p99": found.input_tokens.p99},
        "output_tokens": {
            "mean": found.output_tokens.mean,
            "p50": found.output_tokens.p50,
            "p99": found.output_tokens.p99,
        },
        "shaping": [dict(step) for step in trace.header.transforms] or None,
    }


def milli(value: float | None) -> float | None:
    """Seconds as milliseconds."""
    return None if value is None else value * 1e3


def in_ms(value: float | None) -> str:
    """Seconds as text in milliseconds; a dash where there are none."""
    return "–" if value is None else f"{shown(value * 1e3)} ms"


def replicas_text(count: int, one: str = "", many: str = "") -> str:
    """A number of replicas in words, with the verb that goes with it."""
    return (f"1 replica {one}" if count == 1 else f"{count} replicas {many}").rstrip()


def plain(value: Any) -> Any:
    """Nested dataclass dumps without infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
