"""Which replicas stand apart from their pool: robust z-scores, which a few sick replicas cannot hide.

z = 0.6745 (x - median) / MAD, as in Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993), who name 3.5 as the
threshold.
"""

from collections.abc import Mapping
from statistics import median

THRESHOLD = 3.5
FEWEST = 3
CONSISTENCY = 0.6745
"""Makes the MAD of a normal sample estimate its standard deviation."""

LEAST_SPREAD = 0.02
"""A spread below this share of the median counts as this share: replicas that agree to the percent have no outlier at
two percent."""


def scores(values: Mapping[str, float], least: float = 0.0) -> dict[str, float]:
    """Robust z of each replica of one pool; empty with fewer than three. ``least`` is the smallest spread that matters,
    in the values' unit, for those whose median may be zero."""
    if len(values) < FEWEST:
        return {}
    middle = median(values.values())
    spread = median(abs(value - middle) for value in values.values())
    spread = max(spread, CONSISTENCY * LEAST_SPREAD * abs(middle), CONSISTENCY * least, 1e-12)
    return {name: CONSISTENCY * (value - middle) / spread for name, value in values.items()}
