"""A remark on a rule: what a check says of an expression, and where that stands in the file."""

import re
from dataclasses import dataclass

from alerts.rule import Rule


@dataclass(frozen=True, slots=True)
class Remark:
    """What a check found. ``token`` is the word of the rule that it is about; ``mended`` the whole expression."""

    code: str
    message: str
    token: str = ""
    mended: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark with its place; ``line`` and ``column`` are 1-based."""

    path: str
    line: int
    column: int
    rule: str
    code: str
    message: str
    mended: str | None = None

    def __str__(self) -> str:
        said = f'{self.path}:{self.line}:{self.column}: "{self.rule}": {self.message} [{self.code}]'
        return said if self.mended is None else f"{said}\n    better: {self.mended}"


def place(rule: Rule, token: str, source: list[str]) -> tuple[int, int]:
    """Line and column of ``token`` in the expression of ``rule``, or of the expression where it is not found.

    An expression may stand in any of YAML's styles, so the token is looked for in the file's own lines.
    """
    start, column = rule.expr_line or rule.line, rule.expr_column or 1
    if not token:
        return start, column
    wanted = re.compile(rf"(?<![\w:]){re.escape(token)}(?![\w:])")
    last = min(len(source), start + rule.expr.count("\n") + 2)
    for number in range(start, last + 1):
        found = wanted.search(source[number - 1], column - 1 if number == start else 0)
        if found:
            return number, found.start() + 1
    return start, column
