"""How much more of its present load each pool can take before the promise breaks, from telemetry alone.

Per pool: the finished-request rate is the load, the length histograms are the mix, the step counters of the last
minutes calibrate a twin, and a short bisection in the twin finds the load line; with two replicas fewer, the N+2
line. Whatever is missing is said in ``reason``: there is no line without evidence.
"""

from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

import numpy as np

from collector.client import Client
from collector.model.errors import SourceError
from collector.model.labels import get
from collector.signals import SignalError, Vocabulary
from planner.errors import CapacityError, ModelError
from planner.room.capacity import Capacity, search
from planner.room.forecast import Forecast, first_crossing_s, forecast
from planner.room.means import mean_figure
from planner.room.mix import Mix
from planner.sim import Twin
from planner.slo import Slo
from planner.steps.latency import StepModel
from planner.steps.telemetry import LeftOut, first_value, mix_seen, most_running, steps_seen
from probe_engine.sched import SchedulerConfig

LOAD_WINDOW = "2m"
FORECAST_STEP_S = 60.0
FORECAST_HISTORY_S = 7200.0
LOAD_HISTORY_S = 3600.0
MOST_REPLICAS = 4
LEAST_REQUESTS = 1500
REQUESTS_PER_REPLICA = 600
TOKENS_PER_PLAY = 400_000
SEED = 0
TOLERANCE = 0.03
SPARE = 2
UNMODELLED_BLOCKS = 1_000_000
Z = 1.645  # 90%
NO_KV_SIZE = "the KV cache's size is not exposed: the line takes it as unlimited, its interval as no more than was seen"


@dataclass(frozen=True, slots=True)
class PoolHeadroom:
    """One pool's load, requests per second, against what it can take.

    ``headroom_ratio`` is 1 - load / load line: the share of the line that is left, negative beyond it.
    ``load_line_req_per_s`` and all that follows from it are None where ``reason`` says why. ``n2_line_req_per_s`` is
    the line with two replicas gone, None below three replicas. ``bound_by`` is what breaks first. ``crosses_at_s`` is
    when the median forecast reaches the line (Unix seconds), ``crosses_low_s``/``crosses_high_s`` the earliest and
    latest of its band; None when it does not within the horizon. ``model_error_ratio`` is the twin's mean error on
    step times that it was not fitted on. ``line_low_req_per_s``..``line_high_req_per_s`` is the line's 90% interval;
    ``left_out`` is what the telemetry lacks, with what it did to that interval. ``notes`` are remarks for people.
    """

    pool: str
    replicas: int
    load_req_per_s: float
    load_line_req_per_s: float | None = None
    line_low_req_per_s: float | None = None
    line_high_req_per_s: float | None = None
    n2_line_req_per_s: float | None = None
    headroom_ratio: float | None = None
    bound_by: str = ""
    forecast: Forecast | None = None
    crosses_at_s: float | None = None
    crosses_low_s: float | None = None
    crosses_high_s: float | None = None
    reason: str | None = None
    model_error_ratio: float | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def headroom_range(self) -> tuple[float, float] | None:
        """The 90% interval of ``headroom_ratio``: that of the line; None where there is no line."""
        if not self.line_low_req_per_s or not self.line_high_req_per_s:
            return None
        return 1 - self.load_req_per_s / self.line_low_req_per_s, 1 - self.load_req_per_s / self.line_high_req_per_s

    @property
    def n2_headroom_ratio(self) -> float | None:
        """What is left of the line with two replicas gone; None where there is no such line."""
        return None if not self.n2_line_req_per_s else 1 - self.load_req_per_s / self.n2_line_req_per_s


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
        base = PoolHeadroom(pool, replicas, 0.0)
        try:
            rate = first_value(client, _rate_of_requests(vocabulary, pool, LOAD_WINDOW), now_s)
            base = replace(base, load_req_per_s=rate or 0.0)
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
    mix = mix_seen(client, vocabulary, base.pool, now_s, window_s)
    seen = steps_seen(client, vocabulary, base.pool, now_s, window_s)
    evidence, notes, left_out = seen.evidence, list(seen.doubt), list(seen.left_out)
    model = evidence.fit("linear")
    limits: dict[str, Any] = {}
    if "num_blocks" not in evidence.scheduler:
        limits["num_blocks"] = UNMODELLED_BLOCKS
    if "max_model_len" not in evidence.scheduler:
        limits["max_model_len"] = 1 << 17
    fleet = partial(_fleet, min(base.replicas, MOST_REPLICAS), limits)
    twin, reach = fleet(model), 1 + Z * seen.spread_ratio
    if base.replicas > MOST_REPLICAS:
        notes.append(f"{MOST_REPLICAS} of {base.replicas} replicas are simulated and scaled up")
    line = _line(mix, twin, slo, base)
    scale = base.replicas / twin.replicas
    per_s = line.requests_per_s * scale
    slow, fast = fleet(_slowed(model, reach)), fleet(_slowed(model, 1 / reach))
    low, high = (_line(mix, one, slo, base, line.requests_per_s).requests_per_s * scale for one in (slow, fast))
    if "num_blocks" not in evidence.scheduler:
        cramped = replace(slow, scheduler=_cramped(client, vocabulary, base, twin, mix, now_s))
        lower = min(_line(mix, cramped, slo, base, line.requests_per_s).requests_per_s * scale, low)
        widens = (high - lower) / max(high - low, 1e-9)
        left_out.append(LeftOut(NO_KV_SIZE, widens))
        low = lower
    if line.outside_ratio > 0.5:
        notes.append("the line lies beyond the loads seen in the window: step times there are extrapolated")
    error = model.held_out or model.fit
    return replace(
        base,
        load_line_req_per_s=per_s,
        line_low_req_per_s=min(low, per_s),
        line_high_req_per_s=max(high, per_s),
        n2_line_req_per_s=_n2_line(mix, twin, slo, base, line),
        headroom_ratio=1 - base.load_req_per_s / per_s,
        bound_by=line.bound_by,
        model_error_ratio=error.mean,
        left_out=tuple(left_out),
        notes=(*(str(each) for each in left_out), *notes),
    )


def _n2_line(mix: Mix, twin: Twin, slo: Slo, base: PoolHeadroom, line: Capacity) -> float | None:
    """The line with two replicas gone, never above the whole fleet's; None when nobody would be left."""
    if base.replicas <= SPARE:
        return None
    left = replace(twin, replicas=min(base.replicas - SPARE, MOST_REPLICAS))
    found = line if left.replicas == twin.replicas else _line(mix, left, slo, base)
    whole = line.requests_per_s * base.replicas / twin.replicas
    return min(found.requests_per_s * (base.replicas - SPARE) / left.replicas, whole)


def _fleet(replicas: int, limits: dict[str, Any], model: StepModel) -> Twin:
    return Twin.of(model, replicas=replicas, noise=False, **limits)


def _slowed(model: StepModel, factor: float) -> StepModel:
    """The same engine with every step this many times as long."""
    costs = {name: cost * factor for name, cost in model.costs_s.items()}
    return model.model_copy(update={"costs_s": costs, "step_gap_s": model.step_gap_s * factor})


def _cramped(
    client: Client, vocabulary: Vocabulary, base: PoolHeadroom, twin: Twin, mix: Mix, now_s: float
) -> SchedulerConfig:
    """Limits with a KV cache of no more than a replica was seen to hold: its most requests at their mean length."""
    running = max(most_running(client, vocabulary, base.pool, now_s, LOAD_HISTORY_S), 1.0)
    trace = mix.trace(LEAST_REQUESTS, 1.0, twin.scheduler, SEED)
    lengths = trace.input_tokens + trace.output_tokens
    tokens = max(running * float((trace.input_tokens + trace.output_tokens / 2).mean()), float(lengths.max()))
    return replace(twin.scheduler, num_blocks=ceil(tokens / twin.scheduler.block_size) + 2)


def _line(mix: Mix, twin: Twin, slo: Slo, base: PoolHeadroom, guess: float | None = None) -> Capacity:
    affordable = TOKENS_PER_PLAY / max(mix.outputs.mean or 200.0, 1.0)
    requests = int(np.clip(affordable, 400, max(LEAST_REQUESTS, REQUESTS_PER_REPLICA * twin.replicas)))
    rate = max(base.load_req_per_s, 0.01)
    trace = mix.trace(requests, rate, twin.scheduler, SEED)
    if guess is None:
        means = mean_figure(trace, twin.model, twin.scheduler, slo)
        guess = means.requests_per_s * twin.replicas * 0.7 if means is not None else rate
    return search(trace, twin, slo, guess=guess, seed=SEED, tolerance=TOLERANCE)


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


__all__ = ["Forecast", "LeftOut", "PoolHeadroom", "live_headroom"]
