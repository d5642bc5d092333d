"""YAML that remembers where each value stood, so that an error can say file, line and column.

Used for dialects here and for rule files by ``alerts``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml

from collector.signals.errors import DocumentError

MAX_DEPTH = 100
"""Mappings and lists inside each other."""

_FAST: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a document with its place; ``line`` and ``column`` are 1-based.

    ``value`` is a scalar (str, int, float, bool, None), a ``dict[str, Node]`` or a ``list[Node]``. ``text`` is the
    scalar as it was written. ``keys`` holds a mapping's keys with their places.
    """

    path: str
    line: int
    column: int
    value: Any
    text: str = ""
    keys: tuple["Node", ...] = ()

    def error(self, reason: str) -> DocumentError:
        """An error about this value."""
        return DocumentError(self.path, self.line, self.column, reason)

    def mapping(self, what: str) -> dict[str, "Node"]:
        """The value as a mapping; ``what`` names it in the error."""
        if not isinstance(self.value, dict):
            raise self.error(f"{what} is {self.shown()}; it must be a mapping")
        return self.value

    def sequence(self, what: str) -> list["Node"]:
        """The value as a list."""
        if not isinstance(self.value, list):
            raise self.error(f"{what} is {self.shown()}; it must be a list")
        return self.value

    def string(self, what: str) -> str:
        """The value as the text that was written (``1`` gives ``"1"``); neither empty, nor a list or mapping."""
        if isinstance(self.value, dict | list) or self.value is None:
            raise self.error(f"{what} is {self.shown()}; it must be a text")
        return self.text

    def number(self, what: str) -> float:
        """The value as a finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.error(f"{what} is {self.shown()}; it must be a number")
        return float(self.value)

    def boolean(self, what: str) -> bool:
        """The value as true or false."""
        if not isinstance(self.value, bool):
            raise self.error(f"{what} is {self.shown()}; it must be true or false")
        return self.value

    def only(self, allowed: Iterable[str], what: str) -> dict[str, "Node"]:
        """The value as a mapping that has no other fields than those ``allowed``."""
        fields = self.mapping(what)
        known = tuple(allowed)
        for key in self.keys:
            if key.value not in known:
                raise key.error(f"{what}: field {key.text!r} is unknown; allowed are {', '.join(known)}")
        return fields

    def need(self, field: str, what: str) -> "Node":
        """Field ``field`` of a mapping, which must be there."""
        fields = self.mapping(what)
        if field not in fields:
            raise self.error(f"{what}: field {field!r} is missing")
        return fields[field]

    def shown(self) -> str:
        """The value as an error shows it."""
        if isinstance(self.value, dict):
            return "a mapping"
        if isinstance(self.value, list):
            return "a list"
        return "empty" if self.value is None else f'"{self.text}"'


def parse_document(text: str, path: str) -> Node:
    """Read one YAML document; ``path`` is what errors call it. Raises DocumentError."""
    try:
        _refuse_depth(text, path)
        return _read(text, path, _FAST)
    except (yaml.YAMLError, UnicodeEncodeError):
        return _read_telling(text, path)


def _read(text: str, path: str, kind: type[yaml.SafeLoader]) -> Node:
    loader = kind(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return Node(path, 1, 1, None)
        return _Nodes(loader, path).node(root, frozenset())
    finally:
        loader.dispose()


def _read_telling(text: str, path: str) -> Node:
    """What libyaml refuses once more, by PyYAML's own parser: it tells better where something is wrong, and what."""
    try:
        return _read(text, path, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line, column = _place(error.problem_mark or error.context_mark)
        raise DocumentError(path, line, column, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise DocumentError(path, 1, 1, f"not YAML: {error}") from error
    except RecursionError as error:
        raise DocumentError(path, 1, 1, "nested too deeply to be read") from error


def _place(mark: Any) -> tuple[int, int]:
    """Line and column of one of PyYAML's or libyaml's marks, from 1."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _refuse_depth(text: str, path: str) -> None:
    """Events come one by one, whatever the depth; libyaml puts nodes together on the stack, which ends the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_FAST):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                line, column = _place(event.start_mark)
                raise DocumentError(path, line, column, f"nested too deeply: more than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Nodes:
    """Turns PyYAML's nodes into ours; what aliases share is turned once, however often they name it."""

    def __init__(self, loader: yaml.SafeLoader, path: str) -> None:
        self._loader = loader
        self._path = path
        self._known: dict[int, Node] = {}

    def node(self, raw: yaml.Node, above: frozenset[int]) -> Node:
        line, column = raw.start_mark.line + 1, raw.start_mark.column + 1
        if id(raw) in above:
            raise DocumentError(self._path, line, column, "an alias refers to the value that holds it")
        known = self._known.get(id(raw))
        if known is None:
            known = self._known[id(raw)] = self._turned(raw, line, column, above | {id(raw)})
        return known

    def _turned(self, raw: yaml.Node, line: int, column: int, inside: frozenset[int]) -> Node:
        if isinstance(raw, yaml.MappingNode):
            return self._mapping(raw, line, column, inside)
        if isinstance(raw, yaml.SequenceNode):
            return Node(self._path, line, column, [self.node(item, inside) for item in raw.value])
        try:
            value = self._loader.construct_object(raw, deep=True)
        except ValueError as error:
            raise DocumentError(self._path, line, column, f'"{raw.value}" cannot be read: {error}') from error
        if value is not None and not isinstance(value, str | int | float | bool):
            value = raw.value
        return Node(self._path, line, column, value, text=raw.value)

    def _mapping(self, raw: yaml.MappingNode, line: int, column: int, inside: frozenset[int]) -> Node:
        fields: dict[str, Node] = {}
        keys = []
        for raw_key, raw_value in raw.value:
            key = self.node(raw_key, inside)
            if isinstance(key.value, dict | list):
                raise key.error("a field's name must be a text")
            if key.text in fields:
                raise key.error(f"field {key.text!r} appears twice")
            fields[key.text] = self.node(raw_value, inside)
            keys.append(Node(self._path, key.line, key.column, key.text, text=key.text))
        return Node(self._path, line, column, fields, keys=tuple(keys))
