"""Reads promtool's test files (``promtool test rules``) and says where one is not valid."""

from collections.abc import Iterable
from dataclasses import dataclass

from alerts.ruletest.notation import read_labels, read_values
from collector.model.durations import SHAPE, parse_duration_ms
from collector.model.labels import Labels, from_mapping
from collector.signals import Node, parse_document

_FILE_FIELDS = ("rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare")
_TEST_FIELDS = (
    "interval", "input_series", "alert_rule_test", "promql_expr_test", "external_labels", "external_url", "name",
)  # fmt: skip
DEFAULT_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class AlertCase:
    """``alert_rule_test``: which alerts of this name fire at ``at_s``, as (labels, annotations)."""

    name: str
    at_s: float
    expected: tuple[tuple[Labels, Labels], ...]
    line: int


@dataclass(frozen=True, slots=True)
class ExprCase:
    """``promql_expr_test``: what ``expr`` answers at ``at_s``."""

    expr: str
    at_s: float
    expected: tuple[tuple[Labels, float], ...]
    line: int


@dataclass(frozen=True, slots=True)
class Test:
    """One entry of ``tests``: its data and what must come of it."""

    __test__ = False

    name: str
    interval_s: float
    series: tuple[tuple[Labels, tuple[float | None, ...]], ...]
    alerts: tuple[AlertCase, ...]
    exprs: tuple[ExprCase, ...]
    external_labels: Labels
    external_url: str
    line: int

    @property
    def end_s(self) -> float:
        """The last moment that any case looks at."""
        moments = [case.at_s for case in self.alerts] + [case.at_s for case in self.exprs]
        return max(moments, default=0.0)


@dataclass(frozen=True, slots=True)
class TestFile:
    """One test file; ``rule_files`` are patterns relative to its folder.

    ``fuzzy`` allows values to differ by a millionth.
    """

    __test__ = False

    path: str
    rule_files: tuple[str, ...]
    evaluation_interval_s: float
    group_order: tuple[str, ...]
    tests: tuple[Test, ...]
    fuzzy: bool = False


def read_test_file(text: str, path: str) -> TestFile:
    """Read one test file; ``path`` is what errors call it. Raises DocumentError at the first problem."""
    root = parse_document(text, path)
    if root.value is None:
        return TestFile(path, (), DEFAULT_INTERVAL_S, (), ())
    fields = root.only(_FILE_FIELDS, "test file")
    interval_s = _duration(fields.get("evaluation_interval"), "evaluation_interval") or DEFAULT_INTERVAL_S
    return TestFile(
        path,
        _strings(fields.get("rule_files"), "rule_files"),
        interval_s,
        _order(fields.get("group_eval_order"), "group_eval_order"),
        tuple(_test(item, f"tests[{i}]", interval_s) for i, item in enumerate(_items(fields.get("tests"), "tests"))),
        fields["fuzzy_compare"].boolean("fuzzy_compare") if "fuzzy_compare" in fields else False,
    )


def _order(node: Node | None, what: str) -> tuple[str, ...]:
    names = _strings(node, what)
    for item in _items(node, what):
        if names.count(item.text) > 1:
            raise item.error(f'{what}: group "{item.text}" appears twice')
    return names


def _test(node: Node, what: str, evaluation_interval_s: float) -> Test:
    fields = node.only(_TEST_FIELDS, what)
    return Test(
        name=_text(fields.get("name"), f"{what}.name"),
        interval_s=_duration(fields.get("interval"), f"{what}.interval") or evaluation_interval_s,
        series=tuple(
            _series(item, where) for where, item in _numbered(fields.get("input_series"), what, "input_series")
        ),
        alerts=tuple(
            _alert(item, where) for where, item in _numbered(fields.get("alert_rule_test"), what, "alert_rule_test")
        ),
        exprs=tuple(
            _expr(item, where) for where, item in _numbered(fields.get("promql_expr_test"), what, "promql_expr_test")
        ),
        external_labels=_texts(fields.get("external_labels"), f"{what}.external_labels"),
        external_url=_text(fields.get("external_url"), f"{what}.external_url"),
        line=node.line,
    )


def _series(node: Node, what: str) -> tuple[Labels, tuple[float | None, ...]]:
    fields = node.only(("series", "values"), what)
    named = node.need("series", what)
    labels = _labels(named, f"{what}.series")
    if not labels:
        raise named.error(f"{what}.series: a series has a name or a label")
    values = fields.get("values")
    text = _text(values, f"{what}.values")
    try:
        return labels, tuple(read_values(text))
    except ValueError as error:
        raise (values or node).error(f"{what}.values: {error}") from error


def _alert(node: Node, what: str) -> AlertCase:
    fields = node.only(("eval_time", "alertname", "exp_alerts"), what)
    name = _text(fields.get("alertname"), f"{what}.alertname")
    if not name:
        raise node.error(f"{what}: alertname is missing")
    expected = []
    for where, item in _numbered(fields.get("exp_alerts"), what, "exp_alerts"):
        own = item.only(("exp_labels", "exp_annotations"), where)
        labels = dict(_texts(own.get("exp_labels"), f"{where}.exp_labels")) | {"alertname": name}
        expected.append((from_mapping(labels), _texts(own.get("exp_annotations"), f"{where}.exp_annotations")))
    return AlertCase(name, _duration(fields.get("eval_time"), f"{what}.eval_time"), tuple(expected), node.line)


def _expr(node: Node, what: str) -> ExprCase:
    fields = node.only(("expr", "eval_time", "exp_samples"), what)
    expected = []
    for where, item in _numbered(fields.get("exp_samples"), what, "exp_samples"):
        own = item.only(("labels", "value"), where)
        labels = _labels(own["labels"], f"{where}.labels") if "labels" in own else ()
        expected.append((labels, _value(own.get("value"), f"{where}.value")))
    expr = _text(fields.get("expr"), f"{what}.expr")
    return ExprCase(expr, _duration(fields.get("eval_time"), f"{what}.eval_time"), tuple(expected), node.line)


def _labels(node: Node, what: str) -> Labels:
    try:
        return read_labels(_text(node, what))
    except ValueError as error:
        raise node.error(f"{what}: {error}") from error


def _value(node: Node | None, what: str) -> float:
    if node is None or node.value is None:
        return 0.0
    try:
        return float(node.string(what).lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        raise node.error(f"{what} is {node.shown()}; it must be a number") from error


def _duration(node: Node | None, what: str) -> float:
    if node is None or node.value is None:
        return 0.0
    duration_ms = parse_duration_ms(node.string(what))
    if duration_ms is None:
        raise node.error(f"{what} is {node.shown()}; {SHAPE}")
    return duration_ms / 1000


def _text(node: Node | None, what: str) -> str:
    return "" if node is None or node.value is None else node.string(what)


def _texts(node: Node | None, what: str) -> Labels:
    if node is None or node.value is None:
        return ()
    return tuple(sorted((name, _text(value, f"{what}.{name}")) for name, value in node.mapping(what).items()))


def _strings(node: Node | None, what: str) -> tuple[str, ...]:
    return tuple(item.string(f"{what}[{index}]") for index, item in enumerate(_items(node, what)))


def _items(node: Node | None, what: str) -> list[Node]:
    return [] if node is None or node.value is None else node.sequence(what)


def _numbered(node: Node | None, what: str, field: str) -> Iterable[tuple[str, Node]]:
    return ((f"{what}.{field}[{index}]", item) for index, item in enumerate(_items(node, f"{what}.{field}")))
