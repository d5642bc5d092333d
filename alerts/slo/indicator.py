"""What objectives measure: ratios of queries, and signals of engines in the words of a dialect."""

from collections.abc import Callable
from math import isclose

from alerts.slo.objective import Reading
from collector.model.errors import QueryError
from collector.promql import parse
from collector.promql.ast import VectorSelector
from collector.signals import SIGNALS, Node, SignalError, Vocabulary

WINDOW = "{{.window}}"
_SPELLINGS = ("{{.window}}", "{{ .window }}", "{{ .window}}", "{{.window }}")

Query = Callable[[str], str]
"""PromQL for a window such as ``5m``."""


def windowed(node: Node, what: str, *, counter: bool = False) -> Query:
    """A query in which ``{{.window}}`` stands for the window; a bare ``counter`` selector gets a sum of rates."""
    text = node.string(what).strip()
    for spelling in _SPELLINGS:
        text = text.replace(spelling, WINDOW)
    try:
        expr = parse(text.replace(WINDOW, "5m"))
    except QueryError as error:
        raise node.error(f"{what} does not parse: {error}") from error
    if WINDOW in text:
        return lambda window: text.replace(WINDOW, window)
    if counter and isinstance(expr, VectorSelector):
        return lambda window: f"sum(rate({text}[{window}]))"
    allowed = " or, for a counter, a plain selector" if counter else ""
    raise node.error(f"{what} is {node.shown()}; it must hold {WINDOW}, as in rate(x[{WINDOW}]){allowed}")


def bad_over_total(bad: Query, total: Query) -> Query:
    """Share of bad events."""
    return lambda window: f"({bad(window)})\n/\n({total(window)})"


def good_over_total(good: Query, total: Query) -> Query:
    """Share of events that are not good."""
    return lambda window: f"1 - (\n({good(window)})\n/\n({total(window)})\n)"


def slower_than(node: Node, signal: str, threshold: float, vocabulary: Vocabulary, reading: Reading) -> Query:
    """Share of a histogram signal's observations above ``threshold``; warns where no bucket ends there."""
    _try(node, lambda: vocabulary.fraction_below(signal, threshold, by=()))
    for dialect in vocabulary.dialects:
        for candidate in dialect.signals.get(signal, ())[:1]:
            bounds = [bound * candidate.factor for bound in candidate.buckets]
            if bounds and not any(isclose(bound, threshold, rel_tol=1e-9) for bound in bounds):
                near = sorted(bounds, key=lambda bound: abs(bound - threshold))[:2]
                shown = " and ".join(f"{bound:g}" for bound in sorted(near))
                reading.warnings.append(
                    f"{node.path}:{node.line}:{node.column}: {candidate.metric} ({dialect.title}) has no bucket at "
                    f"{threshold:g} {SIGNALS[signal].unit}; the share is interpolated, and exact at {shown}"
                )
    return lambda window: f"1 - {vocabulary.fraction_below(signal, threshold, window, by=())}"


def share_of(node: Node, bad: str, total: str, vocabulary: Vocabulary) -> Query:
    """Share of counter signal ``bad`` in counter signal ``total``."""
    _try(node, lambda: vocabulary.ratio(bad, total, by=()))
    return lambda window: vocabulary.ratio(bad, total, window, by=())


def _try(node: Node, write: Callable[[], str]) -> None:
    try:
        write()
    except SignalError as error:
        raise node.error(str(error)) from error
