"""Types: what a function, an aggregation, an operator may be applied to, with Prometheus's messages.

Source: prometheus/promql/parser/parse.go, ``checkAST`` and ``newAggregateExpr``.
"""

from collections.abc import Sequence
from dataclasses import replace

from collector.promql.ast import Aggregation, Binary, Call, Expr, Matching, MatrixSelector, VectorSelector, children
from collector.promql.functions import FUNCTIONS, UNBOUNDED
from collector.promql.kinds import DOCUMENTED, Kind
from collector.promql.parsed import Parsed
from collector.promql.reader import Reader
from collector.promql.tokens import Token

SET_OPERATORS = frozenset({"and", "or", "unless"})
COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_EXTENSIONS = {
    "anchored": ("changes", "delta", "increase", "rate", "resets"),
    "smoothed": ("delta", "increase", "rate"),
}
_PARAMETERS: dict[str, Kind] = {
    **dict.fromkeys(("topk", "bottomk", "quantile", "limitk", "limit_ratio"), "scalar"),
    "count_values": "string",
}


def binary(reader: Reader, op: Token, left: Parsed, right: Parsed, matching: Matching, returns_bool: bool) -> Parsed:
    """``left op right``."""
    name = op.key
    kinds = (left.kind, right.kind)
    if returns_bool and name not in COMPARISONS:
        reader.refuse(op.start, "bool modifier can only be used on comparison operators")
    if name in COMPARISONS and not returns_bool and kinds == ("scalar", "scalar"):
        reader.refuse(op.start, "comparisons between scalars must use BOOL modifier")
    for label in matching.labels if matching.on else ():
        if label in matching.include:
            reader.refuse(op.start, f'label "{label}" must not occur in ON and GROUP clause at once')
    for side in (left, right):
        if side.kind not in ("scalar", "vector"):
            reader.refuse(side.position, "binary expression must contain only scalar and instant vector types")
    _check_matching(reader, name, left, kinds, matching)
    if kinds != ("vector", "vector"):
        kind: Kind = "scalar" if kinds == ("scalar", "scalar") else "vector"
        return Parsed(Binary(name, left.expr, right.expr, None, returns_bool, left.position), kind)
    if name in SET_OPERATORS:
        matching = replace(matching, cardinality="many-to-many")
    return Parsed(Binary(name, left.expr, right.expr, matching, returns_bool, left.position), "vector")


def _check_matching(reader: Reader, name: str, left: Parsed, kinds: tuple[Kind, Kind], matching: Matching) -> None:
    filled = matching.fill_left is not None or matching.fill_right is not None
    if "scalar" in kinds:
        if matching.labels:
            reader.refuse(left.position, "vector matching only allowed between instant vectors")
        if filled:
            reader.refuse(left.position, "filling in missing series only allowed between instant vectors")
        if name in SET_OPERATORS:
            reader.refuse(left.position, f'set operator "{name}" not allowed in binary scalar expression')
    elif name in SET_OPERATORS:
        if matching.cardinality != "one-to-one":
            reader.refuse(left.position, f'no grouping allowed for "{name}" operation')
        if filled:
            reader.refuse(left.position, "filling in missing series not allowed for set operators")


def call(reader: Reader, token: Token, name: str, arguments: Sequence[Parsed]) -> Parsed:
    """``name(arguments)``."""
    signature = FUNCTIONS[name]
    count, least = len(arguments), len(signature.args) - bool(signature.optional)
    if not signature.optional and count != least:
        reader.refuse(token.start, f'expected {least} argument(s) in call to "{name}", got {count}')
    if count < least:
        reader.refuse(token.start, f'expected at least {least} argument(s) in call to "{name}", got {count}')
    most = least + signature.optional
    if signature.optional != UNBOUNDED and count > most:
        reader.refuse(token.start, f'expected at most {most} argument(s) in call to "{name}", got {count}')
    for number, argument in enumerate(arguments):
        wanted = signature.args[min(number, len(signature.args) - 1)]
        if argument.kind != wanted:
            documented = f'expected type {DOCUMENTED[wanted]} in call to function "{name}"'
            reader.refuse(argument.position, f"{documented}, got {DOCUMENTED[argument.kind]}")
        _check_extension(reader, name, argument)
    if name == "info" and count > 1:
        _check_info(reader, arguments[1])
    args = tuple(argument.expr for argument in arguments)
    return Parsed(Call(name, args, token.start), signature.result)


def _check_extension(reader: Reader, name: str, argument: Parsed) -> None:
    if isinstance(argument.expr, MatrixSelector) and (extension := argument.expr.selector.extension):
        allowed = _EXTENSIONS[extension]
        if name not in allowed:
            message = f"{extension} modifier can only be used with: {', '.join(allowed)} - not with {name}"
            reader.refuse(argument.position, message)


def _check_info(reader: Reader, argument: Parsed) -> None:
    if not isinstance(argument.expr, VectorSelector) or argument.wrapped:
        reader.refuse(argument.position, "expected label selectors only")
    if reader.text[argument.position] != "{":
        reader.refuse(argument.position, "expected label selectors only, got vector selector instead")


def aggregation(
    reader: Reader, token: Token, arguments: Sequence[Parsed], grouping: tuple[str, ...], by_exclusion: bool
) -> Parsed:
    """``token by|without (grouping) (arguments)``."""
    op = token.key
    if not arguments:
        reader.refuse(token.start, "no arguments for aggregate expression provided")
    wanted = 2 if op in _PARAMETERS else 1
    if len(arguments) != wanted:
        message = "wrong number of arguments for aggregate expression provided"
        reader.refuse(token.start, f"{message}, expected {wanted}, got {len(arguments)}")
    _expect(reader, arguments[-1], "vector", "aggregation expression")
    if op in _PARAMETERS:
        _expect(reader, arguments[0], _PARAMETERS[op], "aggregation parameter")
    param = arguments[0].expr if wanted == 2 else None
    return Parsed(Aggregation(op, arguments[-1].expr, param, grouping, by_exclusion, token.start), "vector")


def _expect(reader: Reader, parsed: Parsed, wanted: Kind, context: str) -> None:
    if parsed.kind != wanted:
        message = f"expected type {DOCUMENTED[wanted]} in {context}, got {DOCUMENTED[parsed.kind]}"
        reader.refuse(parsed.position, message)


def selectors(reader: Reader, expr: Expr) -> None:
    """Refuse a selector that would select everything; the one of ``info`` may."""
    waiting = [expr]
    while waiting:
        node = waiting.pop()
        if isinstance(node, VectorSelector) and not any(not matcher.matches("") for matcher in node.matchers):
            reader.refuse(node.position, "vector selector must contain at least one non-empty matcher")
        waiting += children(node)[:1] if isinstance(node, Call) and node.function == "info" else children(node)
