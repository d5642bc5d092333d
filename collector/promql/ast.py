"""PromQL expressions as values: frozen, hashable, without parentheses (the tree says it already).

Times are Unix milliseconds, durations milliseconds. ``at`` is None, a time, or the words ``start`` and ``end``.
``position`` is where the text of a node begins; it takes no part in comparison.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from collector.model.labels import METRIC_NAME
from collector.model.matchers import Matcher
from collector.promql.functions import FUNCTIONS
from collector.promql.kinds import Kind

At = int | Literal["start", "end"] | None
Cardinality = Literal["one-to-one", "many-to-one", "one-to-many", "many-to-many"]
Extension = Literal["", "anchored", "smoothed"]

_NAN = math.nan


@dataclass(frozen=True, slots=True)
class DurationTerm:
    """Duration arithmetic that only a running query can work out, because ``step()`` or ``range()`` is in it.

    ``op`` is ``+ - * / % ^``, with one operand ``-``, or one of ``step range min_of max_of``; numbers are seconds.
    """

    op: str
    args: "tuple[Duration, ...]" = ()


Duration = float | DurationTerm


@dataclass(frozen=True, slots=True)
class Number:
    """A scalar literal; every NaN literal equals every other."""

    value: float
    position: int = field(default=0, compare=False, repr=False)

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            object.__setattr__(self, "value", _NAN)


@dataclass(frozen=True, slots=True)
class Text:
    """A string literal."""

    value: str
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class VectorSelector:
    """``name{matchers} offset .. @ ..``; the metric name is the matcher on ``__name__``, which comes first.

    ``extension`` is the modifier ``anchored`` or ``smoothed``; ``offset`` goes before ``offset_ms`` where it is set.
    """

    matchers: tuple[Matcher, ...]
    offset_ms: int = 0
    at: At = None
    extension: Extension = ""
    offset: DurationTerm | None = None
    position: int = field(default=0, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The metric name, or the empty string where the selector does not fix one."""
        for matcher in self.matchers:
            if matcher.name == METRIC_NAME and matcher.op == "=":
                return matcher.value
        return ""


@dataclass(frozen=True, slots=True)
class MatrixSelector:
    """``selector[range]``."""

    selector: VectorSelector
    range_ms: int
    range: DurationTerm | None = None
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Subquery:
    """``expr[range:step] offset .. @ ..``; a ``step_ms`` of None means the engine's default step."""

    expr: "Expr"
    range_ms: int
    step_ms: int | None = None
    offset_ms: int = 0
    at: At = None
    range: DurationTerm | None = None
    step: DurationTerm | None = None
    offset: DurationTerm | None = None
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Negate:
    """``-expr``."""

    expr: "Expr"
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Matching:
    """How two vectors meet: ``on`` (or ignoring) ``labels``, ``include`` from the one side, fills for the unmatched."""

    cardinality: Cardinality = "one-to-one"
    on: bool = False
    labels: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fill_left: float | None = None
    fill_right: float | None = None


@dataclass(frozen=True, slots=True)
class Binary:
    """``left op right``; ``matching`` is None unless both sides are vectors."""

    op: str
    left: "Expr"
    right: "Expr"
    matching: Matching | None = None
    return_bool: bool = False
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Aggregation:
    """``op by|without (grouping) (param, expr)``; no grouping at all is ``by ()``."""

    op: str
    expr: "Expr"
    param: "Expr | None" = None
    grouping: tuple[str, ...] = ()
    without: bool = False
    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """``function(args)``."""

    function: str
    args: tuple["Expr", ...] = ()
    position: int = field(default=0, compare=False, repr=False)


Expr = Number | Text | VectorSelector | MatrixSelector | Subquery | Negate | Binary | Aggregation | Call


def kind_of(expr: Expr) -> Kind:
    """What ``expr`` evaluates to, in the API's words."""
    match expr:
        case Number():
            return "scalar"
        case Text():
            return "string"
        case MatrixSelector() | Subquery():
            return "matrix"
        case Negate(inner):
            return kind_of(inner)
        case Binary(_, left, right):
            return "scalar" if kind_of(left) == kind_of(right) == "scalar" else "vector"
        case Call(function):
            return FUNCTIONS[function].result if function in FUNCTIONS else "vector"
        case _:
            return "vector"


def children(expr: Expr) -> tuple[Expr, ...]:
    """Direct operands of ``expr``, in the order of the text."""
    match expr:
        case MatrixSelector(selector):
            return (selector,)
        case Subquery(inner) | Negate(inner):
            return (inner,)
        case Binary(_, left, right):
            return (left, right)
        case Aggregation(_, inner, param):
            return (inner,) if param is None else (param, inner)
        case Call(_, args):
            return args
        case _:
            return ()


def walk(expr: Expr) -> Iterator[Expr]:
    """``expr`` and everything below it, depth first."""
    waiting = [expr]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(children(node)))


def selectors(expr: Expr) -> tuple[VectorSelector, ...]:
    """Every vector selector of ``expr``, in the order of the text."""
    return tuple(node for node in walk(expr) if isinstance(node, VectorSelector))
