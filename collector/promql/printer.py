"""Expressions to canonical PromQL text; ``parse(format(expr)) == expr``."""

import math
import re

from collector.model.labels import METRIC_NAME
from collector.promql.ast import (
    Aggregation,
    At,
    Binary,
    Call,
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

PRECEDENCE = {
    "or": 1, "and": 2, "unless": 2,
    "==": 3, "!=": 3, "<=": 3, "<": 3, ">=": 3, ">": 3,
    "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5, "atan2": 5,
    "^": 7,
}  # fmt: skip
_UNARY = 6
_PRIMARY = 8

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
        case VectorSelector(_, offset_ms, at):
            return _selector(expr) + _modifiers(offset_ms, at)
        case MatrixSelector(selector, range_ms):
            modifiers = _modifiers(selector.offset_ms, selector.at)
            return f"{_selector(selector)}[{format_duration(range_ms)}]{modifiers}"
        case Subquery(inner, range_ms, step_ms, offset_ms, at):
            step = "" if step_ms is None else format_duration(step_ms)
            inside = _wrapped(inner, _PRIMARY)
            return f"{inside}[{format_duration(range_ms)}:{step}]{_modifiers(offset_ms, at)}"
        case Negate(inner):
            return "-" + (format(inner) if isinstance(inner, Negate) else _wrapped(inner, _UNARY))
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
            return _UNARY
        case Number(value) if math.copysign(1, value) < 0 or math.isinf(value):
            return _UNARY
        case VectorSelector(_, offset_ms, at) if offset_ms or at is not None:
            return _PRIMARY - 1
        case _:
            return _PRIMARY


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


def _modifiers(offset_ms: int, at: At) -> str:
    out = ""
    if at is not None:
        out += f" @ {at}()" if isinstance(at, str) else f" @ {at / 1000:.3f}"
    if offset_ms:
        out += f" offset {'-' if offset_ms < 0 else ''}{format_duration(abs(offset_ms))}"
    return out


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
