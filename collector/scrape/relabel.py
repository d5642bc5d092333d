"""Relabelling: rules that change, keep or drop a label set, as Prometheus has them.

Source: Prometheus ``model/relabel/relabel.go``. Where 2.x and 3.x differ, 3.x is followed: ``.`` matches newlines.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from collector.model.go_regex import GoPattern, compile_go_regex
from collector.scrape.document import Fields

KEYS = ("source_labels", "separator", "regex", "modulus", "target_label", "replacement", "action")
ANYTHING, WHOLE = "(.*)", "$1"

_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")
_TEMPLATE = re.compile(r"(?:(?:[a-zA-Z_]|\$(?:\{\w+\}|\w+))+\w*)+")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class Rule:
    """One step of relabelling. ``regex`` is anchored at both ends; raises ``re.error`` where it does not compile."""

    action: str = "replace"
    source_labels: tuple[str, ...] = ()
    separator: str = ";"
    regex: str = ANYTHING
    target_label: str = ""
    replacement: str = WHOLE
    modulus: int = 0
    _pattern: GoPattern = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_pattern", compile_go_regex(self.regex))

    def match(self, text: str) -> re.Match[str] | None:
        """The whole of ``text`` against the regular expression."""
        return self._pattern.fullmatch(text)

    def source(self, labels: Mapping[str, str]) -> str:
        """Values of the source labels, joined."""
        return self.separator.join(labels.get(name, "") for name in self.source_labels)


def relabel(labels: Mapping[str, str], rules: Iterable[Rule]) -> dict[str, str] | None:
    """``labels`` after every rule, without empty ones; None once a rule drops them."""
    changed = {name: value for name, value in labels.items() if value}
    for rule in rules:
        if not ACTIONS[rule.action](rule, changed):
            return None
    return changed


def expand(template: str, match: re.Match[str]) -> str:
    """``template`` with ``$1``, ``${name}`` and ``$$`` filled in, as Go's ``Regexp.Expand``; unknown ones are empty."""

    def reference(found: re.Match[str]) -> str:
        if found[1]:
            return "$"
        name: str = found[2] or found[3]
        is_number = name.isascii() and name.isdigit() and (name == "0" or name[0] != "0")
        try:
            return match[int(name) if is_number else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(reference, template)


def _replace(rule: Rule, labels: dict[str, str]) -> bool:
    match = rule.match(rule.source(labels))
    if match is not None:
        target = expand(rule.target_label, match)
        if _NAME.fullmatch(target):
            _set(labels, target, expand(rule.replacement, match))
    return True


def _hashmod(rule: Rule, labels: dict[str, str]) -> bool:
    digest = hashlib.md5(rule.source(labels).encode(), usedforsecurity=False).digest()
    _set(labels, rule.target_label, str(int.from_bytes(digest[8:]) % rule.modulus))
    return True


def _labelmap(rule: Rule, labels: dict[str, str]) -> bool:
    for name, value in sorted(labels.items()):
        match = rule.match(name)
        if match is not None:
            _set(labels, expand(rule.replacement, match), value)
    return True


def _labels_where(matches: bool) -> Callable[[Rule, dict[str, str]], bool]:
    def drop(rule: Rule, labels: dict[str, str]) -> bool:
        for name in [name for name in labels if (rule.match(name) is not None) == matches]:
            del labels[name]
        return True

    return drop


def _cased(change: Callable[[str], str]) -> Callable[[Rule, dict[str, str]], bool]:
    def cased(rule: Rule, labels: dict[str, str]) -> bool:
        _set(labels, rule.target_label, change(rule.source(labels)))
        return True

    return cased


def _set(labels: dict[str, str], name: str, value: str) -> None:
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


ACTIONS: dict[str, Callable[[Rule, dict[str, str]], bool]] = {
    "replace": _replace,
    "keep": lambda rule, labels: rule.match(rule.source(labels)) is not None,
    "drop": lambda rule, labels: rule.match(rule.source(labels)) is None,
    "keepequal": lambda rule, labels: labels.get(rule.target_label, "") == rule.source(labels),
    "dropequal": lambda rule, labels: labels.get(rule.target_label, "") != rule.source(labels),
    "hashmod": _hashmod,
    "labelmap": _labelmap,
    "labeldrop": _labels_where(True),
    "labelkeep": _labels_where(False),
    "lowercase": _cased(str.lower),
    "uppercase": _cased(str.upper),
}
"""What each action does to the labels; False drops them."""

_TARGETED = ("replace", "keepequal", "dropequal", "hashmod", "lowercase", "uppercase")
_USES: dict[str, tuple[str, ...]] = {
    "keepequal": ("source_labels", "separator", "target_label"),
    "dropequal": ("source_labels", "separator", "target_label"),
    "labeldrop": ("regex",),
    "labelkeep": ("regex",),
    "lowercase": ("source_labels", "separator", "regex", "target_label"),
    "uppercase": ("source_labels", "separator", "regex", "target_label"),
}
"""The fields that an action allows, of those that Prometheus refuses others for."""


def read_rules(fields: Fields, key: str) -> tuple[Rule, ...]:
    """The rules of a list of relabel configurations; faults are noted and the rules concerned left out."""
    return tuple(rule for one in fields.each(key, KEYS) for rule in _read_rule(one))


def _read_rule(fields: Fields) -> Iterator[Rule]:
    known = len(fields.faults.lines)
    action = fields.read("action", "replace", _action)
    sources = fields.texts("source_labels")
    target = fields.text("target_label")
    replacement = fields.text("replacement", WHOLE)
    modulus = fields.count("modulus") or 0
    regex = fields.read("regex", ANYTHING, _regex)
    for key in KEYS[:-1]:
        if key in fields and key not in _USES.get(action, KEYS):
            fields.fault(key, f"is set; {action} takes {', '.join(_USES[action])}")
    if action in _TARGETED and not target:
        fields.fault("target_label", f"is absent; {action} needs one")
    elif target and not (_TEMPLATE if action == "replace" else _NAME).fullmatch(target):
        fields.fault("target_label", f'"{target}"; a label name is of letters, digits and _')
    if action == "labelmap" and not _TEMPLATE.fullmatch(replacement):
        fields.fault("replacement", f'"{replacement}"; labelmap makes label names, of letters, digits and _')
    if action == "hashmod" and not modulus:
        fields.fault("modulus", "is absent; hashmod needs one above 0")
    if len(fields.faults.lines) == known:
        yield Rule(action, sources, fields.text("separator", ";"), regex, target, replacement, modulus)


def _action(text: str) -> str:
    if text.lower() not in ACTIONS:
        raise ValueError(f"allowed: {', '.join(ACTIONS)}")
    return text.lower()


def _regex(text: str) -> str:
    try:
        compile_go_regex(text)
    except re.error as error:
        raise ValueError(f"a regular expression is expected: {error}") from error
    return text
