"""The walk over an expression: every node becomes its value at every step of the query.

A node is evaluated once for the whole query, over (series, steps) matrices. What cannot change from step to step (an
``@`` below it, and nothing that reads the clock) is evaluated at one step and spread over the others.

Where the samples that are looked at are counted, they are counted as Prometheus does: a sample of a selector at each
step that it is taken for, in each window that it lies in; of a subquery its values, not what these were made of.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from collector.model.errors import QueryError
from collector.model.series import Float64Array, Int64Array
from collector.promql import aggregate, ranking
from collector.promql.ast import (
    Aggregation,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    Text,
    VectorSelector,
    children,
    walk,
)
from collector.promql.calls import CALLS
from collector.promql.fetch import select_instant, select_windows
from collector.promql.frame import Frame, Scalar, compact, without_names
from collector.promql.matching import combine_sets, combine_vectors
from collector.promql.operators import ARITHMETIC, SET, combine
from collector.promql.query import Query
from collector.promql.relabel import check_label_name
from collector.promql.windows import Block, Windows, over_frame

Value = Frame | Scalar | str

_READS_CLOCK = frozenset({
    "time", "timestamp", "predict_linear", "minute", "hour", "day_of_week", "day_of_month", "day_of_year",
    "days_in_month", "month", "year", "info",
})  # fmt: skip


class Evaluator:
    """Evaluates expressions of one query; adds the samples that are looked at to ``looked_at`` (steps,), if given."""

    query: Query

    def __init__(self, query: Query, looked_at: Int64Array | None = None) -> None:
        self.query = query
        self._looked_at = looked_at

    def evaluate(self, expr: Expr, times_ms: Int64Array) -> Value:
        """Value of ``expr`` at each of ``times_ms``, which ascend in equal steps."""
        budget = self.query.budget
        budget.check_time()
        before = budget.held
        if len(times_ms) > 1 and is_fixed(expr) and any(isinstance(node, VectorSelector) for node in walk(expr)):
            value = self._once(expr, times_ms)
        else:
            value = self._evaluate(expr, times_ms)
            if isinstance(value, Frame) and not isinstance(expr, VectorSelector):
                budget.spend(value.values.size, len(value.labels))
        size = 0 if isinstance(value, str) else value.values.size
        budget.hold(size)
        budget.held = before + size
        return value

    def select(self, selector: VectorSelector, times_ms: Int64Array, sample_times: bool = False) -> Frame:
        """See ``select_instant``."""
        frame = select_instant(self.query, selector, times_ms, sample_times)
        if self._looked_at is not None:
            self._looked_at += np.count_nonzero(frame.present, axis=0)
        return frame

    def frame(self, expr: Expr, times_ms: Int64Array) -> Frame:
        """Value of an expression that is an instant vector."""
        value = self.evaluate(expr, times_ms)
        if not isinstance(value, Frame):
            raise QueryError(f"expected an instant vector, got {type(value).__name__.lower()}")
        return value

    def numbers(self, expr: Expr, times_ms: Int64Array) -> Float64Array:
        """Value of a scalar expression: (steps,)."""
        value = self.evaluate(expr, times_ms)
        if not isinstance(value, Scalar):
            raise QueryError(f"expected a scalar, got {type(value).__name__.lower()}")
        return value.values

    def text(self, expr: Expr) -> str:
        """Value of a string literal."""
        if not isinstance(expr, Text):
            raise QueryError("expected a string")
        return expr.value

    def windows(self, expr: Expr, times_ms: Int64Array) -> Windows:
        """Value of a range vector: a matrix selector or a subquery."""
        if isinstance(expr, MatrixSelector):
            windows = select_windows(self.query, expr, times_ms)
        elif isinstance(expr, Subquery):
            looked_at, self._looked_at = self._looked_at, None
            windows = self._subquery(expr, times_ms)
            self._looked_at = looked_at
        else:
            raise QueryError("expected a range vector")
        if self._looked_at is None:
            return windows
        return replace(windows, blocks=_counted(windows.blocks, self._looked_at))

    def _evaluate(self, expr: Expr, times_ms: Int64Array) -> Value:
        match expr:
            case Number(value):
                return Scalar(np.full(len(times_ms), value))
            case Text(value):
                return value
            case VectorSelector():
                return self.select(expr, times_ms)
            case Negate(inner):
                return self._negate(inner, times_ms)
            case Binary():
                return self._binary(expr, times_ms)
            case Aggregation():
                return self._aggregation(expr, times_ms)
            case Call(function):
                if function not in CALLS:
                    raise QueryError(f"the function {function} is not supported")
                return CALLS[function](self, expr, times_ms)
            case _:
                raise QueryError("a range vector can only be the argument of a function")

    def _once(self, expr: Expr, times_ms: Int64Array) -> Value:
        """Value of what is the same at every step."""
        looked_at = self._looked_at
        if looked_at is not None:
            self._looked_at = np.zeros(1, dtype=np.int64)
        value = _spread(self._evaluate(expr, times_ms[:1]), len(times_ms))
        if looked_at is not None and self._looked_at is not None:
            looked_at += self._looked_at
            self._looked_at = looked_at
        return value

    def _subquery(self, expr: Subquery, times_ms: Int64Array) -> Windows:
        ends = self.query.moments(times_ms, expr.offset_ms, expr.at)
        step_ms = expr.step_ms or self.query.default_step_ms
        oldest_ms = int(ends[0]) - expr.range_ms
        start_ms = int(oldest_ms / step_ms) * step_ms
        if start_ms < oldest_ms or (self.query.left_open and start_ms == oldest_ms):
            start_ms += step_ms
        self.query.budget.expect_points((int(ends[-1]) - start_ms) // step_ms + 1)
        inner_times = np.arange(start_ms, int(ends[-1]) + 1, step_ms, dtype=np.int64)
        self.query.budget.spend(len(inner_times))
        if not len(inner_times):
            return Windows((), ends - expr.range_ms, ends, expr.range_ms)
        value = self.frame(expr.expr, inner_times)
        return over_frame(value, inner_times, ends, expr.range_ms, self.query.left_open)

    def _negate(self, inner: Expr, times_ms: Int64Array) -> Value:
        value = self.evaluate(inner, times_ms)
        if isinstance(value, Scalar):
            return Scalar(-value.values)
        if isinstance(value, str):
            raise QueryError("a string cannot be negated")
        return without_names(value.changed(-value.values))

    def _binary(self, expr: Binary, times_ms: Int64Array) -> Value:
        left, right = self.evaluate(expr.left, times_ms), self.evaluate(expr.right, times_ms)
        if isinstance(left, str) or isinstance(right, str):
            raise QueryError(f'operator "{expr.op}" takes scalars and instant vectors, not strings')
        if isinstance(left, Frame) and isinstance(right, Frame):
            if expr.op in SET:
                assert expr.matching is not None
                return combine_sets(expr.op, left, right, expr.matching)
            return combine_vectors(expr, left, right, classic=not self.query.left_open)
        if isinstance(left, Scalar) and isinstance(right, Scalar):
            return Scalar(combine(expr.op, left.values, right.values, True)[0])
        return _vector_and_scalar(expr, left, right)

    def _aggregation(self, expr: Aggregation, times_ms: Int64Array) -> Value:
        op = expr.op
        frame = self.frame(expr.expr, times_ms)
        if op in aggregate.SIMPLE:
            return aggregate.aggregate(op, frame, expr.grouping, expr.without)
        if expr.param is None:
            raise QueryError(f"{op} needs a parameter")
        if op == "count_values":
            label = self.text(expr.param)
            check_label_name(label, not self.query.left_open, "count_values")
            return aggregate.count_values(frame, expr.grouping, expr.without, label, self.query.budget.expect)
        parameter = self.numbers(expr.param, times_ms)
        if op == "quantile":
            self.warn_of_quantiles(parameter, expr.param.position)
            return aggregate.quantile(frame, expr.grouping, expr.without, parameter)
        if op in ("topk", "bottomk", "limitk", "limit_ratio"):
            self._warn_of_ratios(op, parameter, expr.param.position)
            return ranking.rank(op, frame, expr.grouping, expr.without, parameter)
        raise QueryError(f"the aggregation {op} is not supported")

    def warn_of_quantiles(self, quantiles: Float64Array, position: int) -> None:
        """Remark on quantiles outside 0 to 1."""
        for quantile in np.unique(quantiles[~((quantiles >= 0) & (quantiles <= 1))]):
            self.query.notes.warn(f"quantile value should be between 0 and 1, got {_shown(quantile)}", position)

    def _warn_of_ratios(self, op: str, ratios: Float64Array, position: int) -> None:
        for ratio in np.unique(ratios[np.abs(ratios) > 1]) if op == "limit_ratio" else ():
            capped = 1 if ratio > 0 else -1
            message = f"ratio value should be between -1 and 1, got {_shown(ratio)}, capping to {capped}"
            self.query.notes.warn(message, position)


def is_fixed(expr: Expr) -> bool:
    """Whether ``expr`` has the same value at every step of a query."""
    match expr:
        case VectorSelector() | Subquery():
            return expr.at is not None
        case MatrixSelector(selector):
            return selector.at is not None
        case Call(function) if function in _READS_CLOCK:
            return False
        case _:
            return all(is_fixed(child) for child in children(expr))


def _counted(blocks: Iterable[Block], looked_at: Int64Array) -> Iterator[Block]:
    """``blocks``, whose samples are added to ``looked_at`` (steps,) on the way."""
    for block in blocks:
        looked_at += block.counts * len(block.labels)
        yield block


def _shown(number: float) -> str:
    return {"nan": "NaN", "inf": "+Inf", "-inf": "-Inf"}.get(f"{number:g}", f"{number:g}")


def _spread(value: Value, steps: int) -> Value:
    match value:
        case Frame(labels, values, present):
            shape = (len(labels), steps)
            return value.changed(np.broadcast_to(values, shape), np.broadcast_to(present, shape))
        case Scalar(values):
            return Scalar(np.broadcast_to(values, (steps,)))
    return value


def _vector_and_scalar(expr: Binary, left: Frame | Scalar, right: Frame | Scalar) -> Frame:
    vector = left if isinstance(left, Frame) else right
    assert isinstance(vector, Frame)
    values, holds = combine(
        expr.op,
        left.values if isinstance(left, Frame) else left.values[None, :],
        right.values if isinstance(right, Frame) else right.values[None, :],
        expr.return_bool,
    )
    if holds is not None:
        return compact(vector.changed(vector.values, vector.present & holds))
    named = vector.changed(values)
    return without_names(named) if expr.op in ARITHMETIC or expr.return_bool else named
