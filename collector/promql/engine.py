"""The door: a query text, a Querier and times in; a Result out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from collector.model.errors import LimitError, QueryError
from collector.model.series import Int64Array, Querier, Series
from collector.promql.annotations import Annotations
from collector.promql.ast import Expr, kind_of
from collector.promql.evaluator import Evaluator
from collector.promql.extended import samples
from collector.promql.frame import Frame, Scalar, finished
from collector.promql.limits import Budget, Limits
from collector.promql.parser import parse
from collector.promql.query import Query
from collector.promql.spans import resolved

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


@dataclass(frozen=True, slots=True)
class Effort:
    """What a query took: ``looked_at`` (steps,) int64, the samples of its selectors at each of ``times_ms``, where they
    were counted, and ``most_held``, the samples that it had in memory at once, read and computed.
    """

    times_ms: Int64Array
    looked_at: Int64Array | None
    most_held: int


class Engine:
    """Evaluates PromQL within ``limits``; ``left_open=False`` restores Prometheus 2.x's ranges and extrapolation.

    ``default_step_ms`` is the step of a subquery that names none; ``clock`` (seconds) is what ``timeout_s`` is
    measured with. ``delayed_name_removal`` drops metric names at the end of a query instead of at every step of it.
    ``count_steps`` counts samples step by step, as Prometheus does.

    Read by others: ``effort`` of the query that ended last.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        lookback_ms: int = 300_000,
        left_open: bool = True,
        default_step_ms: int = 60_000,
        clock: Callable[[], float] = time.monotonic,
        delayed_name_removal: bool = False,
        count_steps: bool = False,
    ) -> None:
        self.effort: Effort | None = None
        self._count_steps = count_steps
        self._limits = limits or Limits()
        self._lookback_ms = lookback_ms
        self._left_open = left_open
        self._default_step_ms = default_step_ms
        self._clock = clock
        self._delayed_name_removal = delayed_name_removal

    def instant(self, querier: Querier, text: str, time_ms: int) -> Result:
        """Evaluate ``text`` at one moment. Raises QueryError or LimitError with the query and the reason."""
        times = np.array([time_ms], dtype=np.int64)
        return self._run(querier, text, times, 0, instant=True)

    def range(self, querier: Querier, text: str, start_ms: int, end_ms: int, step_ms: int) -> Result:
        """Evaluate ``text`` at ``start_ms, start_ms + step_ms, ... <= end_ms``. Raises as ``instant`` does."""
        if step_ms <= 0:
            raise QueryError(f"query {text!r}: step is {step_ms} ms; it must be above 0")
        if end_ms < start_ms:
            raise QueryError(f"query {text!r}: end {end_ms} ms is before start {start_ms} ms")
        points = (end_ms - start_ms) // step_ms + 1
        if points > self._limits.max_points_per_series:
            raise LimitError(
                f"query {text!r}: {points} points per series, {self._limits.max_points_per_series} are allowed "
                "(max_points_per_series); widen the step"
            )
        times = np.arange(start_ms, end_ms + 1, step_ms, dtype=np.int64)
        return self._run(querier, text, times, step_ms, instant=False, end_ms=end_ms)

    def _run(
        self, querier: Querier, text: str, times: Int64Array, step_ms: int, instant: bool, end_ms: int | None = None
    ) -> Result:
        expr = parse(text, self._limits)
        query = Query(
            querier,
            Budget(self._limits, self._clock),
            Annotations(text),
            int(times[0]),
            int(times[-1]) if end_ms is None else end_ms,
            step_ms,
            self._lookback_ms,
            self._left_open,
            self._default_step_ms,
            self._delayed_name_removal,
        )
        looked_at = np.zeros(len(times), dtype=np.int64) if self._count_steps else None
        try:
            expr = resolved(expr, step_ms, query.end_ms - query.start_ms)
            with np.errstate(all="ignore"):
                return _answer(Evaluator(query, looked_at), expr, times, instant)
        except RecursionError as error:
            raise LimitError(f"query {text!r}: nested too deep to evaluate here; lower max_depth") from error
        except LimitError as error:
            raise LimitError(f"query {text!r}: {error}", kind=error.kind) from error
        except QueryError as error:
            raise QueryError(f"query {text!r}: {error}", kind=error.kind) from error
        finally:
            self.effort = Effort(times, looked_at, query.budget.most_held)


def _answer(evaluator: Evaluator, expr: Expr, times: Int64Array, instant: bool) -> Result:
    notes = evaluator.query.notes
    if kind_of(expr) == "matrix":
        if not instant:
            raise QueryError("a range query needs a scalar or instant vector, this is a range vector")
        series = _raw_windows(evaluator, expr, times)
        return Result("matrix", series, notes.warnings, notes.infos)
    value = evaluator.evaluate(expr, times)
    if isinstance(value, str):
        if not instant:
            raise QueryError("a range query needs a scalar or instant vector, this is a string")
        return Result("string", (Series((), times, np.array([np.nan])),), text=value)
    if isinstance(value, Scalar):
        series = (Series((), times, value.values),)
        return Result("scalar" if instant else "matrix", series, notes.warnings, notes.infos)
    value = finished(value)
    rows: Sequence[int] = range(len(value.labels))
    if not instant:
        rows = sorted(rows, key=value.labels.__getitem__)
    alive, full = np.any(value.present, axis=1), np.all(value.present, axis=1)
    series = tuple([_series(value, row, times, full[row]) for row in rows if alive[row]])
    return Result("vector" if instant else "matrix", series, notes.warnings, notes.infos)


def _series(frame: Frame, row: int, times: Int64Array, everywhere: bool) -> Series:
    if everywhere:
        return Series(frame.labels[row], times, frame.values[row])
    here = frame.present[row]
    return Series(frame.labels[row], times[here], frame.values[row][here])


def _raw_windows(evaluator: Evaluator, expr: Expr, times: Int64Array) -> tuple[Series, ...]:
    """The samples that a range vector holds at one moment."""
    series = []
    windows = evaluator.windows(expr, times)
    for block in windows.blocks:
        if windows.extension:
            found = [(labels, *samples(block, windows, column)) for column, labels in enumerate(block.labels)]
            series += [Series(labels, moments, values) for labels, moments, values in found if len(moments)]
            continue
        window = slice(int(block.first[0]), int(block.last[0]))
        series += [
            Series(labels, block.times_ms[window], block.values[window, column])
            for column, labels in enumerate(block.labels)
            if window.stop > window.start
        ]
    return tuple(sorted(series, key=lambda one: one.labels))
