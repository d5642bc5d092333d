"""Engine-neutral rules to plain Prometheus rules for given dialects.

A neutral rule file is a rule file whose expressions and annotations may hold ``${builder signal key=value ...}``, where
the builder is one of ``collector.signals.Vocabulary``'s: ``${quantile ttft q=0.95 window=5m by=pool}``. A rule whose
signals no dialect has, or that names other engines' series, is left out, and why is said.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alerts.emit import emit
from alerts.rule import is_recorded
from alerts.rulefile import read_rule_file
from collector.model.errors import QueryError
from collector.promql import VectorSelector, parse, selectors
from collector.signals import Node, SignalAbsent, SignalError, Vocabulary, load_dialects, parse_document

_PLACE = re.compile(r"\$\{\s*(\w+)\s+(\S+)((?:\s+\w+=[^\s}]*)*)\s*\}")
_OPEN = re.compile(r"\$\{")

MOST_NAMED = 4
"""Of the dialects that have what is missing."""

Builder = Callable[[Vocabulary, str, dict[str, Any]], str]

BUILDERS: Mapping[str, Builder] = {
    "quantile": lambda vocabulary, signal, more: vocabulary.quantile(signal, float(more.pop("q")), **more),
    "rate": lambda vocabulary, signal, more: vocabulary.rate(signal, **more),
    "increase": lambda vocabulary, signal, more: vocabulary.increase(signal, **more),
    "mean": lambda vocabulary, signal, more: vocabulary.mean(signal, **more),
    "gauge": lambda vocabulary, signal, more: vocabulary.gauge(signal, **more),
    "fraction_below": lambda vocabulary, signal, more: vocabulary.fraction_below(
        signal, float(more.pop("threshold")), **more
    ),
    "ratio": lambda vocabulary, signal, more: vocabulary.ratio(*signal.split("/", maxsplit=1), **more),
}


@dataclass(slots=True)
class Rendered:
    """Groups as ``emit`` takes them, and (rule, reason) of what was left out."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)


def render(text: str, path: str, vocabulary: Vocabulary) -> Rendered:
    """Plain rules of one neutral file. Raises DocumentError and, where what comes out is not valid, RuleFileError."""
    rendered = Rendered()
    known = frozenset[str]().union(*(dialect.names() for dialect in vocabulary.dialects))
    root = parse_document(text, path)
    for group in root.need("groups", "rule file").sequence("groups"):
        fields = _plain(group)
        kept = []
        for node, rule in zip(group.need("rules", "group").sequence("rules"), fields["rules"], strict=True):
            name = str(rule.get("alert") or rule.get("record"))
            try:
                expr = _filled(node.need("expr", name), str(rule["expr"]), vocabulary)
            except SignalAbsent as absent:
                having = [dialect.engine for dialect in load_dialects() if absent.signal in dialect.signals]
                rendered.left_out.append((name, f"{absent}{_elsewhere(having)}"))
                continue
            names = {one.name for one in _selectors(node, expr)}
            foreign = sorted(name for name in names - known if not is_recorded(name))
            if foreign:
                having = [dialect.engine for dialect in load_dialects() if dialect.names().issuperset(foreign)]
                reason = f"no dialect asked for has {', '.join(foreign)}{_elsewhere(having)}"
                rendered.left_out.append((name, reason))
                continue
            kept.append(rule | {"expr": expr} | _annotations(node, rule, expr, vocabulary))
        if kept:
            rendered.groups.append(fields | {"rules": kept})
    read_rule_file(emit(rendered.groups), path)
    return rendered


def _elsewhere(having: Sequence[str]) -> str:
    """In words, the dialects that could be asked for too; nothing where there is none."""
    return f"; add --dialect {' or '.join(having[:MOST_NAMED])}" if having else ""


def _selectors(node: Node, expr: str) -> tuple[VectorSelector, ...]:
    try:
        return selectors(parse(expr))
    except QueryError as error:
        raise node.error(f"expr does not parse once rendered: {error}") from error


def _annotations(node: Node, rule: dict[str, Any], expr: str, vocabulary: Vocabulary) -> dict[str, Any]:
    """Annotations filled in; a query for signals that are not there becomes the rule's own expression."""
    filled = {}
    for name, text in (rule.get("annotations") or {}).items():
        try:
            filled[name] = _filled(node, str(text), vocabulary)
        except SignalAbsent:
            filled[name] = expr
    return {"annotations": filled} if filled else {}


def _filled(node: Node, text: str, vocabulary: Vocabulary) -> str:
    found = list(_PLACE.finditer(text))
    if len(found) != len(_OPEN.findall(text)):
        raise node.error("a placeholder looks like ${quantile ttft q=0.95 window=5m by=pool}")
    for place in reversed(found):
        text = text[: place.start()] + _built(node, place, vocabulary) + text[place.end() :]
    return text


def _built(node: Node, place: re.Match[str], vocabulary: Vocabulary) -> str:
    builder, signal, rest = place.groups()
    if builder not in BUILDERS:
        raise node.error(f"{place[0]}: no builder is called {builder}; allowed are {', '.join(BUILDERS)}")
    more: dict[str, Any] = dict(pair.split("=", maxsplit=1) for pair in rest.split())
    if "by" in more:
        more["by"] = tuple(label for label in more["by"].split(",") if label)
    try:
        return BUILDERS[builder](vocabulary, signal, more)
    except SignalAbsent:
        raise
    except (SignalError, TypeError, KeyError, ValueError) as error:
        raise node.error(f"{place[0]}: {error}") from error


def _plain(node: Node) -> Any:
    """A node's value without places."""
    if isinstance(node.value, dict):
        return {key: _plain(value) for key, value in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    return node.text.strip() if isinstance(node.value, str) else node.value
