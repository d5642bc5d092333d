"""Label matchers of a selector: ``=``, ``!=``, ``=~``, ``!~``."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from collector.model.errors import QueryError
from collector.model.go_regex import GoPattern, compile_go_regex
from collector.model.labels import Labels, get

MatchOp = Literal["=", "!=", "=~", "!~"]


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label; an absent label counts as the empty string.

    Regular expressions are anchored at both ends and ``.`` matches a newline, as in Prometheus 3.
    Raises QueryError when the expression does not compile.
    """

    name: str
    op: MatchOp
    value: str
    _pattern: GoPattern | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.op in ("=~", "!~"):
            try:
                pattern = compile_go_regex(self.value)
            except re.error as error:
                raise QueryError(
                    f'label {self.name!r}: regular expression "{self.value}" does not compile: {error}'
                ) from error
            object.__setattr__(self, "_pattern", pattern)

    def matches(self, value: str) -> bool:
        """Whether a label with this value satisfies the matcher."""
        if self._pattern is None:
            return (value == self.value) == (self.op == "=")
        return (self._pattern.fullmatch(value) is not None) == (self.op == "=~")

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op}"{value}"'


def all_match(matchers: Sequence[Matcher], labels: Labels) -> bool:
    """Whether ``labels`` satisfy every matcher."""
    return all(matcher.matches(get(labels, matcher.name)) for matcher in matchers)
