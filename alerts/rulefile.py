"""Reads Prometheus rule files, and says where and why one is not valid.

The format is Prometheus's and nothing more, so that every file loads there unchanged. All problems of a file are
found at once.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from alerts.errors import RuleFileError, TemplateError
from alerts.rule import AlertRule, RecordRule, Rule, RuleFile, RuleGroup
from alerts.template import parse_template
from collector.model.durations import SHAPE, parse_duration_ms
from collector.model.errors import QueryError
from collector.model.labels import Labels
from collector.promql import parse
from collector.signals import DocumentError, Node, parse_document

GROUP_FIELDS = ("name", "interval", "query_offset", "limit", "labels", "rules")
RULE_FIELDS = ("record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations")

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

PACKS_DIR = Path(__file__).parent / "packs"

Value = TypeVar("Value")


def packs() -> tuple[Path, ...]:
    """The rule files that come with Loadline."""
    return tuple(sorted(PACKS_DIR.glob("*.yml")))


def neutral_packs() -> tuple[Path, ...]:
    """The packs as they are written: with signals in place of series. ``packs`` are made of them."""
    return tuple(sorted((PACKS_DIR / "signals").glob("*.yml")))


def load_rule_file(path: Path) -> RuleFile:
    """Read one rule file. Raises RuleFileError, or OSError and UnicodeDecodeError where it cannot be read."""
    return read_rule_file(path.read_text(encoding="utf-8"), str(path))


def read_rule_file(text: str, path: str) -> RuleFile:
    """Read one rule file's text; ``path`` is what errors call it. Raises RuleFileError with every problem found."""
    reader = _Reader()
    groups = reader.file(text, path)
    if reader.problems:
        raise RuleFileError(sorted(reader.problems, key=lambda problem: (problem.line, problem.column)))
    return RuleFile(path, groups, tuple(_duplicates(path, groups)), text)


class _Reader:
    """Goes through a document and keeps going past problems."""

    def __init__(self) -> None:
        self.problems: list[DocumentError] = []

    def file(self, text: str, path: str) -> tuple[RuleGroup, ...]:
        root = self._try(lambda: parse_document(text, path))
        if root is None or root.value is None:
            return ()
        fields = self._fields(root, ("groups",), "rule file")
        if "groups" not in fields or fields["groups"].value is None:
            return ()
        nodes = self._try(lambda: fields["groups"].sequence("groups")) or []
        groups = [self._group(index, node, path) for index, node in enumerate(nodes)]
        self._names_apart(nodes)
        return tuple(group for group in groups if group is not None)

    def _group(self, index: int, node: Node, path: str) -> RuleGroup | None:
        what = f"groups[{index}]"
        fields = self._fields(node, GROUP_FIELDS, what)
        if not isinstance(node.value, dict):
            return None
        name = self._try(lambda: _filled(node.need("name", what), f"{what}.name"))
        if name is None:
            return None
        what = f'group "{name}"'
        interval_s = self._duration(fields.get("interval"), f"{what}: interval")
        shared = self._labels(fields.get("labels"), f"{what}: labels", templates=False)
        rules = self._rules(fields.get("rules"), what, shared)
        return RuleGroup(
            name=name,
            file=path,
            rules=rules,
            interval_s=interval_s or None,
            limit=self._limit(fields.get("limit"), f"{what}: limit"),
            query_offset_s=self._duration(fields.get("query_offset"), f"{what}: query_offset"),
            line=node.line,
        )

    def _rules(self, node: Node | None, what: str, shared: Labels) -> tuple[Rule, ...]:
        if node is None or node.value is None:
            return ()
        nodes = self._try(lambda: node.sequence(f"{what}: rules")) or []
        rules = [self._rule(f"{what}: rule {number}", item, shared) for number, item in enumerate(nodes, start=1)]
        return tuple(rule for rule in rules if rule is not None)

    def _rule(self, what: str, node: Node, shared: Labels) -> Rule | None:
        fields = self._fields(node, RULE_FIELDS, what)
        if not fields:
            return None
        kinds = [kind for kind in ("record", "alert") if kind in fields]
        if len(kinds) != 1:
            found = "both" if kinds else "neither"
            self.problems.append(node.error(f"{what}: has {found} of record and alert; a rule has one of them"))
            return None
        kind = kinds[0]
        name = self._try(lambda: _filled(fields[kind], f"{what}: {kind}"))
        if name is None:
            return None
        what = f'{kind} "{name}"'
        expr = self._expr(node, what)
        return (
            self._alert(name, expr, fields, node, shared)
            if kind == "alert"
            else self._record(name, expr, fields, node, shared)
        )

    def _alert(self, name: str, expr: str, fields: dict[str, Node], node: Node, shared: Labels) -> AlertRule:
        what = f'alert "{name}"'
        own = self._labels(fields.get("labels"), f"{what}: labels", templates=True)
        return AlertRule(
            name=name,
            expr=expr,
            for_s=self._duration(fields.get("for"), f"{what}: for"),
            keep_firing_for_s=self._duration(fields.get("keep_firing_for"), f"{what}: keep_firing_for"),
            labels=_over(shared, own),
            annotations=self._labels(fields.get("annotations"), f"{what}: annotations", templates=True),
            line=node.line,
            **_expr_place(fields),
        )

    def _record(self, name: str, expr: str, fields: dict[str, Node], node: Node, shared: Labels) -> RecordRule:
        what = f'record "{name}"'
        if not _METRIC_NAME.fullmatch(name):
            self.problems.append(
                fields["record"].error(f"{what}: no metric can be called so; a name looks like job:requests:rate5m")
            )
        for field in ("for", "keep_firing_for", "annotations"):
            if field in fields:
                self.problems.append(fields[field].error(f"{what}: {field} is for alerts only"))
        own = self._labels(fields.get("labels"), f"{what}: labels", templates=False)
        return RecordRule(name=name, expr=expr, labels=_over(shared, own), line=node.line, **_expr_place(fields))

    def _expr(self, node: Node, what: str) -> str:
        expr = self._try(lambda: node.need("expr", what))
        if expr is None:
            return ""
        text = self._try(lambda: expr.string(f"{what}: expr"))
        if text is None:
            return ""
        try:
            parse(text)
        except QueryError as error:
            self.problems.append(expr.error(f"{what}: expr does not parse: {error}"))
        return text

    def _duration(self, node: Node | None, what: str) -> float:
        if node is None or node.value is None:
            return 0.0
        text = self._try(lambda: node.string(what))
        if text is None:
            return 0.0
        duration_ms = parse_duration_ms(text)
        if duration_ms is None:
            self.problems.append(node.error(f'{what} is "{text}"; {SHAPE}'))
            return 0.0
        return duration_ms / 1000

    def _limit(self, node: Node | None, what: str) -> int | None:
        if node is None or node.value is None:
            return None
        if isinstance(node.value, bool) or not isinstance(node.value, int) or node.value < 0:
            self.problems.append(node.error(f"{what} is {node.shown()}; it must be a whole number, 0 for no limit"))
            return None
        return node.value or None

    def _labels(self, node: Node | None, what: str, *, templates: bool) -> Labels:
        """Labels or annotations; annotation names follow the same rules as label names."""
        if node is None or node.value is None:
            return ()
        fields = self._try(lambda: node.mapping(what)) or {}
        for key in node.keys:
            if not _LABEL_NAME.fullmatch(key.text) or key.text == "__name__":
                self.problems.append(key.error(f'{what}: "{key.text}" cannot be a label; a name looks like severity'))
        pairs = [(name, self._text(value, f"{what}.{name}", templates=templates)) for name, value in fields.items()]
        return tuple(sorted(pairs))

    def _text(self, node: Node, what: str, *, templates: bool) -> str:
        text = "" if node.value is None else self._try(lambda: node.string(what)) or ""
        if templates:
            self._template(text, node, what)
        return text

    def _template(self, text: str, node: Node, what: str) -> None:
        try:
            parse_template(text)
        except TemplateError as error:
            self.problems.append(node.error(f"{what}: {error}"))

    def _names_apart(self, nodes: Iterable[Node]) -> None:
        seen: set[str] = set()
        for node in nodes:
            name = node.value.get("name") if isinstance(node.value, dict) else None
            if name is None:
                continue
            if name.text in seen:
                self.problems.append(name.error(f'group "{name.text}" appears twice in this file'))
            seen.add(name.text)

    def _fields(self, node: Node, allowed: tuple[str, ...], what: str) -> dict[str, Node]:
        fields = self._try(lambda: node.mapping(what)) or {}
        for key in node.keys:
            if key.text not in allowed:
                reason = f'field "{key.text}" is unknown; allowed are {", ".join(allowed)}'
                self.problems.append(key.error(f"{what}: {reason}"))
        return {name: value for name, value in fields.items() if name in allowed}

    def _try(self, read: Callable[[], Value]) -> Value | None:
        """The value, or None after its problem was noted."""
        try:
            return read()
        except DocumentError as error:
            self.problems.append(error)
            return None


def _expr_place(fields: dict[str, Node]) -> dict[str, int]:
    expr = fields.get("expr")
    return {} if expr is None else {"expr_line": expr.line, "expr_column": expr.column}


def _filled(node: Node, what: str) -> str:
    text = node.string(what)
    if not text:
        raise node.error(f"{what} is empty; it must be a text")
    return text


def _over(shared: Labels, own: Labels) -> Labels:
    return tuple(sorted((dict(shared) | dict(own)).items()))


def _duplicates(path: str, groups: tuple[RuleGroup, ...]) -> Iterable[str]:
    """Rules of one file with the same name and labels: their series or alerts would overwrite each other."""
    seen: dict[tuple[str, Labels], int] = {}
    for group in groups:
        for rule in group.rules:
            first = seen.setdefault((rule.name, rule.labels), rule.line)
            if first != rule.line:
                yield (
                    f'{path}:{rule.line}:1: "{rule.name}" has the same name and labels as the rule in line {first}; '
                    "they may overwrite each other"
                )
