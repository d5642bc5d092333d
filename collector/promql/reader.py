"""A cursor over tokens, shared by the parts of the parser."""

import re
from collections.abc import Sequence
from typing import NoReturn

from collector.promql.strings import unquote
from collector.promql.tokens import Token, refuse

_LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


class Reader:
    """Steps through the tokens of one query; every refusal is a QueryError with the place."""

    def __init__(self, text: str, tokens: Sequence[Token]) -> None:
        self.text = text
        self._tokens = tokens
        self._index = 0

    @property
    def now(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._index]

    @property
    def at_end(self) -> bool:
        """Whether nothing comes next."""
        return self.now.kind == "end"

    @property
    def ahead(self) -> Token:
        """The token after it."""
        return self._tokens[min(self._index + 1, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Step over a token."""
        token = self._tokens[self._index]
        if token.kind != "end":
            self._index += 1
        return token

    def sees(self, *symbols: str) -> bool:
        """Whether one of the symbols comes next."""
        return self.now.kind == "symbol" and self.now.text in symbols

    def sees_word(self, *words: str) -> bool:
        """Whether one of the keywords comes next."""
        return self.now.kind == "word" and self.now.key in words

    def skip(self, symbol: str) -> bool:
        """Step over a symbol where it comes next."""
        if self.sees(symbol):
            self._index += 1
            return True
        return False

    def need(self, symbol: str, context: str, expected: str) -> Token:
        """Step over a symbol that must come next."""
        if not self.sees(symbol):
            self.unexpected(context, expected)
        return self.take()

    def unexpected(self, context: str = "", expected: str = "") -> NoReturn:
        """Refuse the token that comes next."""
        message = f"unexpected {self.now}"
        message += f" in {context}" if context else ""
        message += f", expected {expected}" if expected else ""
        self.refuse(self.now.start, message)

    def refuse(self, position: int, message: str) -> NoReturn:
        """Raise QueryError with the place of ``position``."""
        refuse(self.text, position, message)

    def string(self) -> str:
        """Step over a string literal; what it stands for."""
        token = self.take()
        try:
            return unquote(token.text)
        except ValueError as error:
            self.refuse(token.start, f"error unquoting string: {error}")

    def labels(self) -> tuple[str, ...]:
        """``(name, "quoted name", ...)``."""
        context = "grouping opts"
        self.need("(", context, '"("')
        names: list[str] = []
        while not self.sees(")"):
            if self.now.kind == "string":
                names.append(self.string())
            elif self.now.kind in ("word", "number") and _LABEL.fullmatch(self.now.text):
                names.append(self.take().text)
            else:
                self.unexpected(context, "label")
            if not self.skip(",") and not self.sees(")"):
                self.unexpected(context, '"," or ")"')
        self.take()
        return tuple(names)
