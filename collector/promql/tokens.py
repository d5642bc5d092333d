"""PromQL text to tokens: names, numbers, durations, strings, operators, each with its place in the text."""

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from collector.model.errors import LimitError, QueryError
from collector.promql.limits import Limits

TokenKind = Literal["word", "number", "duration", "string", "symbol", "end"]

AGGREGATORS = frozenset({
    "sum", "avg", "count", "min", "max", "group", "stddev", "stdvar", "topk", "bottomk", "quantile", "count_values",
    "limitk", "limit_ratio",
})  # fmt: skip
WORD_OPERATORS = frozenset({"and", "or", "unless", "atan2"})
KEYWORDS = frozenset({
    "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset", "start", "end", "step", "range",
    "anchored", "smoothed", "fill", "fill_left", "fill_right",
})  # fmt: skip
OPERATORS = frozenset({"==", "!=", "<=", ">=", "<", ">", "=~", "!~", "=", "+", "-", "*", "/", "%", "^", "</", ">/"})

_TOKEN = re.compile(
    r"""
    (?P<space>(?:[ \t\r\n]+|\#[^\n]*)+)
  | (?P<string>"(?:[^"\\\n]|\\[^\n])*"|'(?:[^'\\\n]|\\[^\n])*'|`[^`]*`)
  | (?P<number>0[xX][0-9a-fA-F_]+|(?:[0-9]+(?:ms|[smhdwy]))+(?![\w.])
      |(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?)
  | (?P<word>[a-zA-Z_][a-zA-Z0-9_:]*|:[a-zA-Z_:][a-zA-Z0-9_:]*)
  | (?P<symbol>=~|!~|==|!=|<=|>=|</|>/|[-+*/%^<>=()\[\]{},:@])
    """,
    re.VERBOSE,
)
_BAD_NUMBER = re.compile(r"[0-9.][\w.]*")
_DURATION = re.compile(r"[0-9]+(?:ms|[smhdwy])")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_NAMES = {"(": "parenthesis", ")": "parenthesis", "[": "bracket", "]": "bracket", "{": "brace", "}": "brace"}
_INSIDE = {"{": "braces", "[": "brackets"}


@dataclass(frozen=True, slots=True)
class Token:
    """``text`` as it was written, from ``start`` up to ``end`` of the query."""

    kind: TokenKind
    text: str
    start: int
    end: int

    @property
    def key(self) -> str:
        """The word in lower case, as keywords are compared; the text of anything else."""
        return self.text.lower() if self.kind == "word" else self.text

    def __str__(self) -> str:
        """As Prometheus names a token in its messages."""
        shown = f'"{self.text}"'.replace("\n", "\\n")
        match self.kind:
            case "end":
                return "end of input"
            case "word":
                if self.key in AGGREGATORS:
                    return f"<aggr:{self.text}>"
                if self.key in WORD_OPERATORS:
                    return f"<op:{self.text}>"
                return f"<{self.text}>" if self.key in KEYWORDS else f"identifier {shown}"
            case "symbol":
                return f"<op:{self.text}>" if self.text in OPERATORS else shown
            case kind:
                return f"{kind} {shown}"


def place(text: str, position: int) -> str:
    """``line:column`` of a position, both from 1, the column in bytes, as in Prometheus."""
    before = text[:position]
    line_start = before.rfind("\n") + 1
    return f"{before.count(chr(10)) + 1}:{len(before[line_start:].encode(errors='replace')) + 1}"


def refuse(text: str, position: int, message: str) -> NoReturn:
    """Raise QueryError with the place, in Prometheus's manner."""
    raise QueryError(f"{place(text, position)}: parse error: {message}")


def scan(text: str, limits: Limits) -> list[Token]:
    """All tokens of ``text`` and an ``end``; raises QueryError, or LimitError for too many operators or levels."""
    tokens: list[Token] = []
    brackets: list[str] = []
    operators = position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            _refuse_character(text, position)
        group, piece, start = match.lastgroup, match[0], position
        if group == "word" and ":" in piece and brackets and brackets[-1] == "[":
            group, piece = ("symbol", ":") if piece[0] == ":" else ("word", piece[: piece.index(":")])
        position = start + len(piece)
        if group == "space":
            continue
        if group == "number":
            tokens.append(_number(text, piece, start))
        elif group == "word":
            tokens.append(_word(piece, start, bool(brackets) and brackets[-1] == "{"))
        elif group == "string":
            tokens.append(Token("string", piece, start, position))
        else:
            tokens.append(Token("symbol", piece, start, position))
            _track(text, tokens[-1], brackets, limits)
        last = tokens[-1]
        is_operator = last.kind == "symbol" and last.text in OPERATORS
        if (is_operator or last.key in WORD_OPERATORS) and "{" not in brackets:
            operators += 1
            if operators > limits.max_operators:
                raise LimitError(f"more than {limits.max_operators} operators (max_operators)")
    if brackets:
        inside = _INSIDE.get(brackets[-1])
        refuse(text, position, f"unexpected end of input inside {inside}" if inside else "unclosed left parenthesis")
    tokens.append(Token("end", "", position, position))
    return tokens


def _track(text: str, token: Token, brackets: list[str], limits: Limits) -> None:
    """Keep count of what is open."""
    piece = token.text
    if piece in _PAIRS:
        if brackets and brackets[-1] == "{":
            refuse(text, token.start, f"unexpected character inside braces: '{piece}'")
        brackets.append(piece)
        if len(brackets) > limits.max_depth:
            raise LimitError(f"nested more than {limits.max_depth} levels deep (max_depth)")
    elif piece in _NAMES and (not brackets or _PAIRS[brackets.pop()] != piece):
        refuse(text, token.start, f"unexpected right {_NAMES[piece]} '{piece}'")


def _word(piece: str, start: int, inside_braces: bool) -> Token:
    if not inside_braces and piece.lower() in ("inf", "nan"):
        return Token("number", piece, start, start + len(piece))
    return Token("word", piece, start, start + len(piece))


def _number(text: str, piece: str, start: int) -> Token:
    end = start + len(piece)
    follows = text[end : end + 1]
    whole = _BAD_NUMBER.match(text, start)
    bad_underscores = "__" in piece or piece.endswith("_") or "_." in piece or "._" in piece
    if follows.isalnum() or follows == "_" or bad_underscores or (follows == "." and "." in piece):
        refuse(text, start, f'bad number or duration syntax: "{whole[0] if whole else piece}"')
    if not piece.lower().startswith("0x") and _DURATION.match(piece):
        return Token("duration", piece, start, end)
    return Token("number", piece, start, end)


def _refuse_character(text: str, position: int) -> NoReturn:
    char = text[position]
    if char in "\"'":
        refuse(text, position, "unterminated quoted string")
    if char == "`":
        refuse(text, position, "unterminated raw string")
    if char == "!":
        refuse(text, position, f"unexpected character after '!': {text[position + 1 : position + 2]!r}")
    refuse(text, position, f"unexpected character: {char!r}")
