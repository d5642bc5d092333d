"""Checks of one expression, each a function from the expression and what is known of names to remarks."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from alerts.lint.finding import Remark
from alerts.lint.names import Names
from alerts.lint.rewrite import mended
from alerts.rule import is_recorded
from collector.model.labels import METRIC_NAME
from collector.model.matchers import Matcher
from collector.promql import Expr, VectorSelector, selectors
from collector.promql.ast import (
    Aggregation,
    Binary,
    Call,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    children,
    walk,
)

WINDOW_MS = 300_000

_RATES = frozenset({"rate", "increase", "irate", "delta", "idelta"})
_COUNTER_FUNCTIONS = {"rate": "deriv", "irate": "deriv", "increase": "delta"}
_GAUGE_FUNCTIONS = {"delta": "increase", "idelta": "increase", "deriv": "rate", "predict_linear": None}
_ANY_VALUE = frozenset({"absent", "absent_over_time", "present_over_time", "timestamp", "resets", "changes"})
_COUNTING = frozenset({"count", "group", "count_values"})
_COMPARED = frozenset({">", ">=", "<", "<=", "=="})
_KEEPS_RANGE = frozenset({"avg", "max", "min", "quantile"})
_KEEPS_RANGE_CALLS = frozenset(
    {"avg_over_time", "max_over_time", "min_over_time", "quantile_over_time", "last_over_time"}
)

Check = Callable[[Expr, Names, frozenset[str]], Iterator[Remark]]


def unknown_names(expr: Expr, names: Names, recorded: frozenset[str]) -> Iterator[Remark]:
    """Series that no dialect and no rule has."""
    for selector in selectors(expr):
        name = selector.name
        if not name or name in names.series or name in recorded or name in ("ALERTS", "ALERTS_FOR_STATE"):
            continue
        if is_recorded(name):  # by a rule of another file
            continue
        if f"{name}_bucket" in names.series:
            message = f"{name} is a histogram; its series are {name}_bucket, {name}_sum and {name}_count"
            yield Remark("unknown-metric", message, name)
            continue
        message = f"no known engine or exporter has a series {name}"
        near = names.nearest(name, recorded)
        if near is None:
            yield Remark("unknown-metric", message, name)
        else:
            better = mended(expr, selector, _named(selector, near))
            yield Remark("unknown-metric", f"{message}; did you mean {near}?", name, better)


def switched_off(expr: Expr, names: Names, _: frozenset[str]) -> Iterator[Remark]:
    """Series that engines show only with a flag."""
    for selector in selectors(expr):
        if flag := names.flags.get(selector.name):
            message = f"{selector.name} is not there by default; switch it on with {flag}"
            yield Remark("not-exposed-by-default", message, selector.name)


def quantiles(expr: Expr, _: Names, __: frozenset[str]) -> Iterator[Remark]:
    """``histogram_quantile`` over raw buckets, or over an aggregation that loses ``le``."""
    for node in walk(expr):
        if not (isinstance(node, Call) and node.function == "histogram_quantile" and len(node.args) == 2):
            continue
        buckets = node.args[1]
        raw = [selector for selector in selectors(buckets) if selector.name.endswith("_bucket")]
        if raw and not any(isinstance(inner, Call) and inner.function in _RATES for inner in walk(buckets)):
            message = "histogram_quantile over raw buckets answers for all time since start; take the rate of them"
            better = mended(expr, raw[0], _rate(raw[0]))
            yield Remark("quantile-without-rate", message, "histogram_quantile", better)
        for inner in walk(buckets):
            if isinstance(inner, Aggregation) and ("le" in inner.grouping) == inner.without:
                kept = (
                    tuple(label for label in inner.grouping if label != "le")
                    if inner.without
                    else (*inner.grouping, "le")
                )
                message = f"{inner.op} in histogram_quantile loses the label le, without which there is no quantile"
                better = mended(expr, inner, replace(inner, grouping=kept))
                yield Remark("quantile-without-le", message, inner.op, better)


def averaged_quantiles(expr: Expr, _: Names, __: frozenset[str]) -> Iterator[Remark]:
    """Averages and sums of quantiles, which are no quantile of anything."""
    for node in walk(expr):
        if isinstance(node, Aggregation) and node.op in ("avg", "sum", "stddev"):
            inner, token = node.expr, node.op
        elif isinstance(node, Call) and node.function in ("avg_over_time", "sum_over_time") and node.args:
            (inner, *_rest), token = node.args, node.function
        else:
            continue
        message = f"{token} of quantiles is no quantile; add up the buckets and take the quantile of the sum"
        core = inner.expr if isinstance(inner, Subquery) else inner
        if isinstance(core, Call) and core.function == "histogram_quantile" and len(core.args) == 2:
            yield Remark("averaged-quantile", message, token, _quantile_of_sum(expr, node, core))
        elif _summary_quantiles(core):
            yield Remark("averaged-quantile", f"{token} of a summary's quantiles is no quantile of anything", token)


def bare_counters(expr: Expr, names: Names, _: frozenset[str]) -> Iterator[Remark]:
    """Counters whose value is taken as it is."""
    for selector in _bare(expr, names, ranged=False):
        name = selector.name
        message = f"{name} is a counter and only grows; ask for its rate or increase"
        yield Remark("counter-without-rate", message, name, mended(expr, selector, _rate(selector)))


def wrong_functions(expr: Expr, names: Names, _: frozenset[str]) -> Iterator[Remark]:
    """``rate`` of a gauge, ``delta`` of a counter."""
    for node in walk(expr):
        if not isinstance(node, Call) or not node.args or not isinstance(node.args[0], MatrixSelector):
            continue
        name = node.args[0].selector.name
        if node.function in _COUNTER_FUNCTIONS and names.is_gauge(name):
            right = _COUNTER_FUNCTIONS[node.function]
            message = f"{name} is a gauge; {node.function} takes every fall for a restart; ask for {right}"
            yield Remark("rate-of-gauge", message, node.function, mended(expr, node, replace(node, function=right)))
        elif node.function in _GAUGE_FUNCTIONS and names.is_counter(name):
            instead = _GAUGE_FUNCTIONS[node.function]
            message = f"{name} is a counter; {node.function} takes a restart for a fall"
            better = mended(expr, node, replace(node, function=instead)) if instead else None
            ask = f"; ask for {instead}" if instead else ""
            yield Remark("delta-of-counter", message + ask, node.function, better)


def ratio_limits(expr: Expr, names: Names, _: frozenset[str]) -> Iterator[Remark]:
    """Thresholds beyond what a ratio (0 to 1) or a percentage (0 to 100) can reach or tell apart."""
    for node in walk(expr):
        if not (isinstance(node, Binary) and node.op in _COMPARED):
            continue
        for measured, other in ((node.left, node.right), (node.right, node.left)):
            selector = _ranged_as(measured)
            if selector is None or not isinstance(other, Number):
                continue
            limit = other.value
            if selector.name in names.ratios and 1 < limit <= 100:
                message = f"{selector.name} lies between 0 and 1 and never reaches {limit:g}"
                better = mended(expr, node, _with(node, other, Number(limit / 100)))
                yield Remark("percent-of-ratio", message, selector.name, better)
            elif selector.name in names.percents and 0 < limit <= 1:
                message = f"{selector.name} lies between 0 and 100; {limit:g} is {limit:g}%"
                better = mended(expr, node, _with(node, other, Number(limit * 100)))
                yield Remark("ratio-of-percent", message, selector.name, better)


CHECKS: tuple[Check, ...] = (
    unknown_names,
    switched_off,
    quantiles,
    averaged_quantiles,
    bare_counters,
    wrong_functions,
    ratio_limits,
)


def _bare(expr: Expr, names: Names, *, ranged: bool) -> Iterator[VectorSelector]:
    if isinstance(expr, MatrixSelector) or (isinstance(expr, Call) and expr.function in _ANY_VALUE):
        return
    if isinstance(expr, Aggregation) and expr.op in _COUNTING:
        return
    if isinstance(expr, VectorSelector) and not ranged and names.is_counter(expr.name):
        yield expr
    inside = ranged or isinstance(expr, Subquery)
    for child in children(expr):
        yield from _bare(child, names, ranged=inside)


def _rate(selector: VectorSelector) -> Call:
    return Call("rate", (MatrixSelector(selector, WINDOW_MS),))


def _named(selector: VectorSelector, name: str) -> VectorSelector:
    others = tuple(matcher for matcher in selector.matchers if matcher.name != METRIC_NAME)
    return replace(selector, matchers=(Matcher(METRIC_NAME, "=", name), *others))


def _ranged_as(expr: Expr) -> VectorSelector | None:
    """The selector whose values' range ``expr`` keeps."""
    match expr:
        case VectorSelector():
            return expr
        case Aggregation(op, inner) if op in _KEEPS_RANGE:
            return _ranged_as(inner)
        case Call(function, args) if function in _KEEPS_RANGE_CALLS:
            inner = args[-1]
            if isinstance(inner, MatrixSelector):
                return inner.selector
            return _ranged_as(inner.expr) if isinstance(inner, Subquery) else None
        case Negate():
            return None
        case _:
            return None


def _with(node: Binary, old: Number, new: Number) -> Binary:
    return replace(node, left=new) if node.left is old else replace(node, right=new)


def _summary_quantiles(expr: Expr) -> bool:
    selector = expr.selector if isinstance(expr, MatrixSelector) else expr
    return isinstance(selector, VectorSelector) and any(
        matcher.name == "quantile" and matcher.op in ("=", "=~") for matcher in selector.matchers
    )


def _quantile_of_sum(expr: Expr, node: Expr, quantile: Call) -> str | None:
    """The quantile over the buckets of all that ``node`` averages; None where that is not plain to see."""
    inner = quantile.args[1]
    if not (isinstance(node, Aggregation) and not node.without):
        return None
    rates = inner.expr if isinstance(inner, Aggregation) and inner.op == "sum" else inner
    if not (isinstance(rates, Call) and rates.function in _RATES):
        return None
    summed = Aggregation("sum", rates, grouping=(*node.grouping, "le"))
    return mended(expr, node, replace(quantile, args=(quantile.args[0], summed)))
