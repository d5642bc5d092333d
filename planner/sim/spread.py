"""How far a twin's latencies may be trusted: the same load played with other noise, and with other costs.

A run of the real engine is one more play like the twin's own, so an interval from the least to the largest of
``PLAYS`` of them holds it with probability (PLAYS - 1) / (PLAYS + 1). Each play has costs and
noise as they might have been learnt from other evidence.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.result import FloatArray, IntArray
from planner.sim.simulate import Played, Twin, play
from planner.steps.latency import COSTS
from planner.steps.resample import freedom
from planner.traces.trace import Trace

PLAYS = 19
LEVEL = (PLAYS - 1) / (PLAYS + 1)
_STREAM = 0x5B8EAD

Statistic = Callable[[Played], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """The median and the range of a statistic over plays, in its unit."""

    middle: float
    low: float
    high: float


def intervals(trace: Trace, twin: Twin, statistics: Sequence[Statistic], *, seed: int = 0) -> tuple[Interval, ...]:
    """Intervals of nominal 90% for what one run of the real engine would show, one per statistic."""
    values: FloatArray = np.array(
        [
            [statistic(played) for statistic in statistics]
            for played in (play(trace, doubted(twin, number, seed), seed=seed + number) for number in range(PLAYS))
        ]
    )
    return tuple(Interval(float(np.median(one)), float(one.min()), float(one.max())) for one in values.T)


def doubted(twin: Twin, number: int, seed: int = 0) -> Twin:
    """The twin as other evidence might have made it: the costs of one of its draws, and its noise drawn anew.

    As it is where it has neither.
    """
    model = twin.drawn[number % len(twin.drawn)] if twin.drawn else twin.model
    stretch = twin.noise_stretch
    rows = len(twin.noise) // stretch
    if stretch == 1 or rows < 2:
        return replace(twin, model=model)
    chosen = np.random.default_rng([seed, number, _STREAM]).integers(0, rows, rows)
    noise, prompts = (
        _redrawn(np.array(one[: rows * stretch]).reshape(rows, stretch)[chosen])
        for one in (twin.noise, twin.prompt_noise or twin.noise)
    )
    return replace(twin, model=model, noise=noise, prompt_noise=prompts)


def steady(twin: Twin) -> Twin:
    """The twin on a machine whose speed does not change: noise without what whole stretches have in common.

    For plays beside which the speed was measured: its changes since are no noise of single steps.
    """
    stretch = twin.noise_stretch
    rows = len(twin.noise) // stretch
    if stretch == 1 or not rows:
        return twin
    noise, prompts = (
        _levelled(np.array(one[: rows * stretch]).reshape(rows, stretch))
        for one in (twin.noise, twin.prompt_noise or twin.noise)
    )
    return replace(twin, noise=noise, prompt_noise=prompts)


def _levelled(stretches: FloatArray) -> tuple[float, ...]:
    """Factors of mean 1, (stretches, steps) as one row, of the same geometric mean in each stretch."""
    logs = np.log(np.maximum(stretches, 1e-3))
    factors = np.exp(logs - logs.mean(axis=1, keepdims=True)).ravel()
    return tuple((factors / factors.mean()).tolist())


def _redrawn(stretches: FloatArray) -> tuple[float, ...]:
    """Factors of mean 1, (stretches, steps) as one row; stretches differ more by what the fit's costs took of that."""
    rows = len(stretches)
    logs = np.log(np.maximum(stretches, 1e-3))
    level = logs.mean(axis=1, keepdims=True)
    logs += (np.sqrt(rows / freedom(rows, len(COSTS))) - 1) * (level - level.mean())
    factors = np.exp(logs).ravel()
    return tuple((factors / factors.mean()).tolist())


def ttft(q: float) -> Statistic:
    """A quantile of the time to first token, seconds."""
    return lambda played: float(np.nanquantile(played.first_token_s - played.due_s, q))


def end_to_end(q: float) -> Statistic:
    """A quantile of the time from due to the last token, seconds."""
    return lambda played: float(np.nanquantile(played.last_token_s - played.due_s, q))


def per_token(q: float, output_tokens: IntArray) -> Statistic:
    """A quantile of the mean time between a request's tokens, seconds; ``output_tokens`` (rows,) as in the trace."""
    gaps = np.where(output_tokens > 1, output_tokens - 1, np.nan)
    return lambda played: float(np.nanquantile((played.last_token_s - played.first_token_s) / gaps, q))
