"""Which labels an alert can have, and which its templates ask for."""

import re
from collections.abc import Iterator

from alerts.lint.finding import Remark
from alerts.rule import AlertRule
from collector.promql import Expr, VectorSelector, parse
from collector.promql.ast import Aggregation, Binary, Call, Negate, Text, kind_of

_ASKED = re.compile(r"(?:\$labels|\.Labels)\.([a-zA-Z_][a-zA-Z0-9_]*)")


def missing_labels(rule: AlertRule) -> Iterator[Remark]:
    """Labels that annotations and labels name and the expression cannot give."""
    expr = parse(rule.expr)
    given = labels_of(expr)
    if given is None:
        return
    texts = [text for _, text in (*rule.labels, *rule.annotations)]
    asked = {name for text in texts for name in _ASKED.findall(text)}
    for name in sorted(asked - given - {"alertname"}):
        if isinstance(expr, Call) and expr.function.startswith("absent"):
            message = f'absent() gives no label {name}; it gives those that its selector fixes, as in {{{name}="..."}}'
            yield Remark("absent-without-label", message, expr.function)
        else:
            have = ", ".join(sorted(given)) or "none"
            yield Remark("label-not-given", f"a template names $labels.{name}; the expression's labels are: {have}")


def labels_of(expr: Expr) -> frozenset[str] | None:
    """The labels that answers of ``expr`` can have; None where that depends on the data."""
    match expr:
        case Aggregation(_, _, _, grouping, without):
            return None if without or expr.op in ("topk", "bottomk", "limitk", "limit_ratio") else frozenset(grouping)
        case Negate(operand):
            return labels_of(operand)
        case Binary():
            return _binary(expr)
        case Call("absent" | "absent_over_time", args):
            selector = getattr(args[0], "selector", args[0])
            if not isinstance(selector, VectorSelector):
                return frozenset()
            return frozenset(one.name for one in selector.matchers if one.op == "=" and one.name != "__name__")
        case Call("label_replace" | "label_join", args):
            given = labels_of(args[0])
            return given | {args[1].value} if given is not None and isinstance(args[1], Text) else None
        case Call("histogram_quantile", args):
            given = labels_of(args[1])
            return None if given is None else given - {"le"}
        case Call("vector"):
            return frozenset()
        case _:
            return None


def _binary(expr: Binary) -> frozenset[str] | None:
    left, right = labels_of(expr.left), labels_of(expr.right)
    if kind_of(expr.right) == "scalar":
        return left
    if kind_of(expr.left) == "scalar":
        return right
    if expr.op == "or":
        return None if left is None or right is None else left | right
    many = expr.matching is not None and expr.matching.cardinality in ("many-to-one", "one-to-many")
    return None if many else left
