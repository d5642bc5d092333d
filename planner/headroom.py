"""How much more of its present load each pool can take before the promise breaks, from telemetry alone.

Per pool: the finished-request rate is the load, the length histograms are the mix, the step counters of the last
minutes calibrate a twin, and a short bisection in the twin finds the load line; with two replicas fewer, the N+2
line. Whatever is missing is said in ``reason``: there is no line without evidence.
"""

from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Any

import numpy as np

from collector.client import Client
from collector.model.errors import SourceError
from collector.model.labels import get
from collector.signals import Present, SignalError, Vocabulary
from planner.calibrate import Evidence, from_history, predicted_s
from planner.capacity import Capacity, search
from planner.errors import CapacityError, ModelError
from planner.forecast import Forecast, first_crossing_s, forecast
from planner.infer import from_iterations
from planner.means import mean_figure
from planner.mix import LengthHistogram, Mix
from planner.sim import Twin
from planner.slo import Slo

LOAD_WINDOW = "2m"
FORECAST_STEP_S = 60.0
FORECAST_HISTORY_S = 7200.0
LEAST_STEP_S = 10.0
SCRAPES_PER_STEP = 2  # a window is left-open: one as long as the scrape interval holds a single sample and no increase
DEFAULT_SCRAPE_S = 15.0
LEAST_INTERVALS = 10
MANY_INTERVALS = 30
FOLDS = 5
MOST_REPLICAS = 4
LEAST_REQUESTS = 1500
REQUESTS_PER_REPLICA = 600
TOKENS_PER_PLAY = 400_000
SEED = 0
TOLERANCE = 0.03
SPARE = 2
UNMODELLED_BLOCKS = 1_000_000


@dataclass(frozen=True, slots=True)
class PoolHeadroom:
    """One pool's load, requests per second, against what it can take.

    ``headroom_ratio`` is 1 - load / load line: the share of the line that is left, negative beyond it.
    ``load_line_req_per_s`` and all that follows from it are None where ``reason`` says why. ``n2_line_req_per_s`` is
    the line with two replicas gone, None below three replicas. ``bound_by`` is what breaks first. ``crosses_at_s`` is
    when the median forecast reaches the line (Unix seconds), ``crosses_low_s``/``crosses_high_s`` the earliest and
    latest of its band; None when it does not within the horizon. ``model_error_ratio`` is the twin's mean error on
    step times that it was not fitted on. ``notes`` are assumptions that widen the answer.
    """

    pool: str
    replicas: int
    load_req_per_s: float
    load_line_req_per_s: float | None = None
    n2_line_req_per_s: float | None = None
    headroom_ratio: float | None = None
    bound_by: str = ""
    forecast: Forecast | None = None
    crosses_at_s: float | None = None
    crosses_low_s: float | None = None
    crosses_high_s: float | None = None
    reason: str | None = None
    model_error_ratio: float | None = None
    notes: tuple[str, ...] = ()


def live_headroom(
    client: Client,
    vocabulary: Vocabulary,
    slo: Slo,
    now_s: float,
    *,
    window_s: float = 900.0,
    forecast_horizon_s: float = 3600.0,
) -> tuple[PoolHeadroom, ...]:
    """Headroom of every pool that the source shows at ``now_s``, by name.

    A pool whose evidence is too thin has a ``reason`` and no line; the others are not affected. Raises SourceError
    when the source cannot be asked at all.
    """
    found = []
    for pool, replicas in sorted(_replicas(client, vocabulary, now_s).items()):
        load = _load(client, vocabulary, pool, now_s)
        base = PoolHeadroom(pool, replicas, load)
        try:
            base = replace(base, forecast=_forecast(client, vocabulary, pool, now_s, forecast_horizon_s))
            base = _with_lines(base, client, vocabulary, slo, now_s, window_s)
        except (ModelError, CapacityError, SignalError, SourceError) as error:
            base = replace(base, reason=str(error))
        found.append(_with_crossing(base))
    return tuple(found)


def _replicas(client: Client, vocabulary: Vocabulary, now_s: float) -> dict[str, int]:
    try:
        expression = vocabulary.replicas()
    except SignalError:
        return {}
    return {get(sample.labels, "pool"): round(sample.value) for sample in client.query(expression, now_s)}


def _rate_of_requests(vocabulary: Vocabulary, pool: str, window: str) -> str:
    signal = "e2e_latency" if vocabulary.present("e2e_latency") else "requests"
    return vocabulary.rate(signal, window, ("pool",), f'pool="{pool}"')


def _load(client: Client, vocabulary: Vocabulary, pool: str, now_s: float) -> float:
    try:
        return _value(client, _rate_of_requests(vocabulary, pool, LOAD_WINDOW), now_s) or 0.0
    except SignalError:
        return 0.0


def _forecast(client: Client, vocabulary: Vocabulary, pool: str, now_s: float, horizon_s: float) -> Forecast | None:
    expression = _rate_of_requests(vocabulary, pool, LOAD_WINDOW)
    end_s = now_s // FORECAST_STEP_S * FORECAST_STEP_S
    series = client.query_range(expression, end_s - FORECAST_HISTORY_S, end_s, FORECAST_STEP_S)
    if not series:
        return None
    return forecast(series[0].timestamps_ms / 1000.0, series[0].values, horizon_s)


def _with_lines(
    base: PoolHeadroom, client: Client, vocabulary: Vocabulary, slo: Slo, now_s: float, window_s: float
) -> PoolHeadroom:
    """``base`` with its lines. Raises ModelError or CapacityError with the reason when there can be none."""
    mix = _mix(client, vocabulary, base.pool, now_s, window_s)
    evidence, notes = _evidence(client, vocabulary, base.pool, now_s, window_s)
    model = evidence.fit("linear")
    limits: dict[str, Any] = {}
    if "num_blocks" not in evidence.scheduler:
        limits["num_blocks"] = UNMODELLED_BLOCKS
        notes.append("the size of the KV cache is not exposed: it is taken as unlimited")
    if "max_model_len" not in evidence.scheduler:
        limits["max_model_len"] = 1 << 17
    twin = Twin.of(model, replicas=min(base.replicas, MOST_REPLICAS), noise=False, **limits)
    if base.replicas > MOST_REPLICAS:
        notes.append(f"{MOST_REPLICAS} of {base.replicas} replicas are simulated and scaled up")
    line = _line(mix, twin, slo, base)
    scale = base.replicas / twin.replicas
    n2 = None
    if base.replicas > SPARE:
        left = replace(twin, replicas=min(base.replicas - SPARE, MOST_REPLICAS))
        found = line if left.replicas == twin.replicas else _line(mix, left, slo, base)
        n2 = found.requests_per_s * (base.replicas - SPARE) / left.replicas
    per_s = line.requests_per_s * scale
    if line.outside_ratio > 0.5:
        notes.append("the line lies beyond the loads seen in the window: step times there are extrapolated")
    error = model.held_out or model.fit
    return replace(
        base,
        load_line_req_per_s=per_s,
        n2_line_req_per_s=None if n2 is None else min(n2, per_s),
        headroom_ratio=1 - base.load_req_per_s / per_s,
        bound_by=line.bound_by,
        model_error_ratio=error.mean,
        notes=tuple(notes),
    )


def _line(mix: Mix, twin: Twin, slo: Slo, base: PoolHeadroom) -> Capacity:
    affordable = TOKENS_PER_PLAY / max(mix.outputs.mean or 200.0, 1.0)
    requests = int(np.clip(affordable, 400, max(LEAST_REQUESTS, REQUESTS_PER_REPLICA * twin.replicas)))
    rate = max(base.load_req_per_s, 0.01)
    trace = mix.trace(requests, rate, twin.scheduler, SEED)
    means = mean_figure(trace, twin.model, twin.scheduler, slo)
    guess = means.requests_per_s * twin.replicas * 0.7 if means is not None else rate
    return search(trace, twin, slo, guess=guess, seed=SEED, tolerance=TOLERANCE)


def _evidence(
    client: Client, vocabulary: Vocabulary, pool: str, now_s: float, window_s: float
) -> tuple[Evidence, list[str]]:
    """Step times of the last ``window_s``: measured by the engine, or else worked out from iterations and gaps."""
    notes: list[str] = []
    step_s = max(SCRAPES_PER_STEP * scrape_interval_s(client, vocabulary, now_s), LEAST_STEP_S)
    if vocabulary.present("step_time"):
        evidence = from_history(client, vocabulary, now_s - window_s, now_s, step_s, pool)
    else:
        evidence = from_iterations(client, vocabulary, now_s - window_s, now_s, step_s, pool)
        notes.append("the engine does not time its steps: step times are worked out from token gaps")
    seen = len(evidence.observations)
    if seen < LEAST_INTERVALS:
        raise ModelError(
            f"not enough telemetry yet: {seen} intervals of {step_s:g} s with work in the last {window_s / 60:g} min; "
            f"a line needs {LEAST_INTERVALS}, which is {LEAST_INTERVALS * step_s / 60:.2g} minutes of load"
        )
    if seen < MANY_INTERVALS:
        notes.append(f"calibrated on {seen} intervals of {step_s:g} s only: {_doubt(evidence)}")
    return evidence, notes


def _doubt(evidence: Evidence) -> str:
    """How far the step times of a short calibration may be off: by how much they move when a fifth is left out."""
    seen = evidence.observations
    fits = [
        Evidence("", tuple(one for index, one in enumerate(seen) if index % FOLDS != fold)).fit("linear")
        for fold in range(FOLDS)
    ]
    busiest = max(seen, key=lambda one: one.decode_seqs / one.steps)
    told = [predicted_s(model, busiest) for model in fits]
    return f"with a fifth of them left out, a busy step's time moves by up to {max(told) / min(told) - 1:.0%}"


def scrape_interval_s(client: Client, vocabulary: Vocabulary, now_s: float) -> float:
    """How often the source takes samples of its engines, whole seconds, rounded up; 15 when unknown.

    The least of several estimates, since a gap or a late start within a window only ever makes one larger.
    """
    status = vocabulary.status("running_requests")
    metrics = status.metrics if isinstance(status, Present) else ()
    found = [
        sample.value
        for metric in metrics
        for text in (
            f"min(60 / count_over_time({metric}[1m]))",
            f"min(300 / count_over_time({metric}[5m]))",
            f"min((max_over_time(timestamp({metric})[5m:1s]) - min_over_time(timestamp({metric})[5m:1s]))"
            f" / (count_over_time({metric}[5m]) - 1))",
        )
        for sample in client.query(text, now_s)
        if 0 < sample.value < inf
    ]
    return float(ceil(min(found, default=DEFAULT_SCRAPE_S)))


def _mix(client: Client, vocabulary: Vocabulary, pool: str, now_s: float, window_s: float) -> Mix:
    window = f"{window_s:g}s"
    prompts = _histogram(client, vocabulary, "prompt_length", pool, now_s, window)
    outputs = _histogram(client, vocabulary, "output_length", pool, now_s, window)
    cached = 0.0
    if vocabulary.present("prefix_hits") and vocabulary.present("prefix_queries"):
        ratio = vocabulary.ratio("prefix_hits", "prefix_queries", window, ("pool",), f'pool="{pool}"')
        cached = _value(client, ratio, now_s) or 0.0
    return Mix(prompts, outputs, min(max(cached, 0.0), 0.99))


def _histogram(
    client: Client, vocabulary: Vocabulary, signal: str, pool: str, now_s: float, window: str
) -> LengthHistogram:
    where = f'pool="{pool}"'
    samples = client.query(vocabulary.buckets(signal, window, (), where), now_s)
    counts: dict[float, float] = {}
    for sample in samples:
        bound = float(get(sample.labels, "le"))
        counts[bound] = counts.get(bound, 0.0) + sample.value
    histogram = LengthHistogram.from_cumulative(
        list(counts), list(counts.values()), _value(client, vocabulary.mean(signal, window, ("pool",), where), now_s)
    )
    if not histogram.weights.sum() > 0:
        raise ModelError(f"no request finished in the last {window}: the mix of lengths is not known")
    return histogram


def _value(client: Client, expression: str, time_s: float) -> float | None:
    samples = client.query(expression, time_s)
    values = [sample.value for sample in samples if np.isfinite(sample.value)]
    return float(values[0]) if values else None


def _with_crossing(pool: PoolHeadroom) -> PoolHeadroom:
    line, ahead = pool.load_line_req_per_s, pool.forecast
    if line is None or ahead is None:
        return pool
    return replace(
        pool,
        crosses_at_s=first_crossing_s(ahead.times_s, ahead.median, line),
        crosses_low_s=first_crossing_s(ahead.times_s, ahead.high, line),
        crosses_high_s=first_crossing_s(ahead.times_s, ahead.low, line),
    )


__all__ = ["Forecast", "PoolHeadroom", "live_headroom"]
