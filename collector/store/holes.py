"""The bit pattern by which the store marks "this series was not part of this scrape".

A hole is not a sample: readers see Prometheus's stale marker in its place. It differs from the marker so that series
kept by two sources can be merged, where a marker counts and a hole does not. A sample that arrives with exactly these
bits is stored as an ordinary NaN, which is what every PromQL function takes it for.
"""

import numpy as np

from collector.model.series import STALE_BITS, BoolArray, Float64Array

HOLE_BITS = 0x7FF44C4F41444C4E
HOLE: float = np.array([HOLE_BITS], dtype=np.uint64).view(np.float64)[0]
_NAN_BITS = 0x7FF8000000000001


def is_hole(values: Float64Array) -> BoolArray:
    """Where ``values`` hold no sample."""
    holes: BoolArray = values.view(np.uint64) == HOLE_BITS
    return holes


def fill_holes(values: Float64Array) -> None:
    """Turn holes into stale markers, in place."""
    values.view(np.uint64)[is_hole(values)] = STALE_BITS


def without_holes(values: Float64Array) -> Float64Array:
    """``values`` as they came, unless one has the bits of a hole: then a copy with an ordinary NaN there."""
    values = np.ascontiguousarray(values, np.float64)
    holes = is_hole(values)
    if holes.any():
        values = values.copy()
        values.view(np.uint64)[holes] = _NAN_BITS
    return values
