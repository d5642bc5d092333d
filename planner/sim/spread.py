"""How far a twin's latencies may be trusted: the same load played with other noise, and with other costs.

A run of the real engine is one more play like the twin's own, so an interval from the least to the largest of
``PLAYS`` of them holds it with probability (PLAYS - 1) / (PLAYS + 1). Each play has noise of its own, and costs as they
might have been fitted on other evidence (``Twin.drawn``).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from planner.result import FloatArray
from planner.sim.simulate import Played, Twin, play
from planner.trace import Trace

PLAYS = 19
LEVEL = (PLAYS - 1) / (PLAYS + 1)

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
            for played in (play(trace, doubted(twin, number), seed=seed + number) for number in range(PLAYS))
        ]
    )
    return tuple(Interval(float(np.median(one)), float(one.min()), float(one.max())) for one in values.T)


def doubted(twin: Twin, number: int) -> Twin:
    """The twin with the costs of one of its draws; as it is where it has none."""
    return replace(twin, model=twin.drawn[number % len(twin.drawn)]) if twin.drawn else twin


def ttft(q: float) -> Statistic:
    """A quantile of the time to first token, seconds."""
    return lambda played: float(np.nanquantile(played.first_token_s - played.due_s, q))


def end_to_end(q: float) -> Statistic:
    """A quantile of the time from due to the last token, seconds."""
    return lambda played: float(np.nanquantile(played.last_token_s - played.due_s, q))
