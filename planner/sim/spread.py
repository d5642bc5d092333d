"""How far a twin's latencies may be trusted: the same load played with other noise, and with other costs.

A run of the real engine is one more play like the twin's own, so an interval from the least to the largest of
``PLAYS`` of them holds it with probability (PLAYS - 1) / (PLAYS + 1). Each play's costs are off by as much as the
calibration's mean may be: the spread of the means of its stretches of steps over the root of their number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.latency import COSTS
from planner.result import FloatArray
from planner.sim.simulate import Played, Twin, play
from planner.trace import Trace

PLAYS = 19
LEVEL = (PLAYS - 1) / (PLAYS + 1)
MOST = 4.0  # standard errors that the mean of a play's costs may be off
_STREAM = 0x5B8EAD

Statistic = Callable[[Played], float]


@dataclass(frozen=True, slots=True)
class Interval:
    """The median and the range of a statistic over plays, in its unit."""

    middle: float
    low: float
    high: float


def mean_deviation(twin: Twin) -> tuple[float, int]:
    """(relative standard error of the mean step that the twin's noise was learnt from, its degrees of freedom).

    Each cost that was fitted to the same steps takes one degree of freedom. (0, 1) where there is no noise, or none of
    steps that followed each other.
    """
    stretch = twin.noise_stretch
    rows = len(twin.noise) // stretch
    if stretch == 1 or rows < 2:
        return 0.0, 1
    means = np.array(twin.noise[: rows * stretch]).reshape(rows, stretch).mean(axis=1)
    taken = min(len(COSTS), rows - 1)
    return float(means.std(ddof=taken) / np.sqrt(rows)), rows - taken


def intervals(trace: Trace, twin: Twin, statistics: Sequence[Statistic], *, seed: int = 0) -> tuple[Interval, ...]:
    """Intervals of nominal 90% for what one run of the real engine would show, one per statistic."""
    deviation, degrees = mean_deviation(twin)
    draw = np.random.default_rng([seed, _STREAM])
    found = []
    for number in range(PLAYS):
        factor = float(np.exp(deviation * np.clip(draw.standard_t(degrees), -MOST, MOST)))
        scaled = replace(
            twin,
            noise=tuple(factor * one for one in twin.noise),
            prompt_noise=tuple(factor * one for one in twin.prompt_noise),
        )
        played = play(trace, scaled, seed=seed + number)
        found.append([statistic(played) for statistic in statistics])
    values: FloatArray = np.array(found)
    return tuple(Interval(float(np.median(one)), float(one.min()), float(one.max())) for one in values.T)


def ttft(q: float) -> Statistic:
    """A quantile of the time to first token, seconds."""
    return lambda played: float(np.nanquantile(played.first_token_s - played.due_s, q))


def end_to_end(q: float) -> Statistic:
    """A quantile of the time from due to the last token, seconds."""
    return lambda played: float(np.nanquantile(played.last_token_s - played.due_s, q))
