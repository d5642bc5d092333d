"""What is valid in a rule file and yet commonly wrong: stale metric names, quantiles and counters misused."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from alerts.rule import RecordRule, Rule, RuleFile
from collector.promql import Expr, VectorSelector, parse, selectors
from collector.promql.ast import Aggregation, Call, MatrixSelector, Subquery, children, walk

_RATES = frozenset({"rate", "increase", "irate", "delta", "idelta"})
_ANY_VALUE = frozenset({"absent", "absent_over_time", "present_over_time", "timestamp", "resets", "changes"})
_COUNTING = frozenset({"count", "group", "count_values"})
_COUNTER_ENDS = ("_total", "_sum", "_count", "_bucket")


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark on a rule, with its place."""

    path: str
    line: int
    rule: str
    code: str
    message: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.rule}": {self.message} [{self.code}]'


def lint(files: Sequence[RuleFile], known: frozenset[str]) -> list[Finding]:
    """Remarks on the rules of ``files``; ``known`` are the series names that exist beside those that they record."""
    recorded = {rule.name for file in files for rule in file.rules if isinstance(rule, RecordRule)}
    return [
        Finding(file.path, rule.line, rule.name, code, message)
        for file in files
        for rule in file.rules
        for code, message in dict.fromkeys(_remarks(rule, known | recorded))
    ]


def _remarks(rule: Rule, known: frozenset[str]) -> Iterator[tuple[str, str]]:
    expr = parse(rule.expr)
    yield from _unknown_names(selectors(expr), known)
    yield from _quantiles(expr)
    yield from _bare_counters(expr, ranged=False)


def _unknown_names(found: Iterable[VectorSelector], known: frozenset[str]) -> Iterator[tuple[str, str]]:
    for selector in found:
        name = selector.name
        if not name or name in known:
            continue
        if f"{name}_bucket" in known:
            yield "unknown-metric", f"{name} is a histogram; its series are {name}_bucket, {name}_sum and {name}_count"
            continue
        close = get_close_matches(name, known, n=1, cutoff=0.8)
        hint = f"; did you mean {close[0]}?" if close else ""
        yield "unknown-metric", f"no known engine or exporter has a series {name}{hint}"


def _quantiles(expr: Expr) -> Iterator[tuple[str, str]]:
    for node in walk(expr):
        if not (isinstance(node, Call) and node.function == "histogram_quantile" and len(node.args) == 2):
            continue
        buckets = node.args[1]
        if any(selector.name.endswith("_bucket") for selector in selectors(buckets)) and not any(
            isinstance(inner, Call) and inner.function in _RATES for inner in walk(buckets)
        ):
            yield (
                "quantile-without-rate",
                "histogram_quantile over raw buckets answers for all time since start; put rate(...[5m]) around them",
            )
        for inner in walk(buckets):
            if isinstance(inner, Aggregation) and ("le" in inner.grouping) == inner.without:
                yield (
                    "quantile-without-le",
                    f"{inner.op} in histogram_quantile loses the label le; group by (le, ...)",
                )


def _bare_counters(expr: Expr, *, ranged: bool) -> Iterator[tuple[str, str]]:
    if isinstance(expr, MatrixSelector) or (isinstance(expr, Call) and expr.function in _ANY_VALUE):
        return
    if isinstance(expr, Aggregation) and expr.op in _COUNTING:
        return
    if isinstance(expr, VectorSelector) and not ranged and expr.name.endswith(_COUNTER_ENDS):
        yield (
            "counter-without-rate",
            f"{expr.name} is a counter and only grows; ask for rate({expr.name}[5m]) or increase({expr.name}[5m])",
        )
    inside = ranged or isinstance(expr, Subquery)
    for child in children(expr):
        yield from _bare_counters(child, ranged=inside)
