"""What every node of one running query shares: the store, the clock of the query, the budget, the remarks."""

from dataclasses import dataclass

import numpy as np

from collector.model.series import BoolArray, Int64Array, Querier
from collector.promql.annotations import Annotations
from collector.promql.ast import At
from collector.promql.limits import Budget


@dataclass(frozen=True, slots=True)
class Query:
    """One running query; ``start_ms``, ``end_ms`` and ``step_ms`` are those of the outermost evaluation.

    ``left_open``: a window excludes its left end, as in Prometheus 3; False is Prometheus 2.x.
    ``delayed_names``: metric names are dropped at the end of the query.
    """

    querier: Querier
    budget: Budget
    notes: Annotations
    start_ms: int
    end_ms: int
    step_ms: int
    lookback_ms: int
    left_open: bool
    default_step_ms: int
    delayed_names: bool = False

    def kept_names(self, series: int) -> BoolArray | None:
        """``drops`` of a frame of so many selected series."""
        return np.zeros(series, dtype=np.bool_) if self.delayed_names else None

    def moments(self, times_ms: Int64Array, offset_ms: int, at: At) -> Int64Array:
        """Times that a selector looks at when evaluated at ``times_ms``."""
        if at is None:
            return times_ms - offset_ms
        fixed_ms = self.start_ms if at == "start" else self.end_ms if at == "end" else at
        moments = times_ms.copy()
        moments[:] = fixed_ms - offset_ms
        return moments
