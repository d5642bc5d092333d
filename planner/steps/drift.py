"""Whether an engine still does what its twin says: an alarm when live times leave the twin's band, and since when.

What is watched is the logarithm of seen over predicted. Neighbouring steps are slow together, so means of ``BATCH``
steps are judged, against the spread of such means when the model was fitted (outliers clipped). A two-sided cumulative
sum (Page, 1954) raises the alarm; its limit follows from how many false alarms a day are allowed (Siegmund, 1985).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import Literal

import numpy as np
from scipy.special import chdtri

from planner.errors import ModelError
from planner.result import Observation
from planner.steps.latency import StepModel
from probe_engine.sched import StepStats

BATCH = 25
SHIFT = 0.10
FALSE_PER_DAY = 0.01
DAY_S = 86_400.0
SURE = 0.95
"""The spread of means is taken as large as it is with this confidence."""

_CLIP = 3.0
_OVERSHOOT = 1.166
_LEAST_BATCHES = 8
_MOST_SLACK = 1.0
_CAUTION = 5.0  # means of clipped times have longer tails than normal ones, and their spread is known from few of them


@dataclass(frozen=True, slots=True)
class Band:
    """What is normal: centre and standard deviation of means of ``BATCH`` logarithms, and bounds of single ones.

    ``slack`` and ``limit`` of the cumulative sum are in standard deviations of a batch's mean.
    """

    center: float
    deviation: float
    low: float
    high: float
    slack: float
    limit: float

    @property
    def delay_steps(self) -> float:
        """Steps after which a slowdown of 10% is seen, on average; infinite where noise hides it."""
        over = log(1 + SHIFT) / self.deviation - self.slack
        return BATCH * (self.limit / over + 1) if over > 0 else inf


@dataclass(frozen=True, slots=True)
class Alarm:
    """The band was left: noticed at step ``at`` of those watched, since about step ``since``."""

    at: int
    since: int
    side: Literal["slower", "faster"]


def band_of(model: StepModel, *, step_s: float, false_per_day: float = FALSE_PER_DAY) -> Band:
    """The band of a fitted model for steps of ``step_s`` seconds, one after the other all day.

    Raises ModelError for a model that was not fitted on single steps, or on too few.
    """
    logs = np.log1p(np.maximum(np.array(model.residuals), -0.999))
    stretch = model.residual_stretch if model.residual_stretch > BATCH else max(len(logs), 1)
    usable = len(logs) // stretch * (stretch // BATCH)
    if model.basis != "step" or usable < _LEAST_BATCHES:
        raise ModelError(f"{model.source}: its residuals are not those of enough single steps to tell drift by")
    middle = float(np.median(logs))
    spread = max(1.4826 * float(np.median(np.abs(logs - middle))), 1e-3)
    low, high = middle - _CLIP * spread, middle + _CLIP * spread
    rows = np.clip(logs, low, high)[: len(logs) // stretch * stretch].reshape(-1, stretch)
    means = rows[:, : stretch // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    count = len(means)
    surely = sqrt((count - 1) / chdtri(count - 1, SURE))  # few means tell their spread badly, and alarms hang on it
    deviation = max(float(means.std(ddof=1)) * surely, 1e-3)
    slack = min(log(1 + SHIFT) / deviation / 2, _MOST_SLACK)
    return Band(
        float(means.mean()), deviation, low, high, slack, limit_for(slack, DAY_S / step_s / BATCH, false_per_day)
    )


def limit_for(slack: float, batches: float, false_alarms: float) -> float:
    """The limit (standard deviations) that gives ``false_alarms`` in so many batches of normal means, both sides."""
    wanted = 2 * _CAUTION * batches / false_alarms
    low, high = 0.0, 200.0
    for _ in range(60):
        limit = (low + high) / 2
        reach = 2 * slack * (limit + _OVERSHOOT)
        length = (exp(min(reach, 700.0)) - reach - 1) / (2 * slack * slack)
        low, high = (limit, high) if length < wanted else (low, limit)
    return high


class Monitor:
    """Watches one engine's steps against a band; after an alarm it begins anew."""

    def __init__(self, band: Band) -> None:
        self.band = band
        self.steps = 0
        self._sum = 0.0
        self._count = 0
        self._over = [0.0, 0.0]  # cumulative sums: slower, faster
        self._since = [0, 0]

    def push(self, seen_s: float, predicted_s: float) -> Alarm | None:
        """One step; the alarm that it raises."""
        band = self.band
        self.steps += 1
        self._sum += min(max(log(seen_s / predicted_s), band.low), band.high + SHIFT)
        self._count += 1
        if self._count < BATCH:
            return None
        score = (self._sum / BATCH - band.center) / band.deviation
        self._sum, self._count = 0.0, 0
        return self.judge(score)

    def judge(self, score: float) -> Alarm | None:
        """One batch's mean, in standard deviations from the centre."""
        for side, value in enumerate((score, -score)):
            if self._over[side] <= 0:
                self._over[side], self._since[side] = 0.0, self.steps - BATCH
            self._over[side] += value - self.band.slack
            if self._over[side] > self.band.limit:
                since = self._since[side]
                self._over = [0.0, 0.0]
                return Alarm(self.steps, since, "faster" if side else "slower")
        return None


@dataclass(frozen=True, slots=True)
class Drift:
    """What watching gave: alarms, and the model's error on all steps seen and on those since the onset.

    ``error_ratio`` is summed predicted over seen, less 1.
    """

    steps: int
    band: Band
    alarms: tuple[Alarm, ...]
    error_ratio: float
    recent_error_ratio: float

    @property
    def drifting(self) -> bool:
        """Whether an alarm was raised."""
        return bool(self.alarms)

    def recent(self, steps: Sequence[Observation]) -> list[Observation]:
        """Of the steps that were watched, those since the onset; all where there was no alarm."""
        return _single(steps)[onset(self.alarms) :]


def watch(model: StepModel, steps: Sequence[Observation]) -> Drift:
    """Hold single steps, in the order of time, against a model. Raises ModelError when there are none."""
    kept = _single(steps)
    if not kept:
        raise ModelError(f"{model.source}: no single steps to hold it against")
    predicted = predictions(model, kept)
    seen = np.array([one.wall_s for one in kept])
    monitor = Monitor(band_of(model, step_s=float(seen.mean())))
    alarms = [alarm for pair in zip(seen.tolist(), predicted.tolist(), strict=True) if (alarm := monitor.push(*pair))]
    recent = slice(onset(alarms), None)
    return Drift(
        steps=len(kept),
        band=monitor.band,
        alarms=tuple(alarms),
        error_ratio=float(predicted.sum() / seen.sum() - 1),
        recent_error_ratio=float(predicted[recent].sum() / seen[recent].sum() - 1),
    )


def onset(alarms: Sequence[Alarm]) -> int:
    """Since which step the engine is as the last alarm says: where the alarms of its side in a row began; 0 if none."""
    since = 0
    for alarm in reversed(alarms):
        if alarm.side != alarms[-1].side:
            break
        since = alarm.since
    return since


def _single(steps: Sequence[Observation]) -> list[Observation]:
    return [one for one in steps if one.steps == 1 and one.wall_s > 0]


def predictions(model: StepModel, steps: Iterable[Observation]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """What a model says that each step takes, seconds, (steps,); the gap between steps left out."""
    latency = model.model_copy(update={"step_gap_s": 0.0}).latency_model()
    return np.array(
        [
            latency.step_seconds(
                StepStats(
                    int(one.prefill_tokens), int(one.prefill_attention), int(one.decode_seqs), int(one.decode_kv_tokens)
                )
            )
            for one in steps
        ]
    )
