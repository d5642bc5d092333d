"""What a pool's telemetry says of its steps and its mix of requests, and what it does not say.

Whatever is missing, torn or of another engine is left out, named, and given a figure: how much the interval of an
answer widens for it. Nothing is filled in.
"""

from dataclasses import dataclass
from math import ceil, inf, sqrt

import numpy as np
from scipy.special import ndtri

from collector.client import Client
from collector.model.labels import get
from collector.signals import Present, SignalAbsent, Vocabulary
from planner.errors import ModelError
from planner.room.mix import LengthHistogram, Mix
from planner.steps.calibrate import Evidence, from_history, predicted_s
from planner.steps.infer import from_iterations
from planner.steps.latency import StepModel

LEAST_STEP_S = 10.0
SCRAPES_PER_STEP = 2  # a window is left-open: one as long as the scrape interval holds a single sample and no increase
DEFAULT_SCRAPE_S = 15.0
LEAST_INTERVALS = 10
MANY_INTERVALS = 30
FOLDS = 5
SIMULATION_SD = 0.05
"""Relative standard error of a line found on one or two thousand requests."""

UNSEEN_SD = 0.3
"""Relative spread that is granted to the step times of replicas that show none of theirs."""

INFERRED_SD = 0.15
"""Relative spread that is granted to step times worked out from token gaps."""

KV_UNSEEN_SD = 0.05
"""Relative spread that is granted to step times whose context lengths are not told."""

NO_KV_BLOCKS = "the KV cache's size is not exposed: a simulation takes it from --num-blocks"
SEED = 0x5EEA


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that the telemetry lacks; the answer's interval is ``widens`` times as wide for it."""

    what: str
    widens: float

    def __str__(self) -> str:
        """In words."""
        wider = f"the interval is {self.widens:.2f} times as wide for it" if self.widens > 1.005 else "no wider for it"
        return f"{self.what}: {wider}"


@dataclass(frozen=True, slots=True)
class Seen:
    """A pool's step evidence; ``spread_ratio`` is the relative standard error of a line found with it.

    ``doubt`` are remarks that need no figure; ``left_out`` is what the spread was widened for; ``granted_ratio`` is the
    part of the spread that no resampling of the evidence shows.
    """

    evidence: Evidence
    spread_ratio: float
    left_out: tuple[LeftOut, ...]
    doubt: tuple[str, ...]
    granted_ratio: float = 0.0

    def doubted(self, model: StepModel) -> StepModel:
        """``model``, fitted on this evidence, with what was left out in its notes and its draws spread as far."""
        draws = np.array(model.costs_drawn)
        if len(draws):
            spots = ndtri((np.arange(len(draws)) + 0.5) / len(draws))
            draws *= np.exp(self.granted_ratio * np.random.default_rng(SEED).permutation(spots))[:, None]
        unsized = () if "num_blocks" in self.evidence.scheduler else (NO_KV_BLOCKS,)
        notes = (*model.notes, *map(str, self.left_out), *self.doubt, *unsized)
        return model.model_copy(update={"notes": notes, "costs_drawn": tuple(map(tuple, draws.tolist()))})


@dataclass(frozen=True, slots=True)
class _Grid:
    """Samples of a counter on the grid of intervals: how many there should be, are, and were torn by a restart."""

    expected: int
    present: int
    torn_ms: frozenset[int]


def steps_seen(client: Client, vocabulary: Vocabulary, pool: str, now_s: float, window_s: float) -> Seen:
    """Step times of the last ``window_s``: measured by the engine, or else worked out from iterations and gaps.

    Where several engines serve the pool, those that most replicas run and that show their steps stand for all. Raises
    ModelError when none does, or when there is too little of it.
    """
    step_s = max(SCRAPES_PER_STEP * scrape_interval_s(client, vocabulary, now_s), LEAST_STEP_S)
    spoken, unseen_ratio, found_on = _speaking(client, vocabulary, pool, now_s)
    start_s = now_s - window_s
    measured = spoken.present("step_time")
    ask = from_history if measured else from_iterations
    evidence = ask(client, spoken, start_s, now_s, step_s, pool)
    grid = _grid(client, spoken, "step_time" if measured else "iteration_tokens", start_s, now_s, step_s, pool)
    kept = tuple(one for one in evidence.observations if round((one.end_s or 0.0) * 1000) not in grid.torn_ms)
    torn = len(evidence.observations) - len(kept)
    evidence = Evidence(evidence.source, kept, evidence.scheduler, evidence.overhead, evidence.engine)
    if len(kept) < LEAST_INTERVALS:
        raise ModelError(
            f"not enough telemetry yet: {len(kept)} intervals of {step_s:g} s with work in the last "
            f"{window_s / 60:g} min; a line needs {LEAST_INTERVALS}, which is "
            f"{LEAST_INTERVALS * step_s / 60:.2g} minutes of load"
            + (f" ({torn} more, in which a counter was reset, are left out)" if torn else "")
        )
    sampling, moved = _sampling(evidence)
    doubt = []
    if len(kept) < MANY_INTERVALS:
        doubt.append(
            f"calibrated on {len(kept)} intervals of {step_s:g} s only: with a fifth of them left out, a busy step's "
            f"time moves by up to {moved:.0%}"
        )
    bias = evidence.fit("linear").held_out
    spread = sqrt(sampling**2 + (bias.bias**2 if bias else 0.0) + SIMULATION_SD**2)
    left_out, whole = [], spread
    if torn:
        left_out.append(
            _fewer(f"{torn} intervals in which a counter was reset are left out", spread, sampling, len(kept), torn)
        )
    missing = grid.expected - grid.present
    if missing > 0:
        what = f"{missing} of {grid.expected} intervals have no samples"
        left_out.append(_fewer(what, spread, sampling, grid.present, missing))
    if not measured:
        left_out.append(LeftOut("the engine does not time its steps: they are worked out from token gaps",
                                _wider(spread, INFERRED_SD)))  # fmt: skip
        spread = sqrt(spread**2 + INFERRED_SD**2)
    if unseen_ratio:
        what = f"{unseen_ratio:.0%} of the replicas run other engines than {found_on}; they are taken to be as fast"
        left_out.append(LeftOut(what, _wider(spread, unseen_ratio * UNSEEN_SD)))
        spread = sqrt(spread**2 + (unseen_ratio * UNSEEN_SD) ** 2)
    if not measured and not spoken.present("kv_usage"):
        what = "the use of the KV cache is not exposed: longer contexts are taken to cost what those seen did"
        left_out.append(LeftOut(what, _wider(spread, KV_UNSEEN_SD)))
        spread = sqrt(spread**2 + KV_UNSEEN_SD**2)
    return Seen(evidence, spread, tuple(left_out), tuple(doubt), sqrt(spread**2 - whole**2))


def mix_seen(client: Client, vocabulary: Vocabulary, pool: str, now_s: float, window_s: float) -> Mix:
    """Lengths of what was served, and its share of cached prompt tokens. Raises ModelError when nothing was."""
    window = f"{window_s:g}s"
    prompts = _histogram(client, vocabulary, "prompt_length", pool, now_s, window)
    outputs = _histogram(client, vocabulary, "output_length", pool, now_s, window)
    cached = 0.0
    if vocabulary.present("prefix_hits") and vocabulary.present("prefix_queries"):
        ratio = vocabulary.ratio("prefix_hits", "prefix_queries", window, ("pool",), f'pool="{pool}"')
        cached = first_value(client, ratio, now_s) or 0.0
    return Mix(prompts, outputs, min(max(cached, 0.0), 0.99))


def most_running(client: Client, vocabulary: Vocabulary, pool: str, now_s: float, window_s: float) -> float:
    """Most requests that one replica was seen to run at once; 0 when not told."""
    try:
        gauge = vocabulary.gauge("running_requests", "max", ("pool",), f'pool="{pool}"')
    except SignalAbsent:
        return 0.0
    return first_value(client, f"max(max_over_time(({gauge})[{window_s:g}s:{DEFAULT_SCRAPE_S:g}s]))", now_s) or 0.0


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


def first_value(client: Client, expression: str, time_s: float) -> float | None:
    """The first finite value of an instant query."""
    values = [sample.value for sample in client.query(expression, time_s) if np.isfinite(sample.value)]
    return float(values[0]) if values else None


def _speaking(client: Client, vocabulary: Vocabulary, pool: str, now_s: float) -> tuple[Vocabulary, float, str]:
    """(the engine whose steps stand for the pool, share of replicas that run others, its title)."""
    status = vocabulary.status("running_requests")
    engines = status.dialects if isinstance(status, Present) else ()
    counts = {engine: _replicas(client, vocabulary.only(engine), pool, now_s) for engine in engines}
    here = {engine: count for engine, count in counts.items() if count}
    able = {engine: count for engine, count in here.items() if _shows_steps(vocabulary.only(engine))}
    if not able:
        return vocabulary, 0.0, ""
    chosen = max(able, key=lambda engine: (able[engine], engine))
    title = next(dialect.title for dialect in vocabulary.dialects if dialect.engine == chosen)
    return vocabulary.only(chosen), 1 - able[chosen] / sum(here.values()), title


def _replicas(client: Client, vocabulary: Vocabulary, pool: str, now_s: float) -> float:
    return sum(s.value for s in client.query(vocabulary.replicas(), now_s) if get(s.labels, "pool") == pool)


def _shows_steps(vocabulary: Vocabulary) -> bool:
    return vocabulary.present("step_time") or vocabulary.present("iteration_tokens")


def _grid(
    client: Client, vocabulary: Vocabulary, signal: str, start_s: float, end_s: float, step_s: float, pool: str
) -> _Grid:
    """Of each server, from its first interval with samples to its last: which intervals have some, which a reset."""
    window, by, where = f"{step_s:g}s", ("pool", "instance"), f'pool="{pool}"'
    if not vocabulary.present(signal):
        return _Grid(0, 0, frozenset())
    grown = client.query_range(vocabulary.increase(signal, window, by, where), start_s + step_s, end_s, step_s)
    resets = client.query_range(vocabulary.resets(signal, window, by, where), start_s + step_s, end_s, step_s)
    expected = present = 0
    for series in grown:
        if len(series.timestamps_ms):
            span_ms = int(series.timestamps_ms[-1] - series.timestamps_ms[0])
            expected += round(span_ms / (step_s * 1000)) + 1
            present += len(series.timestamps_ms)
    torn = {int(at) for series in resets for at in series.timestamps_ms[series.values > 0]}
    return _Grid(expected, present, frozenset(torn))


def _sampling(evidence: Evidence) -> tuple[float, float]:
    """(relative standard error, largest relative move) of a busy step's time when a fifth is left out in turn."""
    seen = evidence.observations
    fits = [
        Evidence("", tuple(one for index, one in enumerate(seen) if index % FOLDS != fold)).fit("linear")
        for fold in range(FOLDS)
    ]
    busiest = max(seen, key=lambda one: one.decode_seqs / one.steps)
    told = np.array([predicted_s(model, busiest) for model in fits])
    error = sqrt((FOLDS - 1) / FOLDS * float(((told - told.mean()) ** 2).sum())) / float(told.mean())
    return error, float(told.max() / told.min() - 1)


def _fewer(what: str, spread: float, sampling: float, kept: int, lost: int) -> LeftOut:
    """What fewer observations do to the spread: its part from sampling falls with the root of their number."""
    whole = sqrt(max(spread**2 - sampling**2 * lost / (kept + lost), 1e-12))
    return LeftOut(what, max(spread / whole, 1.0))


def _wider(spread: float, more: float) -> float:
    return sqrt(spread**2 + more**2) / spread


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
        list(counts),
        list(counts.values()),
        first_value(client, vocabulary.mean(signal, window, ("pool",), where), now_s),
    )
    if not histogram.weights.sum() > 0:
        raise ModelError(f"no request finished in the last {window}: the mix of lengths is not known")
    return histogram
