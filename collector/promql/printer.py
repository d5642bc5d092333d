"""Expressions to canonical PromQL text; ``parse(format(expr)) == expr``."""

import math
import re

from collector.model.labels import METRIC_NAME
from collector.promql.ast import (
    Aggregation,
    Binary,
    Call,
    Duration,
    DurationTerm,
    Expr,
    Matching,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    Text,
    VectorSelector,
)
from collector.promql.durations import format_duration
from collector.promql.precedence import PRECEDENCE, PRIMARY, UNARY

_LEGACY_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED = frozenset({
    "and", "or", "unless", "atan2", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset",
    "inf", "nan", "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "topk", "bottomk", "quantile",
    "count_values", "limitk", "limit_ratio", "start", "end", "step", "range", "fill", "fill_left", "fill_right",
    "anchored", "smoothed", "holt_winters",
})  # fmt: skip


def format(expr: Expr) -> str:
    """Canonical text of ``expr``: one line, double quotes, only the parentheses that precedence asks for."""
    match expr:
        case Number(value):
            return format_number(value)
        case Text(value):
            return quote(value)
        case VectorSelector():
            return _selector(expr) + _modifiers(expr)
        case MatrixSelector(selector, range_ms, term):
            return f"{_selector(selector)}[{_span(range_ms, term)}]{_modifiers(selector)}"
        case Subquery(inner, range_ms):
            step = "" if expr.step_ms is None else _span(expr.step_ms, expr.step)
            return f"{_wrapped(inner, PRIMARY)}[{_span(range_ms, expr.range)}:{step}]{_modifiers(expr)}"
        case Negate(inner):
            return "-" + (format(inner) if isinstance(inner, Negate) else _wrapped(inner, UNARY))
        case Call(function, args):
            return f"{function}({', '.join(format(argument) for argument in args)})"
        case Aggregation():
            return _aggregation(expr)
        case Binary():
            return _binary(expr)


def format_number(value: float) -> str:
    """A float as Go's ``strconv.FormatFloat(value, 'f', -1, 64)`` writes it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    text = repr(value)
    if "e" not in text:
        return text.removesuffix(".0")
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    shift = int(exponent)
    if shift < 0:
        return f"{sign}0.{'0' * (-shift - 1)}{whole}{fraction}"
    return sign + whole + fraction.ljust(shift, "0")


def open_metrics_number(value: float) -> str:
    """A float as Prometheus writes it into a label, always as a float: ``0.5``, ``1.0``, ``1e-07``."""
    if math.isnan(value) or math.isinf(value):
        return format_number(value)
    return repr(value)


def quote(text: str) -> str:
    """A string literal in double quotes that PromQL reads back as ``text``."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char == "\n":
            out.append("\\n")
        elif char < " " or char == "\x7f":
            out.append(f"\\u{ord(char):04x}")
        else:
            out.append(char)
    return '"' + "".join(out) + '"'


def _level(expr: Expr) -> int:
    match expr:
        case Binary(op):
            return PRECEDENCE[op]
        case Negate():
            return UNARY
        case Number(value) if math.copysign(1, value) < 0 or math.isinf(value):
            return UNARY
        case VectorSelector() if _modifiers(expr):
            return PRIMARY - 1
        case _:
            return PRIMARY


def _wrapped(expr: Expr, level: int) -> str:
    text = format(expr)
    return text if _level(expr) >= level and not text.startswith(("-", "+")) else f"({text})"


def _selector(selector: VectorSelector) -> str:
    name = selector.name
    rest = selector.matchers[1:] if name else selector.matchers
    pairs = [f"{_label(one.name)}{one.op}{quote(one.value)}" for one in rest]
    if not name:
        return "{" + ",".join(pairs) + "}"
    if not _LEGACY_NAME.fullmatch(name) or name.lower() in _RESERVED:
        return "{" + ",".join([f"{METRIC_NAME}={quote(name)}", *pairs]) + "}"
    return name + ("{" + ",".join(pairs) + "}" if pairs else "")


def _label(name: str) -> str:
    return name if _LEGACY_LABEL.fullmatch(name) else quote(name)


def _labels(names: tuple[str, ...]) -> str:
    return "(" + ", ".join(_label(name) for name in names) + ")"


def _modifiers(selector: VectorSelector | Subquery) -> str:
    out = ""
    if isinstance(selector, VectorSelector) and selector.extension:
        out += f" {selector.extension}"
    if selector.at is not None:
        at = selector.at
        out += f" @ {at}()" if isinstance(at, str) else f" @ {at / 1000:.3f}"
    if selector.offset is not None:
        out += f" offset ({_term(selector.offset)})"
    elif selector.offset_ms:
        out += f" offset {'-' if selector.offset_ms < 0 else ''}{format_duration(abs(selector.offset_ms))}"
    return out


def _span(duration_ms: int, term: DurationTerm | None) -> str:
    return format_duration(duration_ms) if term is None else _term(term)


def _term(duration: Duration) -> str:
    """Duration arithmetic, each operation in parentheses but the outermost."""
    if not isinstance(duration, DurationTerm):
        return format_number(duration)
    args = [f"({_term(arg)})" if _is_operation(arg) else _term(arg) for arg in duration.args]
    if duration.op.isidentifier():
        return f"{duration.op}({', '.join(_term(arg) for arg in duration.args)})"
    return f"{args[0]} {duration.op} {args[1]}" if len(args) == 2 else f"{duration.op}{args[0]}"


def _is_operation(duration: Duration) -> bool:
    return duration < 0 if isinstance(duration, float) else not duration.op.isidentifier()


def _aggregation(expr: Aggregation) -> str:
    clause = f" without {_labels(expr.grouping)}" if expr.without else f" by {_labels(expr.grouping)}"
    if not expr.without and not expr.grouping:
        clause = ""
    param = "" if expr.param is None else format(expr.param) + ", "
    return f"{expr.op}{clause}{' ' if clause else ''}({param}{format(expr.expr)})"


def _binary(expr: Binary) -> str:
    level = PRECEDENCE[expr.op]
    right_binds = expr.op == "^"
    left = _wrapped(expr.left, level + 1 if right_binds else level)
    right = _wrapped(expr.right, level if right_binds else level + 1)
    modifiers = " bool" if expr.return_bool else ""
    return f"{left} {expr.op}{modifiers}{_matching(expr.matching) if expr.matching else ''} {right}"


def _matching(matching: Matching) -> str:
    out = ""
    grouped = matching.cardinality in ("many-to-one", "one-to-many")
    if matching.on or matching.labels or grouped:
        out += f" {'on' if matching.on else 'ignoring'} {_labels(matching.labels)}"
    if grouped:
        side = "left" if matching.cardinality == "many-to-one" else "right"
        out += f" group_{side} {_labels(matching.include)}"
    if matching.fill_left is not None:
        out += f" fill_left ({format_number(matching.fill_left)})"
    if matching.fill_right is not None:
        out += f" fill_right ({format_number(matching.fill_right)})"
    return out
