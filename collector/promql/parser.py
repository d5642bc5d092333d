"""PromQL text to expressions: precedence climbing over the tokens, types checked on the way, cached by text.

Source: prometheus/promql/parser, generated_parser.y and parse.go (3.x). Every node is checked once, when it is built,
so that the work is linear in the text.
"""

from dataclasses import replace
from functools import lru_cache

from collector.model.errors import LimitError, QueryError
from collector.promql import checks
from collector.promql.ast import (
    At,
    DurationTerm,
    Expr,
    Extension,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    Text,
    VectorSelector,
)
from collector.promql.functions import ALIASES, FUNCTIONS
from collector.promql.kinds import DOCUMENTED
from collector.promql.limits import Limits
from collector.promql.matchings import read_modifiers
from collector.promql.parsed import Parsed
from collector.promql.precedence import PRECEDENCE, UNARY
from collector.promql.reader import Reader
from collector.promql.selecting import read_selector
from collector.promql.spans import number_of, read_offset, read_range
from collector.promql.tokens import AGGREGATORS, OPERATORS, scan

_MAX_AT_S = 1e12
_CACHED_TEXTS = 2048
_NOT_NAMES = frozenset({"on", "ignoring", "group_left", "group_right", "bool", "atan2"})


def parse(text: str, limits: Limits | None = None) -> Expr:
    """Read one PromQL expression. Raises QueryError (LimitError beyond a limit) with the query, place and reason."""
    return _parse(text, limits or Limits())


@lru_cache(maxsize=_CACHED_TEXTS)
def _parse(text: str, limits: Limits) -> Expr:
    try:
        return _Parser(Reader(text, scan(text, limits)), limits).whole()
    except RecursionError as error:
        raise LimitError(f"query {_shown(text)}: nested too deep to read here; lower max_depth") from error
    except LimitError as error:
        raise LimitError(f"query {_shown(text)}: {error}") from error
    except QueryError as error:
        raise QueryError(f"query {_shown(text)}: {error}") from error


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:197] + "...")


class _Parser:
    def __init__(self, reader: Reader, limits: Limits) -> None:
        self._reader = reader
        self._limits = limits
        self._depth = 0

    def whole(self) -> Expr:
        """The whole text."""
        if self._reader.at_end:
            raise QueryError("no expression found in input")
        parsed = self._expression(0)
        if not self._reader.at_end:
            self._reader.unexpected()
        checks.selectors(self._reader, parsed.expr)
        return parsed.expr

    def _expression(self, level: int) -> Parsed:
        self._depth += 1
        if self._depth > 2 * (self._limits.max_depth + self._limits.max_operators):
            raise LimitError(f"nested more than {self._limits.max_depth} levels deep (max_depth)")
        left = self._operand()
        while True:
            token = self._reader.now
            op = token.key if token.kind in ("symbol", "word") else ""
            binds = PRECEDENCE.get(op, 0)
            if binds <= level:
                if op in ("</", ">/"):
                    self._reader.refuse(token.start, f"the operator {op} is for native histograms, which are not kept")
                break
            self._reader.take()
            returns_bool, matching = read_modifiers(self._reader)
            right = self._expression(binds - (op == "^"))
            left = checks.binary(self._reader, token, left, right, matching, returns_bool)
        self._depth -= 1
        return left

    def _operand(self) -> Parsed:
        reader = self._reader
        if not reader.sees("+", "-"):
            return self._modified(self._primary())
        sign = reader.take()
        inner = self._expression(UNARY)
        if inner.kind not in ("scalar", "vector"):
            kind = DOCUMENTED[inner.kind]
            message = f'unary expression only allowed on expressions of type scalar or instant vector, got "{kind}"'
            reader.refuse(sign.start, message)
        if sign.text == "+":
            return Parsed(replace(inner.expr, position=sign.start), inner.kind)
        if isinstance(inner.expr, Number):
            return Parsed(Number(-inner.expr.value, sign.start), "scalar")
        return Parsed(Negate(inner.expr, sign.start), inner.kind)

    def _primary(self) -> Parsed:
        reader, token = self._reader, self._reader.now
        match token.kind:
            case "number" | "duration":
                return Parsed(Number(number_of(reader.take()), token.start), "scalar")
            case "string":
                return Parsed(Text(reader.string(), token.start), "string")
            case "word":
                return self._word()
        if reader.sees("{"):
            return Parsed(read_selector(reader), "vector")
        if not reader.skip("("):
            reader.unexpected()
        inner = self._expression(0)
        if not reader.skip(")"):
            reader.unexpected()
        return Parsed(replace(inner.expr, position=token.start), inner.kind, wrapped=True)

    def _word(self) -> Parsed:
        reader, token, ahead = self._reader, self._reader.now, self._reader.ahead
        called = ahead.kind == "symbol" and ahead.text == "("
        if token.key in AGGREGATORS and (called or (ahead.kind == "word" and ahead.key in ("by", "without"))):
            return self._aggregation()
        if called and token.key not in OPERATORS:
            return self._call()
        if token.key in _NOT_NAMES:
            reader.unexpected()
        return Parsed(read_selector(reader), "vector")

    def _arguments(self) -> list[Parsed]:
        reader = self._reader
        reader.need("(", "aggregation", '"("')
        found: list[Parsed] = []
        while not reader.sees(")"):
            if found:
                comma = reader.need(",", "function call", '"," or ")"') if not reader.sees(",") else reader.take()
                if reader.sees(")"):
                    reader.refuse(comma.start, "trailing commas not allowed in function call args")
            found.append(self._expression(0))
            if not reader.sees(",", ")"):
                reader.unexpected()
        reader.take()
        return found

    def _call(self) -> Parsed:
        token = self._reader.take()
        name = ALIASES.get(token.text, token.text)
        if name not in FUNCTIONS:
            self._reader.refuse(token.start, f'unknown function with name "{token.text}"')
        return checks.call(self._reader, token, name, self._arguments())

    def _aggregation(self) -> Parsed:
        reader, token = self._reader, self._reader.take()
        clause = self._grouping()
        arguments = self._arguments()
        if clause is None:
            clause = self._grouping()
        by_exclusion, grouping = clause or (False, ())
        return checks.aggregation(reader, token, arguments, grouping, by_exclusion)

    def _grouping(self) -> tuple[bool, tuple[str, ...]] | None:
        if not self._reader.sees_word("by", "without"):
            return None
        by_exclusion = self._reader.take().key == "without"
        return by_exclusion, self._reader.labels()

    def _modified(self, parsed: Parsed) -> Parsed:
        reader = self._reader
        while True:
            if reader.sees("["):
                parsed = self._ranged(parsed)
            elif reader.sees("@"):
                parsed = self._with_at(parsed)
            elif reader.sees_word("offset"):
                parsed = self._with_offset(parsed)
            elif reader.sees_word("anchored", "smoothed"):
                parsed = self._extended(parsed)
            else:
                return parsed

    def _ranged(self, parsed: Parsed) -> Parsed:
        reader, bracket, expr = self._reader, self._reader.take(), parsed.expr
        span = read_range(reader)
        range_ms, range_term = _split(span)
        if reader.skip("]"):
            if not isinstance(expr, VectorSelector) or parsed.wrapped:
                reader.refuse(bracket.start, "ranges only allowed for vector selectors")
            if expr.offset_ms or expr.offset is not None:
                reader.refuse(bracket.start, "no offset modifiers allowed before range")
            if expr.at is not None:
                reader.refuse(bracket.start, "no @ modifiers allowed before range")
            return Parsed(MatrixSelector(expr, range_ms, range_term, expr.position), "matrix")
        if not reader.skip(":"):
            reader.unexpected("subquery or range", '":" or "]"')
        step_ms: int | None = None
        step_term: DurationTerm | None = None
        if not reader.sees("]"):
            step_ms, step_term = _split(read_range(reader))
        reader.need("]", "subquery selector", '"]"')
        if parsed.kind != "vector":
            message = f"subquery is only allowed on instant vector, got {parsed.kind} instead"
            reader.refuse(expr.position, message)
        subquery = Subquery(expr, range_ms, step_ms, range=range_term, step=step_term, position=expr.position)
        return Parsed(subquery, "matrix")

    def _with_offset(self, parsed: Parsed) -> Parsed:
        token = self._reader.take()
        offset_ms, term = _split(read_offset(self._reader))
        target = self._target(parsed, "offset", token.start)
        if target.offset_ms or target.offset is not None:
            self._reader.refuse(parsed.position, "offset may not be set multiple times")
        return self._changed(parsed, replace(target, offset_ms=offset_ms, offset=term))

    def _with_at(self, parsed: Parsed) -> Parsed:
        reader, token = self._reader, self._reader.take()
        at: At
        if reader.sees_word("start", "end"):
            at = "start" if reader.take().key == "start" else "end"
            reader.need("(", "@", '"("')
            reader.need(")", "@", '")"')
        else:
            sign = -1 if reader.sees("-") else 1
            if reader.sees("+", "-"):
                reader.take()
            if reader.now.kind not in ("number", "duration"):
                reader.unexpected("@", "timestamp")
            seconds = sign * number_of(reader.take())
            if not abs(seconds) < _MAX_AT_S:
                reader.refuse(token.start, f"timestamp out of bounds for @ modifier: {seconds:f}")
            at = round(seconds * 1000)
        target = self._target(parsed, "@", token.start)
        if target.at is not None:
            reader.refuse(parsed.position, "@ <timestamp> may not be set multiple times")
        return self._changed(parsed, replace(target, at=at))

    def _extended(self, parsed: Parsed) -> Parsed:
        token = self._reader.take()
        if isinstance(parsed.expr, Subquery):
            self._reader.refuse(parsed.position, f"{token.key} modifier is not supported for subqueries")
        target = self._target(parsed, token.key, token.start)
        if not isinstance(target, VectorSelector) or target.extension not in ("", token.key):
            self._reader.refuse(parsed.position, "anchored and smoothed modifiers cannot be used together")
        extension: Extension = "anchored" if token.key == "anchored" else "smoothed"
        return self._changed(parsed, replace(target, extension=extension))

    def _target(self, parsed: Parsed, modifier: str, position: int) -> VectorSelector | Subquery:
        """What a modifier applies to."""
        if not parsed.wrapped:
            match parsed.expr:
                case MatrixSelector(selector):
                    return selector
                case VectorSelector() | Subquery():
                    return parsed.expr
        preceded = "must be preceded by an instant vector selector or range vector selector or a subquery"
        return self._reader.refuse(parsed.position, f"{modifier} modifier {preceded}")

    def _changed(self, parsed: Parsed, target: VectorSelector | Subquery) -> Parsed:
        if isinstance(parsed.expr, MatrixSelector):
            assert isinstance(target, VectorSelector)
            return Parsed(replace(parsed.expr, selector=target), "matrix")
        return Parsed(target, parsed.kind)


def _split(span: float | DurationTerm) -> tuple[int, DurationTerm | None]:
    """Whole milliseconds, or 0 and the term that only a running query can work out."""
    return (0, span) if isinstance(span, DurationTerm) else (round(span * 1000), None)
