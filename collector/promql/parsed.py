"""A node on its way through the parser."""

from dataclasses import dataclass

from collector.promql.ast import Expr
from collector.promql.kinds import Kind


@dataclass(frozen=True, slots=True)
class Parsed:
    """A node, its kind, and whether it stood in parentheses."""

    expr: Expr
    kind: Kind
    wrapped: bool = False

    @property
    def position(self) -> int:
        """Where its text begins."""
        return self.expr.position
