"""The beginning of a file, looked at for what it is."""

import re
from dataclasses import dataclass
from pathlib import Path

import orjson

from planner.readers.lines import first_bytes

_KEY = re.compile(rb'"([A-Za-z_][\w .-]{0,60})"\s*:')
_LOOKED_AT = 20


@dataclass(frozen=True, slots=True)
class Head:
    """What a file begins with: its ``text`` and ``lines`` (the last one may be cut), ``columns`` of a CSV header.

    ``keys`` are those of its JSON objects.

    ``document`` is whether the whole file is one JSON value rather than one a line.
    """

    text: bytes
    lines: tuple[bytes, ...]
    columns: tuple[str, ...]
    keys: frozenset[str]
    document: bool

    def has(self, *keys: str) -> bool:
        """Whether the objects have all these keys."""
        return self.keys.issuperset(keys)


def head_of(path: Path) -> Head:
    """Look at the first 64 KiB of the plain content. Raises TraceError when the file cannot be read."""
    start = first_bytes(path)
    lines = tuple(line for line in start.split(b"\n")[:_LOOKED_AT] if line.strip())
    first = lines[0].strip() if lines else b""
    keys: set[str] = set()
    for line in lines:
        value = _json(line)
        if isinstance(value, dict):
            keys |= _inner(value)
    begins_json = first[:1] in (b"{", b"[")
    document = begins_json and _json(first) is None and b"\n" in start
    document |= first[:1] == b"[" and (not isinstance(_json(first), list) or len(lines) == 1)
    if not keys and begins_json:
        keys = {key.decode() for key in _KEY.findall(start)}
    columns = () if begins_json else tuple(n.strip().strip('"') for n in first.decode("utf-8", "replace").split(","))
    return Head(start, lines, columns, frozenset(keys), document)


def _inner(found: dict[str, object]) -> set[str]:
    """The keys of an object or, where those are numbers, of the objects in it."""
    if not found or not all(key.isdecimal() for key in found):
        return set(found)
    return {key for value in found.values() if isinstance(value, dict) for key in value}


def _json(line: bytes) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
