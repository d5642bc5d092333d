"""Our own trace file: a header object, then one request a line with what is known of it.

Absent means that the source did not say. ``planner.traces.export`` writes it; reading gives the same trace back. A file
without the header is read too, when its lines have ``arrival_ns``: somebody's own JSONL.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from planner.errors import TraceError
from planner.readers.lines import BadRow
from planner.readers.objects import Object, object_chunks
from planner.readers.row import Chunk, Row
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.readers.values import MAX_HASH, time_ns, tokens_or_none
from planner.traces.trace import FORMAT_VERSION, OPTIONAL_COLUMNS, Flag, Quality, ReadCounts, TraceHeader

FORMAT_NAME = "loadline-trace"
_PLAIN = frozenset({"row_id", "src_line", "arrival_ns", "quality", "input_tokens", "output_tokens", "flags"})
_HEADER_TEXTS = ("source", "source_sha256", "reader", "zone")
_HEADER_NUMBERS = ("reader_version", "origin_ns", "resolution_ns")
_MAX_INT = 2**63 - 1


def _chunks(source: Source) -> Iterator[Chunk]:
    return object_chunks(source, _row, _header)


def _header(found: Object, source: Source) -> bool:
    """Take the header object in; whether it was one. Raises TraceError when it is of another version or no header."""
    if found.get("format") != FORMAT_NAME:
        return False
    if found.get("version") != FORMAT_VERSION:
        raise TraceError(
            f"{source.path}: {FORMAT_NAME} version {found.get('version')!r}; this reader knows {FORMAT_VERSION}"
        )
    texts = {name: found.get(name) for name in _HEADER_TEXTS}
    numbers = {name: found.get(name) for name in _HEADER_NUMBERS}
    transforms = found.get("transforms", [])
    for name, kind, values in (("text", str, texts), ("a whole number", int, numbers)):
        for key, value in values.items():
            if not isinstance(value, kind) or isinstance(value, bool):
                raise TraceError(f"{source.path}: header field {key} is {value!r}; it must be {name}")
    if not isinstance(transforms, list) or not all(isinstance(one, dict) for one in transforms):
        raise TraceError(f"{source.path}: header field transforms must be a list of objects")
    counts = ReadCounts(0, 0, 0, 0, 0)
    source.origin = TraceHeader(**texts, **numbers, counts=counts, transforms=tuple(transforms))  # type: ignore[arg-type]
    return True


def _row(found: Object, source: Source) -> Row:
    unknown = found.keys() - _PLAIN - OPTIONAL_COLUMNS.keys()
    if unknown:
        raise BadRow(f"unknown_{sorted(unknown)[0][:40]}")
    arrival = found.get("arrival_ns")
    return Row(
        None if arrival is None else time_ns(arrival, 1, negative=True),
        tokens_or_none(found, "input_tokens"),
        tokens_or_none(found, "output_tokens"),
        {name: _checked(name, value) for name, value in found.items() if name not in _PLAIN},
        _named(Flag, found.get("flags", [])),
        _quality(found.get("quality", "exact")),
        row_id=_number("row_id", found["row_id"]) if "row_id" in found else None,
        src_line=_number("src_line", found["src_line"]) if "src_line" in found else None,
    )


def _checked(name: str, value: object) -> object:
    kind = OPTIONAL_COLUMNS[name]
    if value is None:
        return None
    if kind == "int64":
        return _number(name, value)
    if kind == "float64" and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind == "object" and isinstance(value, str):
        return value
    if kind == "object" and name in ("extra", "messages"):
        return orjson.dumps(value).decode()
    if kind == "ragged" and isinstance(value, list) and all(type(n) is int and 0 <= n <= MAX_HASH for n in value):
        return value
    raise BadRow(f"bad_{name}")


def _number(name: str, value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_INT:
        raise BadRow(f"bad_{name}")
    return value


def _quality(value: object) -> Quality:
    try:
        return Quality[str(value).upper()]
    except KeyError:
        raise BadRow("bad_quality") from None


def _named(flags: type[Flag], names: object) -> int:
    if not isinstance(names, list):
        raise BadRow("bad_flags")
    try:
        return sum({int(flags[str(name).upper()]) for name in names})
    except KeyError:
        raise BadRow("bad_flags") from None


def row_object(values: Mapping[str, Any]) -> bytes:
    """One line of the file, without its end."""
    return orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY)


FORMAT = Format(
    name="loadline",
    what="Loadline's own JSONL (arrival_ns, input_tokens, output_tokens …)",
    sniff=lambda head: head.has("arrival_ns") or FORMAT_NAME.encode() in (head.lines[0] if head.lines else b""),
    chunks=_chunks,
    judged=True,
    needs=("arrival_ns", "input_tokens", "output_tokens"),
)
