"""Comma-separated request traces: columns by name, clean lines parsed together, doubtful ones one by one."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from planner.errors import TraceError
from planner.readers.digits import Text
from planner.readers.lines import BadRow, Block, blocks, lines_of
from planner.readers.row import CHUNK_ROWS, Chunk, Gather, Row
from planner.readers.source import Source
from planner.traces.trace import BoolArray, IntArray

Fields = Mapping[str, str]
Bounds = Mapping[str, tuple[IntArray, IntArray]]
Together = tuple[IntArray, IntArray, IntArray, BoolArray]


@dataclass(frozen=True, slots=True)
class Table:
    """How a kind of CSV file is read.

    ``parse`` makes a row of one line's fields or raises BadRow; columns outside ``required`` and ``known`` are kept in
    ``extra``. ``together`` parses a block of lines that have just the required columns: (times, prompt lengths, answer
    lengths, which were understood); the others are parsed singly.
    """

    required: tuple[str, ...]
    parse: Callable[[Fields, Source], Row]
    known: tuple[str, ...] = ()
    together: Callable[[Text, Bounds, Source], Together] | None = None


def table_chunks(source: Source, table: Table) -> Iterator[Chunk]:
    """The rows of a CSV file. Raises TraceError when its header lacks a required column."""
    names: list[str] | None = None
    gather = Gather()
    for found in blocks(source.path):
        block = found
        if names is None:
            names, block = _header(source, table, found)
        if names is None:
            continue
        if table.together is not None and sorted(names) == sorted(table.required):
            yield from _together(source, table, names, block)
            continue
        for line, offset, raw in lines_of(block):
            row = _single(source, table, names, (line, offset, raw))
            if row is not None:
                gather.add(line, row)
        yield from gather.chunks(CHUNK_ROWS)
    yield from gather.chunks()


def _header(source: Source, table: Table, block: Block) -> tuple[list[str] | None, Block]:
    """Names of the columns and what follows them; None while there are only blank lines."""
    for line, offset, raw in lines_of(block):
        source.ledger.lines += 1
        if not raw.strip():
            source.ledger.blank += 1
            continue
        names = [name.strip().strip('"') for name in raw.decode("utf-8", "replace").split(",")]
        absent = [name for name in table.required if name not in names]
        if absent:
            raise TraceError(f"{source.path}:{line}: header {','.join(names)[:80]!r} lacks {', '.join(absent)}")
        source.ledger.header += 1
        used = block.data.find(b"\n", offset - block.offset) + 1 or len(block.data)
        return names, Block(line + 1, block.offset + used, block.data[used:])
    return None, block


def _single(source: Source, table: Table, names: Sequence[str], at: tuple[int, int, bytes]) -> Row | None:
    """One line as a row; None when it is blank or was set aside."""
    line, offset, raw = at
    ledger = source.ledger
    ledger.lines += 1
    if not raw.strip():
        ledger.blank += 1
        return None
    try:
        fields = dict(zip(names, _split(raw, names), strict=True))
        row = table.parse(fields, source)
    except BadRow as bad:
        ledger.set_aside(line, offset, str(bad), raw)
        return None
    ledger.accepted += 1
    extra = {name: text for name, text in fields.items() if name not in table.required and name not in table.known}
    if extra:
        row.more = {**row.more, "extra": json.dumps(extra)}
    return row


def _split(raw: bytes, names: Sequence[str]) -> list[str]:
    """Fields of one physical line. Raises BadRow."""
    if b"\0" in raw:
        raise BadRow("nul_byte")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRow("invalid_utf8") from None
    fields = text.split(",")
    if '"' in text:
        try:
            fields = next(csv.reader([text], strict=True))
        except (csv.Error, StopIteration):
            raise BadRow("bad_quoting") from None
    if [name.strip() for name in fields] == names:
        raise BadRow("header_repeated")
    if len(fields) != len(names):
        raise BadRow("missing_column" if len(fields) < len(names) else "extra_column")
    return fields


def _together(source: Source, table: Table, names: Sequence[str], block: Block) -> Iterator[Chunk]:
    """The lines of a block as one chunk: those that are understood together, and the rest singly, in order."""
    if not block.data or table.together is None:
        return
    text = np.frombuffer(block.data, dtype=np.uint8)
    ends = np.flatnonzero(text == 10)
    if not block.data.endswith(b"\n"):
        ends = np.append(ends, len(text))
    starts = np.concatenate([[0], ends[:-1] + 1])
    stripped = ends - ((ends > starts) & (text[np.maximum(ends - 1, 0)] == 13))
    commas = np.flatnonzero(text == 44)
    first = np.searchsorted(commas, starts)
    shaped = np.searchsorted(commas, stripped) - first == len(names) - 1
    edges = [starts[shaped] - 1, *(commas[first[shaped] + k] for k in range(len(names) - 1)), stripped[shaped]]
    bounds = {name: (edges[k] + 1, edges[k + 1]) for k, name in enumerate(names)}
    values = np.zeros((3, len(starts)), dtype=np.int64)
    kept = np.zeros(len(starts), dtype=np.bool_)
    *values[:, shaped], kept[shaped] = table.together(text, bounds, source)
    source.ledger.lines += int(kept.sum())
    source.ledger.accepted += int(kept.sum())
    for index in np.flatnonzero(~kept):
        begin, end = int(starts[index]), int(stripped[index])
        line = block.line + int(index)
        row = _single(source, table, names, (line, block.offset + begin, block.data[begin:end]))
        if row is not None and row.time_ns is not None:
            values[:, index] = row.time_ns, row.input_tokens or 0, row.output_tokens or 0
            kept[index] = True
    if kept.any():
        lines = block.line + np.flatnonzero(kept)
        yield Chunk.plain(lines, *(column[kept] for column in values))
