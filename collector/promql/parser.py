"""PromQL text to expressions: our AST, built from promql-parser's, behind the guard and a cache by text."""

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import Any

import promql_parser

from collector.model.errors import LimitError, QueryError
from collector.model.labels import METRIC_NAME
from collector.model.matchers import Matcher, MatchOp
from collector.promql.ast import (
    Aggregation,
    At,
    Binary,
    Call,
    Cardinality,
    Expr,
    Matching,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    Text,
    VectorSelector,
    kind_of,
)
from collector.promql.guard import NEGATIVE_AT_S, guard
from collector.promql.limits import Limits

SET_OPERATORS = frozenset({"and", "or", "unless"})

_MAX_AT_S = 100_000_000_000
_CACHED_TEXTS = 2048

_MATCH_OPS: dict[str, MatchOp] = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}
_CARDINALITIES: dict[str, Cardinality] = {
    "VectorMatchCardinality.OneToOne": "one-to-one",
    "VectorMatchCardinality.ManyToOne": "many-to-one",
    "VectorMatchCardinality.OneToMany": "one-to-many",
    "VectorMatchCardinality.ManyToMany": "many-to-many",
}


def parse(text: str, limits: Limits | None = None) -> Expr:
    """Read one PromQL expression. Raises QueryError (LimitError beyond a limit) with the query and the reason."""
    return _parse(text, limits or Limits())


@lru_cache(maxsize=_CACHED_TEXTS)
def _parse(text: str, limits: Limits) -> Expr:
    try:
        if not text.strip():
            raise QueryError("no expression found")
        return _convert(promql_parser.parse(guard(text, limits)))
    except RecursionError as error:
        raise LimitError(f"query {_shown(text)}: nested too deep to read here; lower max_depth") from error
    except LimitError as error:
        raise LimitError(f"query {_shown(text)}: {error}") from error
    except (QueryError, ValueError) as error:
        raise QueryError(f"query {_shown(text)}: {error}") from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:197] + "...")


def _convert(node: Any) -> Expr:
    return _CONVERTERS[type(node).__name__](node)


def _vector_selector(node: Any) -> VectorSelector:
    if node.matchers.or_matchers:
        raise QueryError('"or" between matchers is not PromQL')
    matchers = [Matcher(one.name, _MATCH_OPS[str(one.op)], one.value) for one in node.matchers.matchers]
    if node.name:
        matchers.insert(0, Matcher(METRIC_NAME, "=", node.name))
    if sum(one.name == METRIC_NAME and one.op == "=" for one in matchers) > 1:
        raise QueryError("the metric name is set twice")
    matchers.sort(key=lambda one: not (one.name == METRIC_NAME and one.op == "="))
    return VectorSelector(tuple(matchers), _milliseconds(node.offset), _at(node.at))


def _matrix_selector(node: Any) -> Expr:
    return MatrixSelector(_vector_selector(node.vector_selector), _milliseconds(node.range))


def _subquery(node: Any) -> Expr:
    step_ms = None if node.step is None else _milliseconds(node.step)
    return Subquery(_convert(node.expr), _milliseconds(node.range), step_ms, _milliseconds(node.offset), _at(node.at))


def _unary(node: Any) -> Expr:
    return negated(_convert(node.expr))


def negated(expr: Expr) -> Expr:
    """``-expr``, where a negated number is a number."""
    return Number(-expr.value) if isinstance(expr, Number) else Negate(expr)


def _binary(node: Any) -> Expr:
    left, right = _convert(node.lhs), _convert(node.rhs)
    modifier = node.modifier
    op = str(node.op)
    both_vectors = kind_of(left) == kind_of(right) == "vector"
    matching = _matching(op, modifier) if both_vectors else None
    return Binary(op, left, right, matching, bool(modifier and modifier.return_bool))


def _matching(op: str, modifier: Any) -> Matching:
    if modifier is None:
        return Matching("many-to-many" if op in SET_OPERATORS else "one-to-one")
    labels = modifier.matching
    return Matching(
        _CARDINALITIES[str(modifier.card)],
        labels is not None and str(labels.type) == "LabelModifierType.Include",
        tuple(labels.labels) if labels is not None else (),
        tuple(modifier.group_labels or ()),
        modifier.fill_values.lhs,
        modifier.fill_values.rhs,
    )


def _aggregation(node: Any) -> Expr:
    modifier = node.modifier
    return Aggregation(
        str(node.op),
        _convert(node.expr),
        None if node.param is None else _convert(node.param),
        tuple(modifier.labels) if modifier is not None else (),
        modifier is not None and str(modifier.type) == "AggModifierType.Without",
    )


def _call(node: Any) -> Expr:
    return Call(node.func.name, tuple(_convert(argument) for argument in node.args))


def _milliseconds(duration: timedelta | None) -> int:
    return 0 if duration is None else round(duration / timedelta(milliseconds=1))


def _at(modifier: Any) -> At:
    if modifier is None:
        return None
    match str(modifier.type):
        case "AtModifierType.Start":
            return "start"
        case "AtModifierType.End":
            return "end"
    seconds = float(str(modifier).removeprefix("@ "))
    if seconds >= NEGATIVE_AT_S:
        seconds = NEGATIVE_AT_S - seconds
    if abs(seconds) > _MAX_AT_S:
        raise QueryError(f"@ {seconds:g} is out of bounds; a time lies within {_MAX_AT_S:g} s of 1970")
    return round(seconds * 1000)


_CONVERTERS: dict[str, Callable[[Any], Expr]] = {
    "NumberLiteral": lambda node: Number(node.val),
    "StringLiteral": lambda node: Text(node.val),
    "ParenExpr": lambda node: _convert(node.expr),
    "VectorSelector": _vector_selector,
    "MatrixSelector": _matrix_selector,
    "SubqueryExpr": _subquery,
    "UnaryExpr": _unary,
    "BinaryExpr": _binary,
    "AggregateExpr": _aggregation,
    "Call": _call,
}
