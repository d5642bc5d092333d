"""Take fields out of a configuration file, gathering every fault with its place instead of ending at the first.

A fault reads ``file:line:column: key: found; allowed``.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from collector.model.errors import QueryError
from collector.promql.durations import parse_duration_ms
from collector.signals.document import Node

Value = TypeVar("Value")

_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(|B|KB|KiB|MB|MiB|GB|GiB)")
_SIZES_BYTES = {
    "": 1,
    "B": 1,
    "KB": 1 << 10,
    "KiB": 1 << 10,
    "MB": 1 << 20,
    "MiB": 1 << 20,
    "GB": 1 << 30,
    "GiB": 1 << 30,
}
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Faults:
    """What is wrong with a file, in the order in which it was found, and ``remarks`` on what is only not heeded."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.remarks: list[str] = []

    def add(self, node: Node, message: str) -> None:
        """Note a fault at a place."""
        self.lines.append(f"{node.path}:{node.line}:{node.column}: {message}")

    def remark(self, node: Node, message: str) -> None:
        """Note something of a place that does no harm."""
        self.remarks.append(f"{node.path}:{node.line}: {message}")


class Fields:
    """The fields of one mapping. A field that is absent, null or faulty gives the reader's default."""

    def __init__(self, node: Node, subject: str, allowed: Sequence[str], faults: Faults) -> None:
        self.node = node
        self.faults = faults
        self._subject = subject
        self._fields: dict[str, Node] = {}
        if node.value is None:
            return
        if not isinstance(node.value, dict):
            faults.add(node, f"{subject}: {node.shown()}; it is a mapping of {', '.join(allowed)}")
            return
        for key in node.keys:
            if key.value not in allowed:
                faults.add(key, f'{subject}: "{key.text}" is not understood; allowed: {", ".join(allowed)}')
            elif node.value[key.value].value is not None:
                self._fields[key.value] = node.value[key.value]

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def at(self, key: str) -> Node:
        """The node of a field, or the mapping's own where it is absent."""
        return self._fields.get(key, self.node)

    def fault(self, key: str, message: str) -> None:
        """Note a fault of a field, or of the mapping where the field is absent."""
        self.faults.add(self.at(key), f"{key}: {message}")

    def read(self, key: str, default: Value, reader: Callable[[str], Value]) -> Value:
        """A field's text turned into a value by ``reader``, whose ValueError says what is allowed."""
        return self._convert(key, self._fields[key], default, reader) if key in self._fields else default

    def text(self, key: str, default: str = "") -> str:
        """A text."""
        return self.read(key, default, str)

    def duration_s(self, key: str, default_s: float) -> float:
        """Seconds of a duration such as ``1m30s``."""
        return self.read(key, default_s, duration_s)

    def boolean(self, key: str, default: bool) -> bool:
        """True or false."""
        return self.read(key, default, _boolean)

    def count(self, key: str) -> int | None:
        """A number of things; None where it is absent or 0, which both mean no limit."""
        return self.read(key, 0, _count) or None

    def size_bytes(self, key: str) -> int | None:
        """Bytes of a size such as ``10MB``; None where it is absent or 0."""
        return self.read(key, 0, _size_bytes) or None

    def items(self, key: str) -> list[Node]:
        """The items of a list."""
        node = self._fields.get(key)
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.faults.add(node, f"{key}: {node.shown()}; it is a list")
            return []
        return node.value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(self._convert(key, item, "", str) for item in self.items(key))

    def within(self, key: str, allowed: Sequence[str]) -> "Fields | None":
        """The fields of a mapping inside this one, or None where it is absent."""
        return Fields(self._fields[key], key, allowed, self.faults) if key in self._fields else None

    def each(self, key: str, allowed: Sequence[str]) -> Iterator["Fields"]:
        """The fields of each mapping of a list."""
        for item in self.items(key):
            yield Fields(item, key, allowed, self.faults)

    def pairs(self, key: str) -> Iterator[tuple[Node, Node]]:
        """The names and values of a mapping with names of its own."""
        node = self._fields.get(key)
        if node is None:
            return
        if not isinstance(node.value, dict):
            self.faults.add(node, f"{key}: {node.shown()}; it is a mapping of names to values")
            return
        for name in node.keys:
            yield name, node.value[name.value]

    def labels(self, key: str) -> dict[str, str]:
        """A mapping of label names to values."""
        found: dict[str, str] = {}
        for name, value in self.pairs(key):
            if not _LABEL_NAME.fullmatch(name.text):
                self.faults.add(name, f'{key}: "{name.text}"; a label name is of letters, digits and _')
            else:
                found[name.text] = self._convert(name.text, value, "", str)
        return found

    def named(self, key: str) -> dict[str, str]:
        """A mapping of any names to texts."""
        return {name.text: self._convert(name.text, value, "", str) for name, value in self.pairs(key)}

    def _convert(self, key: str, node: Node, default: Value, reader: Callable[[str], Value]) -> Value:
        if isinstance(node.value, dict | list) or node.value is None:
            self.faults.add(node, f"{key}: {node.shown()}; it is one value")
            return default
        try:
            return reader(node.text)
        except ValueError as error:
            self.faults.add(node, f'{key}: "{node.text}"; {error}')
            return default


def duration_s(text: str) -> float:
    """Seconds of ``1m30s``; ValueError for anything else and for nothing."""
    try:
        duration_ms = parse_duration_ms(text)
    except QueryError as error:
        raise ValueError("a duration looks like 5s or 1m30s") from error
    if duration_ms <= 0:
        raise ValueError("a duration is longer than nothing")
    return duration_ms / 1000


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError("it may be true or false")
    return text.lower() == "true"


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ValueError("it is a number of things, 0 for no limit")
    return int(text)


def _size_bytes(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError("a size looks like 10MB, 512KB or 0 for no limit of yours")
    return round(float(match[1]) * _SIZES_BYTES[match[2]])
