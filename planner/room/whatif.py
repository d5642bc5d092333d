"""What would happen to one pool if something were changed: load, replicas, lengths, engine limits, the promise.

The pool as its telemetry shows it calibrates a twin; the change is made to the twin; a search finds the load line with
and without two replicas, and a sweep of loads draws latency against load, with the band that the model's own measured
error makes of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from collector.client import Client
from collector.model.labels import get
from collector.signals import Vocabulary
from planner.errors import CapacityError, ModelError
from planner.room.capacity import Capacity, search
from planner.room.means import mean_figure
from planner.room.mix import LengthHistogram, Mix
from planner.room.verdict import WARM_UP_RATIO, Verdict, judge
from planner.sim import Twin, play
from planner.slo import Slo
from planner.steps.latency import StepModel
from planner.steps.telemetry import first_value, mix_seen, steps_seen
from planner.traces.trace import Trace
from planner.traces.workload import speed, stats

SPARE = 2
MOST_REPLICAS = 4
REQUESTS_PER_REPLICA = 400
LEAST_REQUESTS = 800
TOKENS_PER_PLAY = 300_000
UNMODELLED_BLOCKS = 1_000_000
UNMODELLED_LENGTH = 1 << 17
LOADS = (0.25, 0.5, 0.7, 0.85, 0.95, 1.0, 1.05, 1.15)
"""Shares of the load line at which latency is drawn."""

TOLERANCE = 0.02
SEED = 0
LOAD_WINDOW = "2m"

Progress = Callable[[int, int, str], None]
"""Told how many of how many simulations are done, and which comes next."""


class Change(BaseModel):
    """What is other than now. Factors multiply what is seen; None leaves it as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_factor: float = Field(1.0, gt=0, le=100, description="times the present load")
    replicas: int | None = Field(None, ge=1, le=10_000, description="replicas of the pool")
    prompt_factor: float = Field(1.0, gt=0, le=100, description="times the present length of prompts")
    output_factor: float = Field(1.0, gt=0, le=100, description="times the present length of outputs")
    cached_ratio: float | None = Field(None, ge=0, le=0.99, description="share of prompt tokens found in the cache")
    num_blocks: int | None = Field(None, ge=2, description="blocks of the KV cache of one replica")
    max_num_batched_tokens: int | None = Field(None, ge=1, description="tokens of one step")
    max_num_seqs: int | None = Field(None, ge=1, description="sequences at once")


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """Latencies, seconds, at one load of the whole pool; ``low``/``high`` with every step faster or slower by the
    model's error. None where requests never ended, or had no gaps."""

    requests_per_s: float
    ttft_p95_s: float | None
    ttft_low_s: float | None
    ttft_high_s: float | None
    itl_p95_s: float | None
    itl_low_s: float | None
    itl_high_s: float | None
    kv_peak_ratio: float
    kept: bool


@dataclass(frozen=True, slots=True)
class WhatIf:
    """One pool under a change. Rates are requests per second of the whole pool.

    ``load_req_per_s`` is the present load times the change's factor. ``low``/``high`` are the line with steps slower
    and faster by the model's error. ``n2`` is the line with two replicas gone, None below three replicas.
    ``at_load`` is how the promise fares at the load itself.
    """

    pool: str
    change: Change
    slo: Slo
    model: StepModel
    at_s: float
    replicas_now: int
    replicas: int
    load_now_req_per_s: float
    load_req_per_s: float
    line_req_per_s: float
    line_low_req_per_s: float
    line_high_req_per_s: float
    n2_line_req_per_s: float | None
    n2_bound_by: str | None
    bound_by: str
    outside_ratio: float
    prompt_tokens: float
    output_tokens: float
    cached_ratio: float
    scheduler: dict[str, Any]
    at_load: Verdict
    points: tuple[LoadPoint, ...]
    notes: tuple[str, ...]

    @property
    def headroom_ratio(self) -> float:
        """Share of the load line that is left; negative beyond it."""
        return 1 - self.load_req_per_s / self.line_req_per_s

    @property
    def n2_headroom_ratio(self) -> float | None:
        """Share of the line that is left with two replicas gone; None where there is no such line."""
        return None if not self.n2_line_req_per_s else 1 - self.load_req_per_s / self.n2_line_req_per_s


def what_if(
    client: Client,
    vocabulary: Vocabulary,
    slo: Slo,
    pool: str,
    change: Change,
    at_s: float,
    *,
    window_s: float = 900.0,
    progress: Progress = lambda done, total, words: None,
) -> WhatIf:
    """Simulate ``pool`` as it was seen in the ``window_s`` before ``at_s`` (Unix), with ``change``.

    Raises ModelError or CapacityError where the telemetry does not say enough, SourceError where it cannot be asked.
    """
    progress(0, _simulations(), "reading telemetry")
    replicas_now = _replicas(client, vocabulary, pool, at_s)
    replicas = change.replicas or replicas_now
    load_now = _load(client, vocabulary, pool, at_s)
    seen = steps_seen(client, vocabulary, pool, at_s, window_s)
    model = seen.evidence.fit("linear")
    mix = changed_mix(mix_seen(client, vocabulary, pool, at_s, window_s), change)
    limits, notes = _limits(seen.evidence.scheduler, change)
    twin = Twin.of(model, replicas=min(replicas, MOST_REPLICAS), noise=False, **limits)
    scale = replicas / twin.replicas
    if scale > 1:
        notes.append(f"{twin.replicas} of {replicas} replicas are simulated and scaled up")
    load = load_now * change.load_factor
    trace = _trace(mix, twin, max(load / scale, 0.01))
    sweep = _Sweep(trace, twin, slo, (model.held_out or model.fit).mean, progress)
    line = sweep.line(twin)
    low, high = sweep.line(sweep.slower, line), sweep.line(sweep.faster, line)
    n2 = _without_spares(sweep, replicas, line, scale)
    points = tuple(_scaled(point, scale) for point in sweep.points(line.requests_per_s))
    if line.outside_ratio > 0.5:
        notes.append("the line lies beyond the loads seen in the window: step times there are extrapolated")
    return WhatIf(
        pool=pool,
        change=change,
        slo=slo,
        model=model,
        at_s=at_s,
        replicas_now=replicas_now,
        replicas=replicas,
        load_now_req_per_s=load_now,
        load_req_per_s=load,
        line_req_per_s=line.requests_per_s * scale,
        line_low_req_per_s=min(low.requests_per_s, line.requests_per_s) * scale,
        line_high_req_per_s=max(high.requests_per_s, line.requests_per_s) * scale,
        n2_line_req_per_s=None if n2 is None else n2[0],
        n2_bound_by=None if n2 is None else n2[1],
        bound_by=line.bound_by,
        outside_ratio=line.outside_ratio,
        prompt_tokens=float(trace.input_tokens.mean()),
        output_tokens=float(trace.output_tokens.mean()),
        cached_ratio=mix.cached_ratio,
        scheduler={name: getattr(twin.scheduler, name) for name in limits_told(twin)},
        at_load=sweep.at(twin, max(load / scale, 0.01)),
        points=points,
        notes=(*(str(one) for one in seen.left_out), *seen.doubt, *notes),
    )


def changed_mix(mix: Mix, change: Change) -> Mix:
    """The mix with longer or shorter prompts and outputs, and another share of cached tokens."""
    cached = mix.cached_ratio if change.cached_ratio is None else change.cached_ratio
    return Mix(_stretched(mix.prompts, change.prompt_factor), _stretched(mix.outputs, change.output_factor), cached)


def limits_told(twin: Twin) -> tuple[str, ...]:
    """Scheduler limits that a report names: all but those that only stand for "unknown"."""
    named = ("num_blocks", "block_size", "max_num_batched_tokens", "max_num_seqs", "max_model_len")
    unknown = {"num_blocks": UNMODELLED_BLOCKS, "max_model_len": UNMODELLED_LENGTH}
    return tuple(name for name in named if getattr(twin.scheduler, name) != unknown.get(name))


class _Sweep:
    """Searches and single loads on one trace, each told to ``progress``."""

    def __init__(self, trace: Trace, twin: Twin, slo: Slo, error_ratio: float, progress: Progress) -> None:
        self._trace, self._slo, self._progress = trace, slo, progress
        self._rate = stats(trace).mean_per_s
        self._done = 0
        self.twin = twin
        self.slower = replace(twin, noise=(1 + error_ratio,))
        self.faster = replace(twin, noise=(1 / (1 + error_ratio),))

    def line(self, twin: Twin, beside: Capacity | None = None) -> Capacity:
        """The highest rate under the promise; the search begins at the line ``beside`` it, where one is known."""
        self._tell("searching for the load line")
        if beside is not None:
            guess = beside.requests_per_s * twin.replicas / beside.replicas
        else:
            means = mean_figure(self._trace, twin.model, twin.scheduler, self._slo)
            guess = means.requests_per_s * twin.replicas * 0.7 if means is not None else self._rate
        return search(self._trace, twin, self._slo, guess=guess, seed=SEED, tolerance=TOLERANCE)

    def at(self, twin: Twin, requests_per_s: float) -> Verdict:
        """How one load fares."""
        self._tell(f"playing {requests_per_s:.3g} requests/s")
        shaped = speed(self._trace, requests_per_s / self._rate)
        played = play(shaped, twin, seed=SEED, warm_up_ratio=WARM_UP_RATIO)
        return judge(played, shaped.output_tokens, self._slo)

    def points(self, line: float) -> Iterator[LoadPoint]:
        """Latency at shares of the line, with its band."""
        for share in LOADS:
            rate = line * share
            mid, slow, fast = (self.at(twin, rate) for twin in (self.twin, self.slower, self.faster))
            ttft, itl = ([one.value(name) for one in (mid, fast, slow)] for name in ("TTFT p95", "ITL p95"))
            yield LoadPoint(rate, *_ordered(ttft), *_ordered(itl), mid.kv_peak_ratio, mid.kept)

    def _tell(self, words: str) -> None:
        self._progress(self._done, _simulations(), words)
        self._done = min(self._done + 1, _simulations() - 1)


def _simulations() -> int:
    """Searches and plays of one answer: four lines, the load itself, three plays at each point."""
    return 5 + 3 * len(LOADS)


def _ordered(values: list[float | None]) -> tuple[float | None, float | None, float | None]:
    """(middle, low, high): a band holds its middle, though a simulated percentile is not monotonous in step time."""
    middle, low, high = values
    if middle is None:
        return None, low, high
    return middle, None if low is None else min(low, middle), None if high is None else max(high, middle)


def _scaled(point: LoadPoint, scale: float) -> LoadPoint:
    return replace(point, requests_per_s=point.requests_per_s * scale)


def _without_spares(sweep: _Sweep, replicas: int, line: Capacity, scale: float) -> tuple[float, str] | None:
    if replicas <= SPARE:
        return None
    left = replace(sweep.twin, replicas=min(replicas - SPARE, MOST_REPLICAS))
    found = line if left.replicas == sweep.twin.replicas else sweep.line(left, line)
    per_s = found.requests_per_s * (replicas - SPARE) / left.replicas
    return min(per_s, line.requests_per_s * scale), found.bound_by


def _limits(seen: Any, change: Change) -> tuple[dict[str, Any], list[str]]:
    limits: dict[str, Any] = {}
    notes: list[str] = []
    if "num_blocks" not in seen:
        limits["num_blocks"] = UNMODELLED_BLOCKS
        if change.num_blocks is None:
            notes.append("the size of the KV cache is not exposed: it is taken as unlimited")
    if "max_model_len" not in seen:
        limits["max_model_len"] = UNMODELLED_LENGTH
    for name in ("num_blocks", "max_num_batched_tokens", "max_num_seqs"):
        if (value := getattr(change, name)) is not None:
            limits[name] = value
    return limits, notes


def _trace(mix: Mix, twin: Twin, rate_per_s: float) -> Trace:
    affordable = TOKENS_PER_PLAY / max(mix.outputs.mean or 200.0, 1.0)
    most = max(LEAST_REQUESTS, REQUESTS_PER_REPLICA * twin.replicas)
    return mix.trace(int(np.clip(affordable, 400, most)), rate_per_s, twin.scheduler, SEED)


def _stretched(lengths: LengthHistogram, factor: float) -> LengthHistogram:
    mean = None if lengths.mean is None else lengths.mean * factor
    return LengthHistogram(lengths.bounds * factor, lengths.weights, mean)


def _replicas(client: Client, vocabulary: Vocabulary, pool: str, at_s: float) -> int:
    found = {get(one.labels, "pool"): round(one.value) for one in client.query(vocabulary.replicas(), at_s)}
    if not found.get(pool):
        raise ModelError(f"pool {pool!r} shows no replica; there is {', '.join(sorted(found)) or 'none'}")
    return found[pool]


def _load(client: Client, vocabulary: Vocabulary, pool: str, at_s: float) -> float:
    signal = "e2e_latency" if vocabulary.present("e2e_latency") else "requests"
    rate = first_value(client, vocabulary.rate(signal, LOAD_WINDOW, ("pool",), f'pool="{pool}"'), at_s)
    if not rate:
        raise CapacityError(f"pool {pool!r} ended no request in the last {LOAD_WINDOW}: there is no load to change")
    return rate
