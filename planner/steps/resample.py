"""What a fit would have been on other evidence of the same engine: refits on resampled stretches of the rows.

Steps near each other are slow together, so whole stretches are drawn, not rows (a block bootstrap). Few stretches tell
too little of their own spread, and the costs were fitted to that spread too: deviations from the fit are widened by
the root of ``stretches / freedom`` and by how much wider Student's t of so much freedom is than the normal (Cameron and
Miller, 2015), where each cost takes one degree of freedom, half of them at most.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DRAWS = 19
LEVEL = 0.9
_SEED = 0xB007


def refits(costs: FloatArray, stretches: int, refit: Callable[[IntArray], FloatArray]) -> FloatArray:
    """``DRAWS`` cost vectors around ``costs`` (costs,) as they might have been fitted, (draws, costs), none below 0.

    ``refit`` gives the costs of a fit on chosen ones of the ``stretches`` that there are. Seeded: the same stretches,
    the same draws. None, (0, costs), where there are fewer than two.
    """
    if stretches < 2:
        return np.zeros((0, len(costs)))
    draw = np.random.default_rng(_SEED)
    found = np.array([refit(draw.integers(0, stretches, stretches)) for _ in range(DRAWS)])
    return np.asarray(np.maximum(costs + widening(stretches, int((costs > 0).sum())) * (found - costs), 0.0))


def freedom(stretches: int, costs: int) -> int:
    """Degrees of freedom that so many stretches (at least two) have after a fit of so many costs."""
    return stretches - min(max(costs, 1), stretches // 2)


def widening(stretches: int, costs: int) -> float:
    """By how much deviations of refits on so many stretches (at least two) are widened."""
    left, tail = freedom(stretches, costs), 0.5 + LEVEL / 2
    return float(np.sqrt(stretches / left) * stdtrit(left, tail) / ndtri(tail))
