"""Which buckets of a histogram tell how many observations lie at or below a threshold."""

from bisect import bisect_left
from math import isclose

from collector.signals.dialect import Candidate
from collector.signals.errors import SignalAbsent, SignalError
from collector.signals.status import NotExposed

Fraction = tuple[tuple[float, float], ...]
"""(bound, share) pairs: the sum of share times the bucket's cumulative count estimates the count."""


def fraction_of(signal: str, candidate: Candidate, threshold: float) -> Fraction:
    """Buckets whose weighted counts estimate the observations <= ``threshold`` (in the signal's canonical unit).

    A threshold on a bound takes that bucket alone. Between two bounds it is interpolated linearly, below the first
    from zero; beyond the last finite bound the last bucket stands, which is a floor. Raises SignalError where the
    dialect does not list the bounds or the threshold is not positive.
    """
    bounds = candidate.buckets
    if not bounds:
        raise SignalAbsent(signal, NotExposed(f"the dialect lists no bounds of the buckets of {candidate.metric}"))
    if not threshold > 0:
        raise SignalError(f"signal {signal}: threshold is {threshold}; it must be positive")
    own = threshold / candidate.factor
    above = bisect_left(bounds, own)
    for near in bounds[max(above - 1, 0) : above + 1]:
        if isclose(near, own, rel_tol=1e-9):
            return ((near, 1.0),)
    if above == len(bounds):
        return ((bounds[-1], 1.0),)
    high = bounds[above]
    if above == 0:
        return ((high, own / high),)
    low = bounds[above - 1]
    share = round((own - low) / (high - low), 12)
    return ((low, round(1.0 - share, 12)), (high, share))
