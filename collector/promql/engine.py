"""The door: a query text, a Querier and times in; a Result out."""

from dataclasses import dataclass
from typing import Literal

from collector.model.series import Querier, Series
from collector.promql.limits import Limits

ResultKind = Literal["scalar", "vector", "matrix", "string"]


@dataclass(frozen=True, slots=True)
class Result:
    """Answer to a query.

    ``scalar`` and ``string`` answers are one series without labels (``text`` holds the string); a ``vector``'s series
    have one point each, in the order that sort and topk gave; a ``matrix``'s series are sorted by labels.
    """

    kind: ResultKind
    series: tuple[Series, ...]
    warnings: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()
    text: str | None = None


class Engine:
    """Evaluates PromQL within ``limits``; ``left_open=False`` restores Prometheus 2.x's ranges and extrapolation."""

    def __init__(
        self,
        limits: Limits | None = None,
        lookback_ms: int = 300_000,
        left_open: bool = True,
    ) -> None:
        self._limits = limits or Limits()
        self._lookback_ms = lookback_ms
        self._left_open = left_open

    def instant(self, querier: Querier, text: str, time_ms: int) -> Result:
        """Evaluate ``text`` at one moment."""
        raise NotImplementedError

    def range(self, querier: Querier, text: str, start_ms: int, end_ms: int, step_ms: int) -> Result:
        """Evaluate ``text`` at ``start_ms, start_ms + step_ms, ... <= end_ms``."""
        raise NotImplementedError
