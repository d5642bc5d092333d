"""Durations in a query: ``5m``, ``90``, ``5m + 2 * step()``; read, worked out, and filled into an expression.

Source: prometheus/promql/parser/generated_parser.y (``duration_expr``, ``offset_duration_expr``), promql/durations.go.
"""

import math
from dataclasses import replace

from collector.model.errors import QueryError
from collector.promql.ast import (
    Aggregation,
    Binary,
    Call,
    Duration,
    DurationTerm,
    Expr,
    MatrixSelector,
    Negate,
    Subquery,
    VectorSelector,
    walk,
)
from collector.promql.durations import parse_duration_ms
from collector.promql.reader import Reader
from collector.promql.tokens import Token

_LARGEST_S = 2**63 / 1e9
_LEVELS = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2, "^": 4}
_SIGN_LEVEL = 3
_CALLS = {"step": 0, "range": 0, "min_of": 2, "max_of": 2, "min": 2, "max": 2}


def number_of(token: Token) -> float:
    """The number that a number or duration token stands for; durations in seconds; infinite beyond all bounds."""
    try:
        return _number(token)
    except (OverflowError, ValueError):
        return math.inf


def _number(token: Token) -> float:
    text = token.text.replace("_", "")
    if token.kind == "duration":
        return parse_duration_ms(text) / 1000
    if text[:2].lower() == "0x":
        return float(int(text, 16))
    if len(text) > 1 and text[0] == "0" and text.isdigit() and not set(text) & {"8", "9"}:
        return float(int(text, 8))
    return float(text)


def read_range(reader: Reader) -> Duration:
    """A duration between brackets, longer than nothing."""
    start = reader.now.start
    duration = _read(reader, 0)
    if isinstance(duration, float) and duration <= 0:
        reader.refuse(start, "duration must be greater than 0")
    return _checked(reader, start, duration)


def read_offset(reader: Reader) -> Duration:
    """A duration after ``offset``: one term with its sign; arithmetic needs parentheses."""
    start = reader.now.start
    sign = reader.take().text if reader.sees("+", "-") else "+"
    duration = _term(reader, "offset", "number, duration, step(), or range()")
    return _checked(reader, start, _combine(reader, start, "-", duration) if sign == "-" else duration)


def _checked(reader: Reader, start: int, duration: Duration) -> Duration:
    if isinstance(duration, float) and not abs(duration) < _LARGEST_S:
        reader.refuse(start, "duration out of range")
    return duration


def _read(reader: Reader, level: int) -> Duration:
    start = reader.now.start
    if reader.sees("+", "-"):
        sign = reader.take().text
        left = _read(reader, _SIGN_LEVEL)
        left = _combine(reader, start, "-", left) if sign == "-" else left
    else:
        left = _term(reader, "subquery or range selector", "number, duration, step(), or range()")
    while reader.now.kind == "symbol" and _LEVELS.get(reader.now.text, 0) > level:
        token = reader.take()
        right = _read(reader, _LEVELS[token.text] - (token.text == "^"))
        left = _combine(reader, token.start, token.text, left, right)
    return left


def _term(reader: Reader, context: str, expected: str) -> Duration:
    token = reader.now
    if token.kind in ("number", "duration"):
        return number_of(reader.take())
    if reader.skip("("):
        inner = _read(reader, 0)
        reader.need(")", "duration expression", '")"')
        return inner
    if token.kind == "word" and token.key in _CALLS:
        reader.take()
        reader.need("(", "duration expression", '"("')
        args: list[Duration] = []
        for number in range(_CALLS[token.key]):
            if number:
                reader.need(",", "duration expression", '","')
            args.append(_read(reader, 0))
        reader.need(")", "duration expression", '")"')
        name = {"min": "min_of", "max": "max_of"}.get(token.key, token.key)
        return _combine(reader, token.start, name, *args)
    return reader.unexpected(context, expected)


def _combine(reader: Reader, position: int, op: str, *args: Duration) -> Duration:
    term = DurationTerm(op, args)
    if not args or any(isinstance(arg, DurationTerm) for arg in args):
        return term
    try:
        return value_s(term, 0.0, 0.0)
    except QueryError as error:
        reader.refuse(position, str(error))


def value_s(duration: Duration, step_s: float, range_s: float) -> float:
    """Seconds of a duration, given the step and the range of the query; raises QueryError."""
    if not isinstance(duration, DurationTerm):
        return duration
    args = [value_s(arg, step_s, range_s) for arg in duration.args]
    try:
        match duration.op, args:
            case "step", _:
                return step_s
            case "range", _:
                return range_s
            case "min_of", [left, right]:
                return min(left, right)
            case "max_of", [left, right]:
                return max(left, right)
            case "-", [only]:
                return -only
            case "+", [left, right]:
                return left + right
            case "-", [left, right]:
                return left - right
            case "*", [left, right]:
                return left * right
            case "/", [left, right]:
                return left / right
            case "%", [left, right]:
                return math.fmod(left, right)
            case _, [left, right]:
                return math.pow(left, right)
    except (ZeroDivisionError, ValueError, OverflowError) as error:
        if duration.op in "/%" and args[1] == 0:
            raise QueryError("division by zero" if duration.op == "/" else "modulo by zero") from error
        raise QueryError("duration out of range") from error
    raise AssertionError(duration)


def resolved(expr: Expr, step_ms: int, range_ms: int) -> Expr:
    """``expr`` with every duration that depends on the query worked out; raises QueryError."""
    if not any(_depends(node) for node in walk(expr)):
        return expr
    return _resolve(expr, step_ms / 1000, range_ms / 1000)


def _depends(node: Expr) -> bool:
    match node:
        case VectorSelector(offset=DurationTerm()) | MatrixSelector(range=DurationTerm()):
            return True
        case Subquery():
            return node.range is not None or node.step is not None or node.offset is not None
        case _:
            return False


def _resolve(expr: Expr, step_s: float, range_s: float) -> Expr:
    def inside(inner: Expr) -> Expr:
        return _resolve(inner, step_s, range_s)

    def worked_out(term: DurationTerm | None, given_ms: int, signed: bool = False) -> int:
        if term is None:
            return given_ms
        seconds = value_s(term, step_s, range_s)
        if not abs(seconds) < _LARGEST_S:
            raise QueryError("duration is out of range")
        if seconds <= 0 and not signed:
            raise QueryError("duration must be greater than 0")
        return int(seconds * 1000)

    match expr:
        case VectorSelector():
            return replace(expr, offset_ms=worked_out(expr.offset, expr.offset_ms, signed=True), offset=None)
        case MatrixSelector(VectorSelector() as selector):
            moved = worked_out(selector.offset, selector.offset_ms, signed=True)
            selector = replace(selector, offset_ms=moved, offset=None)
            return replace(expr, selector=selector, range_ms=worked_out(expr.range, expr.range_ms), range=None)
        case Subquery(inner):
            return replace(
                expr,
                expr=inside(inner),
                range_ms=worked_out(expr.range, expr.range_ms),
                step_ms=None
                if expr.step is None and expr.step_ms is None
                else worked_out(expr.step, expr.step_ms or 0),
                offset_ms=worked_out(expr.offset, expr.offset_ms, signed=True),
                range=None,
                step=None,
                offset=None,
            )
        case Negate(inner):
            return replace(expr, expr=inside(inner))
        case Binary(_, left, right):
            return replace(expr, left=inside(left), right=inside(right))
        case Aggregation(_, inner, param):
            return replace(expr, expr=inside(inner), param=None if param is None else inside(param))
        case Call(_, args):
            return replace(expr, args=tuple(inside(arg) for arg in args))
        case _:
            return expr
