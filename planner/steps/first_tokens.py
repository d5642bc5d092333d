"""Whether clients wait for first tokens as long as the twin says: an alarm when they do not, and since when.

The twin plays the requests of a run, so that nothing but its step noise is left to chance. Some plays tell how far the
mean logarithm of a few successive waits may lie from theirs, others with every step 10% longer where it would lie after
such a slowdown. A cumulative sum of the logarithms of how much likelier the one is than the other (Page, 1954) raises
the alarm: were the windows independent and their spread known, chance alone would reach a height ``h`` once in
``exp(h)`` sums at most (Lorden, 1971). They are not: 30% of simulated days raised one (``benchmarks.drift_alarms``).
"""

from dataclasses import dataclass, replace
from math import exp, log
from typing import Literal

import numpy as np

from planner.errors import RunError
from planner.result import FloatArray, Run
from planner.sim import Played, Twin, play
from planner.steps.drift import DAY_S, FALSE_PER_DAY, SHIFT, Alarm, onset
from planner.traces.replayed import trace_of
from planner.traces.trace import Trace

TOGETHER = 25
"""Successive requests whose waits are judged as one."""

PLAYS = 8
_CLIP = 3.0
_LEAST_SD = 0.02
_MOST_ALIKE = 0.8
_MOST_SHIFT = 1.0  # no single window raises an alarm, however small its spread seems from few plays
_CAUTION = 5.0  # the spread is known from few plays, and waits have longer tails than normal ones


@dataclass(frozen=True, slots=True)
class FirstTokens:
    """What was found; alarms count requests. Errors are the twin's wait over the one seen, less 1: of all requests and
    of those since the onset, geometric means.
    """

    requests: int
    alarms: tuple[Alarm, ...]
    error_ratio: float
    recent_error_ratio: float

    @property
    def drifting(self) -> bool:
        """Whether an alarm was raised."""
        return bool(self.alarms)


def watch_first_tokens(
    run: Run, twin: Twin, source: str, *, seed: int = 0, false_per_day: float = FALSE_PER_DAY
) -> FirstTokens:
    """Hold the waits of a run's requests, from when they were sent, against a twin. Raises RunError with too few."""
    trace = trace_of(run, source)
    count = len(trace) // TOGETHER
    if count < 2:
        raise RunError(f"{source}: {len(trace)} requests ended well; to judge their waits takes {2 * TOGETHER}")
    off, score, shift = compared(run, trace, twin, seed=seed)
    if not np.isfinite(off).all():
        raise RunError(f"{source}: the twin cannot serve every request of it; its limits are not the engine's")
    alarms = raised(score, shift, limit_for(DAY_S * count / max(trace.duration_s, 1e-9), false_per_day))
    recent = off[onset(alarms) // TOGETHER :]
    return FirstTokens(count * TOGETHER, tuple(alarms), exp(off.mean()) - 1, exp(recent.mean()) - 1)


def limit_for(sums_per_day: float, false_per_day: float = FALSE_PER_DAY) -> float:
    """The height of a sum that chance reaches on so many days, both sides together."""
    return log(2 * _CAUTION * sums_per_day / false_per_day)


def compared(run: Run, trace: Trace, twin: Twin, *, seed: int = 0) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(twin's mean logarithm less the one seen, that in deviations, what a slowdown adds in deviations), (windows,)."""
    seen = _means(_waits(run, trace))
    usual = np.array([_means(_waits_of(play(trace, twin, seed=seed + at))) for at in range(PLAYS)])
    slower = np.array([_means(_waits_of(play(trace, slowed(twin), seed=seed + at))) for at in range(PLAYS)])
    center = usual.mean(axis=0)
    deviation = np.maximum(usual.std(axis=0, ddof=1), _LEAST_SD) * _alike(usual - center)
    shift = np.clip((slower.mean(axis=0) - center) / deviation, 0.0, _MOST_SHIFT)
    return center - seen, np.clip((seen - center) / deviation, -_CLIP - shift, _CLIP + shift), shift


def slowed(twin: Twin, ratio: float = SHIFT) -> Twin:
    """The twin with every step longer by ``ratio``."""
    noise, prompts = (
        tuple(factor * (1 + ratio) for factor in one) for one in (twin.noise or (1.0,), twin.prompt_noise)
    )
    return replace(twin, noise=noise, prompt_noise=prompts)


def raised(score: FloatArray, shift: FloatArray, limit: float) -> list[Alarm]:
    """Alarms of two sums, one a side, over what ``compared`` gives."""
    alarms: list[Alarm] = []
    sides: tuple[Literal["slower", "faster"], ...] = ("slower", "faster")
    over, since = [0.0, 0.0], [0, 0]
    for at in range(len(score)):
        for side, sign in enumerate((1.0, -1.0)):
            if over[side] <= 0:
                over[side], since[side] = 0.0, at
            over[side] += shift[at] * (sign * score[at] - shift[at] / 2)
            if over[side] > limit:
                alarms.append(Alarm((at + 1) * TOGETHER, since[side] * TOGETHER, sides[side]))
                over = [0.0, 0.0]
    return alarms


def _alike(off: FloatArray) -> float:
    """By how much means of windows that resemble their neighbours spread wider than those of windows that do not."""
    alike = float((off[:, 1:] * off[:, :-1]).mean() / max((off**2).mean(), 1e-12))
    alike = min(max(alike, 0.0), _MOST_ALIKE)
    return float(np.sqrt((1 + alike) / (1 - alike)))


def _means(waits_s: FloatArray) -> FloatArray:
    """Mean logarithms of successive waits, (windows,)."""
    rows = waits_s[: len(waits_s) // TOGETHER * TOGETHER].reshape(-1, TOGETHER)
    return np.asarray(np.log(np.maximum(rows, 1e-6)).mean(axis=1))


def _waits_of(played: Played) -> FloatArray:
    return np.asarray(played.first_token_s - played.due_s)


def _waits(run: Run, trace: Trace) -> FloatArray:
    """Seconds from sent to first token of the requests of ``trace_of`` the run, in its order."""
    order = np.argsort(run.requests.row_id)
    rows = order[np.searchsorted(run.requests.row_id, trace.row_id, sorter=order)]
    return np.asarray(run.latencies()["ttft_sent_s"][rows])
