"""PromQL text, looked at before the parser sees it.

The Rust parser overflows the process's stack on deep nesting, needs quadratic memory for long operator chains, and
misreads a few forms. So the text is first cut into tokens, counted against the limits, and rewritten where needed:

    `raw\\string`      -> "raw\\\\string"         1_000 -> 1000
    [1.5], [5m + 1m]  -> [1500ms], [360000ms]    holt_winters( -> double_exponential_smoothing(
    "\\xc3\\xa9"        -> "\\U000000e9"      (the parser takes each byte for a character)
    @ -5              -> @ 1000000000005         (the parser loses the sign; ``parser`` undoes this)
"""

import re
from collections.abc import Iterator

from collector.model.errors import LimitError, QueryError
from collector.promql.durations import parse_duration_ms
from collector.promql.limits import Limits

NEGATIVE_AT_S = 1_000_000_000_000
"""Added to the absolute value of a negative ``@`` time, in seconds."""

_TOKEN = re.compile(
    r"""
    (?P<space>(?:\s+|\#[^\n]*)+)
  | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<raw>`[^`]*`)
  | (?P<number>0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*(?:ms|[smhdwy]))+(?![\w.])
      |(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?)
  | (?P<word>[^\W\d][\w:]*|:(?=[^\W\d:])[\w:]*)
  | (?P<operator>=~|!~|==|!=|<=|>=|[-+*/%^<>=])
  | (?P<open>[(\[{]) | (?P<close>[)\]}])
  | (?P<other>.)
    """,
    re.VERBOSE,
)
_BYTES = re.compile(r"(?<!\\)(?:\\\\)*(?:\\x[0-9a-fA-F]{2}|\\[0-7]{3})+")
_WORD_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
_UNSUPPORTED_MODIFIERS = frozenset({"anchored", "smoothed"})
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def guard(text: str, limits: Limits) -> str:
    """Return ``text`` as the parser can take it; raises QueryError or LimitError naming what is wrong."""
    pieces = [(match.lastgroup or "other", match.group()) for match in _TOKEN.finditer(text)]
    _count(pieces, limits)
    return "".join(_rewrite(pieces))


def _count(pieces: list[tuple[str, str]], limits: Limits) -> None:
    operators = 0
    stack: list[str] = []
    for group, piece in pieces:
        if group == "open":
            stack.append(piece)
            if len(stack) > limits.max_depth:
                raise LimitError(f"nested more than {limits.max_depth} levels deep (max_depth)")
        elif group == "close":
            if not stack or _PAIRS[stack.pop()] != piece:
                raise QueryError(f'unexpected "{piece}"')
        elif (group == "operator" or piece.lower() in _WORD_OPERATORS) and "{" not in stack:
            operators += 1
            if operators > limits.max_operators:
                raise LimitError(f"more than {limits.max_operators} operators (max_operators)")
    if stack:
        raise QueryError(f'"{stack[-1]}" is never closed')


def _rewrite(pieces: list[tuple[str, str]]) -> Iterator[str]:
    position = 0
    while position < len(pieces):
        group, piece = pieces[position]
        if piece == "[":
            end = next(index for index in range(position, len(pieces)) if pieces[index][1] == "]")
            yield _rewrite_range([text for kind, text in pieces[position + 1 : end] if kind != "space"])
            position = end + 1
            continue
        if piece == "@":
            ahead = [index for index in range(position + 1, len(pieces)) if pieces[index][0] != "space"][:2]
            if len(ahead) == 2 and pieces[ahead[0]][1] == "-" and pieces[ahead[1]][0] == "number":
                yield f"@ {NEGATIVE_AT_S + _number(pieces[ahead[1]][1]):.3f}"
                position = ahead[1] + 1
                continue
        yield _rewrite_token(group, piece, pieces, position)
        position += 1


def _rewrite_token(group: str, piece: str, pieces: list[tuple[str, str]], position: int) -> str:
    if group == "raw":
        return '"' + piece[1:-1].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    if group == "string" and _BYTES.search(piece):
        return _BYTES.sub(_decoded, piece)
    if group == "number":
        return piece.replace("_", "")
    if group == "word" and piece in _UNSUPPORTED_MODIFIERS and position and pieces[position - 1][0] == "space":
        raise QueryError(f"the modifier {piece} is not supported")
    if piece == "holt_winters" and "(" in [text for _, text in pieces[position + 1 : position + 3]]:
        return "double_exponential_smoothing"
    if group == "space":
        return " "
    return piece


def _decoded(escapes: re.Match[str]) -> str:
    """Byte escapes as the text that they encode; bytes that aren't UTF-8 become the replacement character."""
    escaped = escapes[0].split("\\")
    head = len(escaped) - len([part for part in escaped if part]) - 1
    codes = [int(part[1:], 16) if part[0] == "x" else int(part, 8) & 0xFF for part in escaped if part]
    text = bytes(codes).decode(errors="replace")
    return "\\" * head + "".join(f"\\U{ord(char):08x}" for char in text)


def _rewrite_range(inside: list[str]) -> str:
    """``[range]`` or ``[range:step]`` in whole milliseconds; duration arithmetic is worked out here."""
    parts: list[list[str]] = [[]]
    for piece in inside:
        if piece == ":":
            parts.append([])
        else:
            parts[-1].append(piece)
    if len(parts) > 2 or not parts[0]:
        return "[" + "".join(inside) + "]"
    return "[" + ":".join(_milliseconds(part) if part else "" for part in parts) + "]"


def _milliseconds(pieces: list[str]) -> str:
    value_ms = _Arithmetic(pieces).value()
    if value_ms <= 0:
        raise QueryError(f'duration must be greater than 0: "{"".join(pieces)}"')
    return f"{round(value_ms)}ms"


class _Arithmetic:
    """A duration expression, ``5m + 2 * (1m - 30s)``, by recursive descent; plain numbers are seconds."""

    def __init__(self, pieces: list[str]) -> None:
        self._tokens = pieces
        self._at = 0

    def value(self) -> float:
        result = self._sum()
        if self._at < len(self._tokens):
            raise QueryError(f'"{"".join(self._tokens)}" is not a duration; one looks like 5m or 1h30m')
        return result * 1000

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _sum(self) -> float:
        value = self._product()
        while self._next() in ("+", "-"):
            sign = 1 if self._next() == "+" else -1
            self._at += 1
            value += sign * self._product()
        return value

    def _product(self) -> float:
        value = self._power()
        while self._next() in ("*", "/", "%"):
            operator = self._next()
            self._at += 1
            right = self._power()
            if operator != "*" and right == 0:
                raise QueryError("division by zero in a duration")
            value = value * right if operator == "*" else value / right if operator == "/" else value % right
        return value

    def _power(self) -> float:
        value = self._unary()
        if self._next() == "^":
            self._at += 1
            return float(value ** self._power())
        return value

    def _unary(self) -> float:
        piece = self._next()
        self._at += 1
        if piece in ("+", "-"):
            return self._unary() if piece == "+" else -self._unary()
        if piece == "(":
            value = self._sum()
            if self._next() != ")":
                raise QueryError('"(" is never closed in a duration')
            self._at += 1
            return value
        return _number(piece)


def _number(piece: str) -> float:
    """Seconds, from a number or a duration."""
    piece = piece.replace("_", "")
    try:
        return float(int(piece, 16)) if piece[:2].lower() == "0x" else float(piece)
    except ValueError:
        return parse_duration_ms(piece) / 1000
