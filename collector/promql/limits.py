"""How much one query may ask for. Every limit is named in the LimitError that it causes."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from collector.model.errors import LimitError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one query.

    ``max_samples``            samples read plus values computed, over the whole query
    ``max_points_per_series``  steps of a range query
    ``max_series``             series in any one intermediate result
    ``max_subquery_points``    steps of a subquery, over all steps of the query
    ``timeout_s``              wall time, looked at between the nodes of the expression
    ``max_operators``          operators in the text   ``max_depth``  levels of nesting in the text
    """

    max_samples: int = 50_000_000
    max_points_per_series: int = 11_000
    max_series: int = 200_000
    max_subquery_points: int = 2_000_000
    timeout_s: float = 120.0
    max_operators: int = 200
    max_depth: int = 100


class Budget:
    """What is left of the limits while one query runs, and how many samples it holds: read, or computed."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._deadline_s = clock() + limits.timeout_s
        self._samples = 0
        self.held = 0
        self.most_held = 0

    def hold(self, samples: int) -> None:
        """Count samples as held in memory, until ``held`` is set back; ``most_held`` is the most at once."""
        self.held += samples
        self.most_held = max(self.most_held, self.held)

    def expect(self, samples: int) -> None:
        """Raise LimitError where so many samples more would be beyond the limit, before they are made."""
        if self._samples + samples > self._limits.max_samples:
            raise LimitError(
                f"the query needs more than {self._limits.max_samples} samples at once (max_samples); "
                "narrow the selectors, shorten the range or widen the step"
            )

    def expect_points(self, points: int) -> None:
        """Raise LimitError where a subquery has too many steps."""
        if points > self._limits.max_subquery_points:
            raise LimitError(
                f"a subquery of {points} steps, {self._limits.max_subquery_points} are allowed (max_subquery_points); "
                "widen its step or shorten its range"
            )

    def spend(self, samples: int, series: int = 0) -> None:
        """Count samples read or computed; raises LimitError beyond a limit."""
        self.expect(samples)
        self._samples += samples
        if series > self._limits.max_series:
            raise LimitError(
                f"the query holds {series} series at once, {self._limits.max_series} are allowed (max_series)"
            )

    def check_time(self) -> None:
        """Raise LimitError when the query has run out of time."""
        if self._clock() > self._deadline_s:
            raise LimitError(f"the query ran longer than {self._limits.timeout_s:g} s (timeout_s)", kind="timeout")
