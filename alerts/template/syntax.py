"""Reads template text into a tree: text, actions, ``if``/``with``/``range`` with ``else``, variables, pipelines."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from alerts.errors import TemplateError

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant."""

    value: Scalar


@dataclass(frozen=True, slots=True)
class Variable:
    """``$name``; ``$`` alone is the data that the template was given."""

    name: str


@dataclass(frozen=True, slots=True)
class Dot:
    """``.``, the present value."""


@dataclass(frozen=True, slots=True)
class Call:
    """A function's name where a command begins or an argument stands."""

    name: str


@dataclass(frozen=True, slots=True)
class Field:
    """``base.name``."""

    base: "Term"
    name: str


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by ``|``; ``variables`` are declared (``:=``) or set (``=``) to its value."""

    commands: tuple[tuple["Term", ...], ...]
    variables: tuple[str, ...] = ()
    declares: bool = False


Term = Literal | Variable | Dot | Call | Field | Pipeline


@dataclass(frozen=True, slots=True)
class Block:
    """``if``, ``with`` or ``range`` and what stands in it."""

    keyword: str
    pipeline: Pipeline
    body: tuple["Part", ...]
    otherwise: tuple["Part", ...]


Part = str | Pipeline | Block


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an action; ``spaced`` tells whether white space stood before it."""

    kind: str
    text: str
    spaced: bool


_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\\n])*") | (?P<raw>`[^`]*`)
      | (?P<number>[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.]))
      | (?P<variable>\$\w*) | (?P<field>\.[A-Za-z_]\w*) | (?P<dot>\.) | (?P<word>[A-Za-z_]\w*)
      | (?P<mark>:=|=|\||\(|\)|,)""",
    re.VERBOSE,
)
_SPACE = re.compile(r"\s*")
_OPEN = re.compile(r"\{\{(?:-(?=\s))?")
_COMMENT = re.compile(r"\s*/\*.*?\*/\s*(?P<trim>-)?\}\}", re.DOTALL)
_CLOSE = re.compile(r"(?:(?<=\s)-)?\}\}")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_KEYWORDS = frozenset({"if", "with", "range", "else", "end"})
_UNSUPPORTED = frozenset({"define", "template", "block", "break", "continue"})
_MAX_DEPTH = 100


def parse(text: str, functions: frozenset[str], variables: frozenset[str]) -> tuple[Part, ...]:
    """Parse template text. Unknown functions and variables are errors here, as in Go. Raises TemplateError."""
    return _Parser(list(_pieces(text)), functions, variables).parts()


def _pieces(text: str) -> Iterator[str | list[Token]]:
    """Text and actions in turn, white space trimmed where ``{{-`` and ``-}}`` ask for it."""
    position, trim = 0, False
    while True:
        opening = _OPEN.search(text, position)
        plain = text[position : opening.start() if opening else len(text)]
        plain = plain.lstrip(" \t\r\n") if trim else plain
        if opening is None:
            if plain:
                yield plain
            return
        plain = plain.rstrip(" \t\r\n") if opening.group().endswith("-") else plain
        if plain:
            yield plain
        comment = _COMMENT.match(text, opening.end())
        if comment:
            position, trim = comment.end(), comment["trim"] is not None
            continue
        tokens, position, trim = _action(text, opening.end())
        yield tokens


def _action(text: str, position: int) -> tuple[list[Token], int, bool]:
    tokens: list[Token] = []
    while True:
        space = _SPACE.match(text, position)
        after = space.end() if space else position
        closing = _CLOSE.match(text, after)
        if closing:
            return tokens, closing.end(), closing.group().startswith("-")
        if after >= len(text):
            raise TemplateError('an action that "{{" opens is not closed')
        found = _TOKEN.match(text, after)
        if found is None:
            raise TemplateError(f"unexpected {text[after]!r} in an action")
        tokens.append(Token(found.lastgroup or "", found.group(), after > position or not tokens))
        position = found.end()


class _Parser:
    """Reads pieces one after the other; keeps the variables in scope."""

    def __init__(self, pieces: list[str | list[Token]], functions: frozenset[str], variables: frozenset[str]) -> None:
        self._pieces = pieces
        self._at = 0
        self._functions = functions
        self._scope = [*variables]

    def parts(self) -> tuple[Part, ...]:
        parts, ended_by = self._until((), 0)
        assert ended_by is None
        return parts

    def _until(self, ends: tuple[str, ...], depth: int) -> tuple[tuple[Part, ...], list[Token] | None]:
        """Parts up to an action that begins with one of ``ends``, and that action."""
        if depth > _MAX_DEPTH:
            raise TemplateError(f"blocks are nested more than {_MAX_DEPTH} deep")
        parts: list[Part] = []
        while self._at < len(self._pieces):
            piece = self._pieces[self._at]
            self._at += 1
            if isinstance(piece, str):
                parts.append(piece)
                continue
            keyword = piece[0].text if piece and piece[0].kind == "word" else ""
            if keyword in ends:
                return tuple(parts), piece
            if keyword in ("else", "end"):
                raise TemplateError(f"unexpected {{{{{keyword}}}}}")
            if keyword in _UNSUPPORTED:
                raise TemplateError(f"{{{{{keyword}}}}} is not supported")
            if keyword in _KEYWORDS:
                parts.append(self._block(keyword, piece[1:], depth))
            else:
                parts.append(self._pipeline(piece))
        if ends:
            raise TemplateError("a block is not closed by {{end}}")
        return tuple(parts), None

    def _block(self, keyword: str, tokens: list[Token], depth: int) -> Block:
        outside = len(self._scope)
        pipeline = self._pipeline(tokens, keyword)
        body, ended_by = self._until(("else", "end"), depth + 1)
        otherwise: tuple[Part, ...] = ()
        del self._scope[outside:]
        if ended_by is not None and ended_by[0].text == "else":
            if len(ended_by) > 1:
                chained = ended_by[1]
                if keyword != "if" or chained.text != "if":
                    raise TemplateError(f"unexpected {chained.text!r} after else")
                otherwise = (self._block("if", ended_by[2:], depth + 1),)
            else:
                otherwise, _ = self._until(("end",), depth + 1)
                del self._scope[outside:]
        return Block(keyword, pipeline, body, otherwise)

    def _pipeline(self, tokens: list[Token], keyword: str = "") -> Pipeline:
        variables, declares, rest = self._declaration(tokens, keyword)
        reader = _Commands(rest, self._functions, self._scope)
        commands = reader.commands()
        if reader.left():
            raise TemplateError(f"unexpected {reader.left()!r} in an action")
        if declares:
            self._scope.extend(variables)
        return Pipeline(commands, variables, declares)

    def _declaration(self, tokens: list[Token], keyword: str) -> tuple[tuple[str, ...], bool, list[Token]]:
        texts = [token.text for token in tokens[:4]]
        kinds = [token.kind for token in tokens[:4]]
        if kinds[:1] == ["variable"] and texts[1:2] in ([":="], ["="]):
            names: tuple[str, ...] = (texts[0],)
            sign, rest = texts[1], tokens[2:]
        elif keyword == "range" and kinds[:3:2] == ["variable"] * 2 and texts[1:2] == [","] and texts[3:4] == [":="]:
            names, sign, rest = (texts[0], texts[2]), ":=", tokens[4:]
        else:
            return (), False, tokens
        if sign == "=":
            for name in names:
                _known_variable(name, self._scope)
        return names, sign == ":=", rest


class _Commands:
    """Reads commands from tokens."""

    def __init__(self, tokens: list[Token], functions: frozenset[str], scope: list[str]) -> None:
        self._tokens = tokens
        self._at = 0
        self._functions = functions
        self._scope = scope
        self._depth = 0

    def left(self) -> str:
        """What was not read."""
        return self._tokens[self._at].text if self._at < len(self._tokens) else ""

    def commands(self) -> tuple[tuple[Term, ...], ...]:
        commands = [self._command()]
        while self.left() == "|":
            self._at += 1
            commands.append(self._command())
        for command in commands[1:]:
            if not isinstance(command[0], Call | Field | Variable | Dot):
                raise TemplateError("what follows | must be a function")
        return tuple(commands)

    def _command(self) -> tuple[Term, ...]:
        terms: list[Term] = []
        while self._at < len(self._tokens) and self.left() not in ("|", ")"):
            terms.append(self._term())
        if not terms:
            raise TemplateError("missing value in an action")
        return tuple(terms)

    def _term(self) -> Term:
        token = self._tokens[self._at]
        self._at += 1
        if token.kind == "field":
            return self._fields(Field(Dot(), token.text[1:]))
        if token.kind == "mark":
            if token.text != "(":
                raise TemplateError(f"unexpected {token.text!r} in an action")
            return self._fields(self._parenthesis())
        readers: dict[str, Callable[[str], Term]] = {
            "string": lambda text: Literal(_unquoted(text)),
            "raw": lambda text: Literal(text[1:-1]),
            "number": lambda text: Literal(_number(text)),
            "variable": self._variable,
            "dot": lambda _: Dot(),
            "word": self._word,
        }
        return self._fields(readers[token.kind](token.text))

    def _parenthesis(self) -> Pipeline:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise TemplateError(f"parentheses are nested more than {_MAX_DEPTH} deep")
        inner = Pipeline(self.commands())
        if self.left() != ")":
            raise TemplateError('a "(" is not closed')
        self._at += 1
        self._depth -= 1
        return inner

    def _fields(self, term: Term) -> Term:
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.kind != "field" or token.spaced:
                break
            term = Field(term, token.text[1:])
            self._at += 1
        return term

    def _variable(self, name: str) -> Term:
        _known_variable(name, self._scope)
        return Variable(name)

    def _word(self, word: str) -> Term:
        constants: dict[str, Scalar] = {"true": True, "false": False, "nil": None}
        if word in constants:
            return Literal(constants[word])
        if word not in self._functions:
            raise TemplateError(f'function "{word}" is not defined')
        return Call(word)


def _known_variable(name: str, scope: list[str]) -> None:
    if name != "$" and name not in scope:
        raise TemplateError(f'variable "{name}" is not defined')


def _unquoted(text: str) -> str:
    def one(found: re.Match[str]) -> str:
        escape = found[1]
        if len(escape) > 1:
            return chr(int(escape[1:], 16))
        if escape not in _ESCAPES:
            raise TemplateError(f"{text}: \\{escape} is no escape")
        return _ESCAPES[escape]

    try:
        return _ESCAPE.sub(one, text[1:-1])
    except ValueError as error:
        raise TemplateError(f"{text}: holds no character of that number") from error


def _number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        return float(text)
