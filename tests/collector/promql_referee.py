"""A second opinion on how PromQL reads: promql-parser's trees, as our own expressions. For tests only."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import promql_parser

from collector.model.errors import QueryError
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

SET_OPERATORS = frozenset({"and", "or", "unless"})

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


def parse(text: str) -> Expr:
    """Raises ValueError where promql-parser refuses, QueryError where we refuse what it made."""
    return _convert(promql_parser.parse(text))


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
