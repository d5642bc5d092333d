"""Where a load with days and weeks is going: next weeks by hour, with a band and a peak whose coverage was measured.

The forecast is the last seasons' level by hour of the week, carried on by a growth per hour. Its band is made of the
errors that the same rule made from earlier origins (on logs, pooled by day ahead), and its peak of the errors of the
peaks, one-sided: a fleet is sized for what is not exceeded. Coverage is that on origins which the band was not made of.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from planner.errors import CapacityError

FloatArray = npt.NDArray[np.float64]

DAY, WEEK = 24, 168
COVERAGE = 0.9
PEAK_CONFIDENCE = 0.95
LEAST_WEEKS = 4
GROWTH_WEEKS = 6
LEVEL_WEEKS = 2
_FLOOR = 1e-9


@dataclass(frozen=True, slots=True)
class SeasonForecast:
    """Hours ahead of the last: ``median``, ``low``, ``high``, all (hours,), in the units of the series.

    ``peak`` is what the largest hour of the horizon stays under with 95% confidence. The coverages are of origins left
    out of the band, None where there were too few; ``origins`` is how many the band was made of.
    """

    median: FloatArray
    low: FloatArray
    high: FloatArray
    peak_median: float
    peak: float
    growth_per_week: float
    coverage: float | None
    peak_coverage: float | None
    origins: int

    def crossing(self, line: float) -> tuple[int | None, int | None, int | None]:
        """Hours from now, counted from 1, at which high, median and low first reach ``line``: earliest to latest."""
        return _first(self.high, line), _first(self.median, line), _first(self.low, line)


def season_forecast(hourly: FloatArray, hours: int) -> SeasonForecast:
    """Continue an hourly, non-negative series (hours,) for ``hours``; NaN are bridged.

    Raises CapacityError with fewer than four weeks, or than leave an origin to learn from.
    """
    series = _bridged(np.asarray(hourly, dtype=np.float64))
    origins = list(range(len(series) - hours, LEAST_WEEKS * WEEK // 2 - 1, -DAY))[::-1]
    if len(series) < LEAST_WEEKS * WEEK or len(origins) < 2:
        raise CapacityError(
            f"{len(series) / WEEK:.1f} weeks of load are too few for {hours / WEEK:.1f} weeks ahead: "
            f"at least {max(LEAST_WEEKS, hours / WEEK + LEAST_WEEKS / 2 + 0.3):.1f}"
        )
    logs = np.log(np.maximum(series, _FLOOR))
    errors = np.array([logs[at : at + hours] - _carried(logs[:at], hours)[0] for at in origins])
    peaks = np.array([logs[at : at + hours].max() - _carried(logs[:at], hours)[0].max() for at in origins])
    ahead, growth = _carried(logs, hours)
    low, high = _band(errors)
    coverage, peak_coverage = _measured(errors, peaks)
    return SeasonForecast(
        median=np.exp(ahead),
        low=np.exp(ahead + low),
        high=np.exp(ahead + high),
        peak_median=float(np.exp(ahead.max())),
        peak=float(np.exp(ahead.max() + _upper(peaks))),
        growth_per_week=float(np.expm1(growth * WEEK)),
        coverage=coverage,
        peak_coverage=peak_coverage,
        origins=len(origins),
    )


def _carried(logs: FloatArray, hours: int) -> tuple[FloatArray, float]:
    """(the next hours of a log series, its growth per hour)."""
    weeks = len(logs) // WEEK
    level = logs[len(logs) - weeks * WEEK :].reshape(weeks, WEEK)
    used = min(weeks, GROWTH_WEEKS)
    means = np.median(level[-used:], axis=1)
    steps = [(means[j] - means[i]) / (j - i) for i in range(used) for j in range(i + 1, used)]
    growth = float(np.median(steps)) / WEEK if steps else 0.0
    recent = min(weeks, LEVEL_WEEKS)
    age = np.arange(recent, 0, -1)[:, None] * WEEK * growth
    shape = (level[-recent:] + age).mean(axis=0)
    ahead = np.arange(hours)
    return np.asarray(shape[ahead % WEEK] + growth * (ahead // WEEK) * WEEK), growth


def _band(errors: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(low, high) log errors by hour ahead, pooled by day ahead and its neighbours."""
    hours = errors.shape[1]
    tail = (1 - COVERAGE) / 2
    low, high = np.empty(hours), np.empty(hours)
    for start in range(0, hours, DAY):
        pool = errors[:, max(start - DAY, 0) : start + 2 * DAY].ravel()
        low[start : start + DAY], high[start : start + DAY] = np.quantile(pool, [tail, 1 - tail])
    return low, high


def _upper(peaks: FloatArray) -> float:
    """Error of a peak that is not exceeded with the confidence asked for: conformal, the largest where too few."""
    rank = int(np.ceil(PEAK_CONFIDENCE * (len(peaks) + 1)))
    return float(np.sort(peaks)[min(rank, len(peaks)) - 1])


def _measured(errors: FloatArray, peaks: FloatArray) -> tuple[float | None, float | None]:
    """(share of hours inside, share of peaks below) of the later half, by bands made of the earlier."""
    half = len(errors) // 2
    if half < 2:
        return None, None
    low, high = _band(errors[:half])
    inside = (errors[half:] >= low) & (errors[half:] <= high)
    return float(inside.mean()), float((peaks[half:] <= _upper(peaks[:half])).mean())


def _bridged(series: FloatArray) -> FloatArray:
    known = np.isfinite(series)
    if not known.any():
        raise CapacityError("the load is not known at any hour")
    places = np.arange(len(series))
    return np.interp(places, places[known], np.maximum(series[known], 0.0))


def _first(values: FloatArray, line: float) -> int | None:
    above = np.nonzero(values >= line)[0]
    return int(above[0]) + 1 if len(above) else None
