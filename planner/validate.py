"""Hold the twin against a measured run: calibrate on its first part, compare on the rest."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from planner.calibrate import Evidence, from_run
from planner.compare import Comparison, compare
from planner.errors import ModelError, RunError
from planner.latency import StepModel
from planner.replayed import trace_of
from planner.result import Requests, Run
from planner.sim import Twin, simulate


@dataclass(frozen=True, slots=True)
class Validation:
    """The model that was fitted, the twin's whole run, and its error on the requests that it was not fitted on."""

    model: StepModel
    twin: Run
    comparison: Comparison
    split: float


def validate(
    run: Run,
    source: str,
    *,
    split: float,
    model: StepModel | None,
    fleet: Callable[[StepModel], Twin],
    seed: int = 0,
) -> Validation:
    """Fit on the first ``split`` of the run's observations, simulate all of its requests, compare the later ones.

    With ``model`` nothing is fitted and the whole run is compared. ``fleet`` makes the twin of a model. Raises
    ModelError when there is too little to fit, RunError when nothing is left to compare.
    """
    if model is None:
        evidence = from_run(run, source)
        at = int(len(evidence.observations) * split)
        early, later = evidence.observations[:at], evidence.observations[at:]
        fitted = Evidence(source, early, evidence.scheduler, evidence.overhead, evidence.engine).fit()
        starts = [o.start_s for o in later if o.start_s is not None]
        if not starts:
            raise ModelError(f"{source}: its observations do not say when they were made; give a model file")
        from_s = min(starts)
    else:
        fitted, from_s, split = model, 0.0, 0.0
    trace = trace_of(run, source)
    twin = simulate(trace, fleet(fitted), seed=seed, model_name=run.header.model)
    later_run = _sent_from(run, from_s)
    if not len(later_run.requests):
        raise RunError(f"{source}: no request was sent after {from_s:.1f} s, where the calibration ends")
    return Validation(fitted, twin, compare(later_run, _sent_from(twin, from_s)), split)


def _sent_from(run: Run, from_s: float) -> Run:
    """The run with only the requests that were sent at or after a time."""
    r = run.requests
    kept = np.nonzero(r.sent_s >= from_s)[0]
    times = r.token_times_s
    return replace(
        run,
        requests=Requests(
            row_id=r.row_id[kept],
            due_s=r.due_s[kept],
            sent_s=r.sent_s[kept],
            first_token_s=r.first_token_s[kept],
            last_token_s=r.last_token_s[kept],
            end_s=r.end_s[kept],
            input_tokens=r.input_tokens[kept],
            output_tokens=r.output_tokens[kept],
            cached_tokens=r.cached_tokens[kept],
            status=r.status[kept],
            error=tuple(r.error[int(i)] for i in kept),
            server_ttft_s=None if r.server_ttft_s is None else r.server_ttft_s[kept],
            token_times_s=None if times is None else tuple(times[int(i)] for i in kept),
        ),
    )
