"""Hold the twin against a measured run: calibrate on its first part, compare on the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.compare import Comparison, compare
from planner.errors import ModelError, RunError
from planner.result import FloatArray, IntArray, Observation, Requests, Run
from planner.sim import Twin, simulate
from planner.steps.calibrate import MIN_OVERHEAD_REQUESTS, Evidence, from_run, overhead_between, slowness
from planner.steps.latency import Overhead, StepModel
from planner.traces.replayed import trace_of


@dataclass(frozen=True, slots=True)
class Validation:
    """The model that was fitted, the twin's whole run, and its error on the requests that it was not fitted on.

    ``slowness``: how many times as long as the model says the steps beside the compared requests took. ``at_speed`` is
    the error of a twin of that speed, which no forecast knows: the model's own, without the machine's.
    """

    model: StepModel
    twin: Run
    comparison: Comparison
    split: float
    slowness: float
    at_speed: Comparison


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
    later: Sequence[Observation] = run.observations
    if model is None:
        evidence = from_run(run, source)
        at = int(len(evidence.observations) * split)
        early, later = evidence.observations[:at], evidence.observations[at:]
        fitted = Evidence(source, early, evidence.scheduler, evidence.overhead, evidence.engine).fit()
        starts = [o.start_s for o in later if o.start_s is not None]
        if not starts:
            raise ModelError(f"{source}: its observations do not say when they were made; give a model file")
        from_s = min(starts)
        if not fitted.overhead.requests:
            fitted = fitted.model_copy(update={"overhead": _waited(run, source, fleet(fitted), from_s)})
    else:
        fitted, from_s, split = model, 0.0, 0.0
    trace = trace_of(run, source)
    twin = simulate(trace, fleet(fitted), seed=seed, model_name=run.header.model)
    later_run = _sent_from(run, from_s)
    if not len(later_run.requests):
        raise RunError(f"{source}: no request was sent after {from_s:.1f} s, where the calibration ends")
    ratio = slowness(fitted, later)
    even = simulate(trace, fleet(fitted.slower(ratio)), seed=seed, model_name=run.header.model)
    found, at_speed = (compare(later_run, _sent_from(one, from_s)) for one in (twin, even))
    return Validation(fitted, twin, found, split, ratio, at_speed)


def _waited(run: Run, source: str, fleet: Twin, until_s: float) -> Overhead:
    """What requests that had their first token before ``until_s`` waited for it longer than in the twin.

    Taken only where the twin comes closer to those requests with it: what a queue adds is no overhead.
    """
    known = run.requests.first_token_s < until_s
    if known.sum() < MIN_OVERHEAD_REQUESTS:
        return Overhead()
    early, trace = _rows(run, np.nonzero(known)[0]), trace_of(run, source)
    twin = simulate(trace, fleet)
    _, ours, theirs = np.intersect1d(early.requests.row_id, twin.requests.row_id, return_indices=True)
    ttft, modelled = early.latencies()["ttft_sent_s"][ours], twin.latencies()["ttft_sent_s"][theirs]
    overhead = overhead_between(ttft, modelled, early.requests.input_tokens[ours])
    with_it = simulate(trace, replace(fleet, overhead=overhead)).latencies()["ttft_sent_s"][theirs]
    return overhead if _apart(with_it, ttft) < _apart(modelled, ttft) else Overhead()


def _apart(modelled: FloatArray, seen: FloatArray) -> float:
    """How far a twin's median and 90th percentile are from those that were seen, as ratios, summed."""
    quantiles = (0.5, 0.9)
    return float(np.abs(np.nanquantile(modelled, quantiles) / np.nanquantile(seen, quantiles) - 1).sum())


def _sent_from(run: Run, from_s: float) -> Run:
    """The run with only the requests that were sent at or after a time."""
    return _rows(run, np.nonzero(run.requests.sent_s >= from_s)[0])


def _rows(run: Run, kept: IntArray) -> Run:
    r = run.requests
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
