"""Classic histograms: histogram_quantile and histogram_fraction over ``le`` buckets.

Source: prometheus/promql/quantile.go, ``BucketQuantile``, ``BucketFraction`` and
``ensureMonotonicAndIgnoreSmallDeltas``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from collector.model.labels import METRIC_NAME, Labels, get, without
from collector.model.series import BoolArray, Float64Array
from collector.promql.annotations import Annotations
from collector.promql.frame import Frame, compact, empty

_SMALL_DELTA = 1e-12
_SMALLEST_NORMAL = float(np.finfo(np.float64).smallest_normal)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Histograms with the same bounds: ``counts`` (histograms, bounds, steps), cumulative and monotonic.

    ``bounds`` (bounds,) ascending; ``forced`` (histograms, steps): whether counts had to be raised to be monotonic.
    """

    bounds: Float64Array
    counts: Float64Array
    forced: BoolArray


Columns = slice | BoolArray
"""Which steps."""


Estimate = Callable[[Buckets, Columns], Float64Array]


def over_histograms(frame: Frame, estimate: Estimate, remarks: "Remarks", *, monotonic: bool) -> Frame:
    """Group ``frame``'s series into histograms and apply ``estimate(buckets, columns)`` to them, wherever present.

    With ``monotonic``, counts that fall from one bucket to the next are raised first. Metric names are kept.
    """
    by_bounds: dict[tuple[float, ...], list[tuple[Labels, list[int]]]] = {}
    for labels, rows, bounds in _histograms(frame, remarks):
        by_bounds.setdefault(bounds, []).append((labels, rows))
    labels_out: list[Labels] = []
    values, present = [], []
    for bounds, members in by_bounds.items():
        index = np.array([rows for _, rows in members])
        here = frame.present[index]
        parts = [slice(None)] if here.all() else [slice(member, member + 1) for member in range(len(members))]
        for part in parts:
            result = np.full((len(index[part]), frame.steps), np.nan)
            for pattern, columns in _presence_patterns(here[part]):
                counts = frame.values[index[part][:, pattern]][:, :, columns]
                buckets = _buckets(np.array(bounds)[pattern], counts, monotonic)
                result[:, columns] = estimate(buckets, columns)
                for member in np.flatnonzero(buckets.forced.any(axis=1)):
                    remarks.forced_monotonic(frame.labels[index[part][member, 0]])
            values.append(result)
        labels_out += [labels for labels, _ in members]
        present.append(here.any(axis=1))
    if not values:
        return empty(frame.steps)
    drops = None if frame.drops is None else np.zeros(len(labels_out), dtype=np.bool_)
    return compact(Frame(tuple(labels_out), np.concatenate(values), np.concatenate(present), drops))


class Remarks:
    """What there is to say about the histograms of a query, which stand at ``position``."""

    def __init__(self, notes: Annotations, position: int) -> None:
        self._notes = notes
        self._position = position

    def bad_bucket(self, labels: Labels) -> None:
        """A series has no usable ``le``."""
        message = f'bucket label "le" is missing or has a malformed value of "{get(labels, "le")}"'
        self._notes.warn(message + _for_metric(labels), self._position)

    def forced_monotonic(self, labels: Labels) -> None:
        """A histogram's counts fell from one bucket to the next."""
        message = "input to histogram_quantile needed to be fixed for monotonicity "
        message += "(see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
        self._notes.inform(message + _for_metric(labels), self._position)


def _for_metric(labels: Labels) -> str:
    name = get(labels, METRIC_NAME)
    return f' for metric name "{name}"' if name else ""


def _histograms(frame: Frame, remarks: Remarks) -> Iterator[tuple[Labels, list[int], tuple[float, ...]]]:
    """Labels, rows and bounds of every histogram; histograms with equal bounds in a row have equally many rows."""
    found: dict[Labels, list[tuple[float, int]]] = {}
    for row, labels in enumerate(frame.labels):
        try:
            bound = float(get(labels, "le").replace("_", " "))
        except ValueError:
            remarks.bad_bucket(labels)
            continue
        found.setdefault(without(labels, ("le",)), []).append((bound, row))
    for labels, buckets in found.items():
        buckets.sort()
        yield labels, [row for _, row in buckets], tuple(bound for bound, _ in buckets)


def _presence_patterns(here: BoolArray) -> Iterator[tuple[BoolArray, Columns]]:
    """Which buckets are present in which columns, of (histograms, bounds, steps): several only where all are full."""
    if here.all():
        yield np.ones(here.shape[1], dtype=np.bool_), slice(None)
        return
    patterns, inverse = np.unique(here[0].T, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        if pattern.any():
            yield pattern, inverse.ravel() == number


def _buckets(bounds: Float64Array, counts: Float64Array, monotonic: bool) -> Buckets:
    """Merge equal bounds and make the counts ``monotonic``, ignoring differences within rounding error."""
    unique, starts = np.unique(bounds, return_index=True)
    if len(unique) < len(bounds):
        counts = np.add.reduceat(counts, starts, axis=1)
    counts = counts.copy()
    forced = np.zeros((counts.shape[0], counts.shape[2]), dtype=np.bool_)
    if monotonic and not _is_monotonic(counts):
        before = counts[:, 0]
        for position in range(1, counts.shape[1]):
            now = counts[:, position]
            near = _almost_equal(before, now)
            fell = ~near & (now < before)
            forced |= fell
            fixed = np.where(near | fell, before, now)
            counts[:, position] = fixed
            before = fixed
    return Buckets(unique, counts, forced)


def _is_monotonic(counts: Float64Array) -> bool:
    """Whether the counts of every histogram rise by more than rounding errors or not at all."""
    below, above = counts[:, :-1], counts[:, 1:]
    rise = above - below
    beyond_error = (rise > _SMALL_DELTA * (np.abs(below) + np.abs(above))) & (rise >= _SMALLEST_NORMAL)
    return bool(((rise == 0) | beyond_error).all())


def _almost_equal(a: Float64Array, b: Float64Array) -> BoolArray:
    size = np.abs(a) + np.abs(b)
    difference = np.abs(a - b)
    tiny = (a == 0) | (b == 0) | (size < _SMALLEST_NORMAL)
    close = np.where(tiny, difference < _SMALL_DELTA * _SMALLEST_NORMAL, difference / size < _SMALL_DELTA)
    equal: BoolArray = (a == b) | (np.isnan(a) & np.isnan(b)) | close
    return equal


def quantile(buckets: Buckets, quantiles: Float64Array) -> Float64Array:
    """The ``quantiles[step]`` quantile of every histogram: (histograms, steps)."""
    bounds, counts = buckets.bounds, buckets.counts
    total = counts[:, -1]
    shape = total.shape
    if not np.isposinf(bounds[-1]) or len(bounds) < 2:
        result = np.full(shape, np.nan)
    else:
        rank = quantiles[None, :] * total
        index = (~(counts[:, :-1] >= rank[:, None])).sum(axis=1)
        inside = np.minimum(index, len(bounds) - 2)
        below = np.maximum(inside - 1, 0)
        first = inside == 0
        lower_count = np.where(first, 0.0, np.take_along_axis(counts, below[:, None], axis=1)[:, 0])
        upper_count = np.take_along_axis(counts, inside[:, None], axis=1)[:, 0]
        lower = np.where(first, 0.0, bounds[below])
        upper = bounds[inside]
        result = lower + (upper - lower) * ((rank - lower_count) / (upper_count - lower_count))
        result = np.where(first & (bounds[0] <= 0), bounds[0], result)
        result = np.where(index == len(bounds) - 1, bounds[-2], result)
        result = np.where(total == 0, np.nan, result)
    result = np.where(quantiles < 0, -np.inf, np.where(quantiles > 1, np.inf, result))
    answer: Float64Array = np.where(np.isnan(quantiles), np.nan, result)
    return answer


def fraction(buckets: Buckets, lower: Float64Array, upper: Float64Array) -> Float64Array:
    """Share of the observations between ``lower[step]`` and ``upper[step]``: (histograms, steps)."""
    total = buckets.counts[:, -1]
    if not np.isposinf(buckets.bounds[-1]):
        return np.full(total.shape, np.nan)
    share = (_rank(buckets, upper) - _rank(buckets, lower)) / total
    share = np.where(lower >= upper, 0.0, share)
    answer: Float64Array = np.where((total == 0) | np.isnan(lower) | np.isnan(upper), np.nan, share)
    return answer


def _rank(buckets: Buckets, limit: Float64Array) -> Float64Array:
    """Estimated observations below ``limit[step]``, by linear interpolation within its bucket."""
    total = buckets.counts[:, -1]
    result = total.copy()
    settled = np.zeros(total.shape, dtype=np.bool_)
    rank = np.zeros(total.shape)
    lower = -np.inf if buckets.bounds[0] <= 0 else 0.0
    for position, upper in enumerate(buckets.bounds):
        count = buckets.counts[:, position]
        at_edge = ~settled & (lower >= limit)
        result = np.where(at_edge, rank, result)
        settled = settled | at_edge
        inside = ~settled & (lower < limit) & (upper > limit)
        part = 1.0 if np.isinf(lower) else (limit - lower) / (upper - lower)
        result = np.where(inside, rank + (count - rank) * part, result)
        settled = settled | inside
        rank, lower = count, upper
    return np.minimum(result, total)
