"""Where a load is going in the near future: a damped trend with a band whose width was earned on the past.

The level is the mean of the last points, the trend a robust line through the window, damped so that it fades. The
band comes from the errors that the same rule made from earlier origins, pooled over all of them and scaled by the
square root of the time ahead. Too little history gives no forecast rather than a guess.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

COVERAGE = 0.9
MIN_POINTS = 20
_MIN_ORIGINS = 5
_DAMPING = 0.97
_LEVEL_POINTS = 3
_WINDOW = 30


@dataclass(frozen=True, slots=True)
class Forecast:
    """Future values at ``times_s`` (Unix seconds), each (points,); ``low``..``high`` is meant to cover ``coverage``.

    ``backtest_coverage`` is the share of values after the later half of the ``origins`` (past moments that it was tried
    from) that a band made of the earlier half did cover.
    """

    times_s: FloatArray
    median: FloatArray
    low: FloatArray
    high: FloatArray
    coverage: float
    backtest_coverage: float
    origins: int


def forecast(times_s: FloatArray, values: FloatArray, horizon_s: float) -> Forecast | None:
    """Continue an evenly spaced, non-negative series for ``horizon_s``; None with fewer than 20 points.

    Points that are NaN are left out at either end and bridged linearly inside.
    """
    times, level = _clean(times_s, values)
    if len(level) < MIN_POINTS:
        return None
    step_s = float(np.median(np.diff(times)))
    ahead = max(round(horizon_s / step_s), 1)
    errors = [_origin_errors(level, origin, ahead) for origin in range(MIN_POINTS // 2, len(level) - 1)]
    if len(errors) < _MIN_ORIGINS:
        return None
    root = np.sqrt(np.arange(1, ahead + 1))
    scaled = [error / root[: len(error)] for error in errors]
    lower, upper = _band(scaled)
    half = len(scaled) // 2
    tried_lower, tried_upper = _band(scaled[:half])
    later = np.concatenate(scaled[half:])
    covered = np.mean((later >= tried_lower) & (later <= tried_upper))
    median = _continue(level, ahead)
    return Forecast(
        times_s=times[-1] + step_s * np.arange(1, ahead + 1),
        median=median,
        low=np.maximum(median + lower * root, 0.0),
        high=median + upper * root,
        coverage=COVERAGE,
        backtest_coverage=float(covered),
        origins=len(errors),
    )


def first_crossing_s(times_s: FloatArray, values: FloatArray, line: float) -> float | None:
    """First time at which a rising series reaches ``line``, interpolated; None when it does not."""
    above = np.nonzero(values >= line)[0]
    if not len(above):
        return None
    at = int(above[0])
    if at == 0 or values[at] == values[at - 1]:
        return float(times_s[at])
    share = (line - values[at - 1]) / (values[at] - values[at - 1])
    return float(times_s[at - 1] + share * (times_s[at] - times_s[at - 1]))


def _band(scaled: Sequence[FloatArray]) -> tuple[float, float]:
    """(lower, upper) of errors per root of the steps ahead, around 0."""
    tail = (1 - COVERAGE) / 2
    lower, upper = np.quantile(np.concatenate(scaled), [tail, 1 - tail])
    return min(float(lower), 0.0), max(float(upper), 0.0)


def _clean(times_s: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    known = np.nonzero(np.isfinite(values))[0]
    if len(known) < 2:
        return times_s[:0], values[:0]
    inside = slice(int(known[0]), int(known[-1]) + 1)
    times, kept = times_s[inside], values[inside]
    good = np.isfinite(kept)
    return times, np.interp(times, times[good], kept[good])


def _continue(values: FloatArray, ahead: int) -> FloatArray:
    """The next ``ahead`` values, never below 0."""
    recent = values[-_WINDOW:]
    position = np.arange(len(recent))
    half = len(recent) // 2
    early, late = recent[:half], recent[half:]
    slope = (np.median(late) - np.median(early)) / (np.median(position[half:]) - np.median(position[:half]))
    level = float(np.mean(recent[-_LEVEL_POINTS:]))
    faded = _DAMPING * (1 - _DAMPING ** np.arange(1, ahead + 1)) / (1 - _DAMPING)
    return np.asarray(np.maximum(level + slope * faded, 0.0), dtype=np.float64)


def _origin_errors(values: FloatArray, origin: int, ahead: int) -> FloatArray:
    actual = values[origin : origin + ahead]
    return np.asarray(actual - _continue(values[:origin], len(actual)), dtype=np.float64)
