"""Exponential histograms as classic ones.

The bounds are powers of the fourth root of two (``le`` 0.84, 1, 1.19, 1.41, 1.68, 2 ...): a bucket of any scale from 2
on lies wholly within one of theirs, so counts at these bounds are exact, and a quantile is off by less than a fifth. Of
a coarser histogram, or of one wider than ``MAX_BUCKETS``, every second bound is left out until it fits, which is exact
too. Zeros are counted at ``le`` = the zero threshold, negative values at negated bounds.
"""

import math

from opentelemetry.proto.metrics.v1 import metrics_pb2 as wire

FINEST_SCALE = 2
LOWEST_SCALE, HIGHEST_SCALE = -10, 20
MAX_BUCKETS = 160
"""Most bounds of either sign."""

ROOTS = tuple(2.0 ** (quarter / 4) for quarter in range(4))

Buckets = dict[int, int]
"""Counts by bucket index at some scale: bucket ``i`` reaches from base**i, not included, to base**(i+1)."""


def classic(point: wire.ExponentialHistogramDataPoint) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Upper bounds, rising, and the count of each bucket, one more than bounds; ValueError where it makes no sense."""
    if not LOWEST_SCALE <= point.scale <= HIGHEST_SCALE:
        raise ValueError(f"scale is {point.scale}; it is from {LOWEST_SCALE} to {HIGHEST_SCALE}")
    scale = min(point.scale, FINEST_SCALE)
    while any(_width(side, point.scale - scale) > MAX_BUCKETS for side in (point.negative, point.positive)):
        scale -= 1
    counts: dict[float, int] = {}
    for sign, side in ((-1, point.negative), (1, point.positive)):
        for index, count in _coarser(side, point.scale - scale).items():
            edge = index if sign < 0 else index + 1
            counts[sign * _bound(edge, scale)] = counts.get(sign * _bound(edge, scale), 0) + count
    counts[point.zero_threshold] = counts.get(point.zero_threshold, 0) + point.zero_count
    bounds = tuple(sorted(bound for bound in counts if math.isfinite(bound)))
    within = [counts[bound] for bound in bounds]
    beyond = point.count - sum(within)
    if beyond < 0:
        raise ValueError(f"its buckets hold {sum(within)} of {point.count} observations")
    return bounds, (*map(float, within), float(beyond))


def _width(side: wire.ExponentialHistogramDataPoint.Buckets, shift: int) -> int:
    if not side.bucket_counts:
        return 0
    return (side.offset + len(side.bucket_counts) - 1 >> shift) - (side.offset >> shift) + 1


def _coarser(side: wire.ExponentialHistogramDataPoint.Buckets, shift: int) -> Buckets:
    counts: Buckets = {}
    for place, count in enumerate(side.bucket_counts):
        index = side.offset + place >> shift
        counts[index] = counts.get(index, 0) + count
    return counts


def _bound(index: int, scale: int) -> float:
    """base**index of a scale of at most ``FINEST_SCALE``; infinite where no float is as large."""
    quarters = index << (FINEST_SCALE - scale)
    try:
        return math.ldexp(ROOTS[quarters % 4], quarters // 4)
    except OverflowError:
        return math.inf
