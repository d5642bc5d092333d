"""Whether two runs differ by more than chance: the change of each statistic, its interval, and how likely by chance.

Runs of one trace are resampled together, the same blocks of neighbours in both, so that what the trace does to both
drops out; runs of different traces apart. Beside it stands Mann and Whitney's test on the blocks' medians, which do not
hang together as neighbouring requests do.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from planner.compare import METRICS
from planner.replay.intervals import STATISTICS, Interval, block_length, bootstrapped, resamples, statistics
from planner.result import FloatArray, Run


@dataclass(frozen=True, slots=True)
class Change:
    """A statistic in both runs, seconds; ``ratio`` is (b - a) / a with its 95% interval.

    ``p_value`` is how often resampling puts the change on the other side of none, twice.
    """

    a: float
    b: float
    ratio: Interval
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves no change out."""
        return self.ratio.low > 0 or self.ratio.high < 0


@dataclass(frozen=True, slots=True)
class Shift:
    """One latency of two runs: each statistic's change; Mann and Whitney's p over blocks' medians; whether paired."""

    changes: Mapping[str, Change]
    mann_whitney_p: float
    paired: bool
    n_a: int
    n_b: int


def shifts(a: Run, b: Run, seed: int = 0) -> dict[str, Shift]:
    """How ``b`` differs from ``a`` in each latency that both have, over all that ended well in the measured parts."""
    a, b = a.measured(), b.measured()
    _, at_a, at_b = np.intersect1d(a.requests.row_id, b.requests.row_id, return_indices=True)
    same = a.header.trace_sha256 == b.header.trace_sha256
    order = np.argsort(a.requests.due_s[at_a], kind="stable")
    at_a, at_b = at_a[order], at_b[order]
    found = {}
    left, right = a.latencies(), b.latencies()
    for name in METRICS:
        x, y = left[name], right[name]
        paired = same and name != "itl_s"
        if paired:
            x, y = x[at_a], y[at_b]
            both = ~np.isnan(x) & ~np.isnan(y)
            x, y = x[both], y[both]
        else:
            x, y = x[~np.isnan(x)], y[~np.isnan(y)]
        if len(x) > 1 and len(y) > 1:
            found[name] = _shift(x, y, seed, paired=paired)
    return found


def _shift(x: FloatArray, y: FloatArray, seed: int, *, paired: bool) -> Shift:
    from scipy.stats import mannwhitneyu

    if paired:
        drawn = [(statistics(x[index]), statistics(y[index])) for index in resamples(len(x), seed)]
        drawn_x, drawn_y = (np.concatenate(part) for part in zip(*drawn, strict=True))
    else:
        drawn_x, drawn_y = bootstrapped(x, seed), bootstrapped(y, seed + 1)
    point_x, point_y = statistics(x[np.newaxis])[0], statistics(y[np.newaxis])[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(drawn_y / drawn_x - 1, nan=0.0)
        point = np.nan_to_num(point_y / point_x - 1, nan=0.0)
    low, high = np.percentile(ratios, (2.5, 97.5), axis=0)
    draws = len(ratios)
    other = np.minimum((ratios <= 0).sum(axis=0), (ratios >= 0).sum(axis=0))
    p_values = np.minimum(1.0, 2 * (other + 1) / (draws + 1))
    changes = {}
    for place, stat in enumerate(STATISTICS):
        ratio = Interval(float(point[place]), float(low[place]), float(high[place]))
        changes[stat] = Change(float(point_x[place]), float(point_y[place]), ratio, float(p_values[place]))
    tested = mannwhitneyu(_medians(x), _medians(y))
    return Shift(changes, float(tested.pvalue), paired, len(x), len(y))


def _medians(values: FloatArray) -> FloatArray:
    """Medians of blocks of neighbours, twice as long as those that are resampled."""
    length = 2 * block_length(len(values))
    whole = max(len(values) // length, 1)
    return np.array([np.median(part) for part in np.array_split(values, whole)])
