"""label_replace, label_join, and the order of sort_by_label."""

import re
from collections.abc import Callable, Sequence

from collector.model.errors import QueryError
from collector.model.go_regex import compile_go_regex
from collector.model.labels import Labels, from_mapping, get

_LEGACY = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_REFERENCE = re.compile(r"\$(?:(\$)|\{(\w+)\}|(\w+))")
_CHUNKS = re.compile(r"\d+|\D+")


def check_label_name(name: str, legacy: bool, what: str) -> None:
    """Raise QueryError unless ``name`` can name a label; ``legacy`` allows only Prometheus 2.x's names."""
    if not name or "\ufffd" in name or (legacy and not _LEGACY.fullmatch(name)):
        raise QueryError(f'invalid {what} label name "{name}"', kind="execution")


def replacer(target: str, replacement: str, source: str, pattern: str) -> Callable[[Labels], Labels | None]:
    """``label_replace``: set ``target`` to the expansion of ``replacement`` where all of ``source`` matches."""
    try:
        regex = compile_go_regex(pattern)
    except re.error as error:
        raise QueryError(f'invalid regular expression in label_replace(): "{pattern}": {error}', "execution") from error

    def replace(labels: Labels) -> Labels | None:
        match = regex.fullmatch(get(labels, source))
        return None if match is None else _with(labels, target, _expand(replacement, match))

    return replace


def joiner(target: str, separator: str, sources: Sequence[str]) -> Callable[[Labels], Labels]:
    """``label_join``: set ``target`` to the values of ``sources`` with ``separator`` between them."""
    return lambda labels: _with(labels, target, separator.join(get(labels, source) for source in sources))


def natural_key(value: str) -> list[tuple[int, int, str]]:
    """Sort key in which ``a9`` comes before ``a10``."""
    return [(0, int(chunk), "") if chunk.isdigit() else (1, 0, chunk) for chunk in _CHUNKS.findall(value)]


def _with(labels: Labels, name: str, value: str) -> Labels:
    return from_mapping(dict(labels) | {name: value})


def _expand(template: str, match: re.Match[str]) -> str:
    def group(reference: re.Match[str]) -> str:
        if reference[1]:
            return "$"
        name = reference[2] or reference[3]
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(group, template)
