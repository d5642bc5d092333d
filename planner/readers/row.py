"""One request as a reader found it, and many of them as columns."""

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.traces.trace import OPTIONAL_COLUMNS, BoolArray, Column, Flag, IntArray, Quality, Ragged

CHUNK_ROWS = 2**14
_NUMBERS = ("line", "time", "input", "output", "flags", "quality", "content", "row_id")


@dataclass(slots=True)
class Row:
    """One request; ``None`` is what the source did not say.

    ``time_ns`` counts from the source's own zero. ``more`` holds optional columns by name. ``content`` tells rows of
    equal time and lengths apart when duplicates are looked for. ``row_id`` and ``src_line`` are those of the file that
    a canonical trace was made of.
    """

    time_ns: int | None
    input_tokens: int | None
    output_tokens: int | None
    more: Mapping[str, Any] = field(default_factory=dict)
    flags: int = 0
    quality: Quality = Quality.EXACT
    content: int = 0
    row_id: int | None = None
    src_line: int | None = None


@dataclass(slots=True)
class Chunk:
    """Requests as columns in the order of the file, (rows,) each; ``missing`` masks what the source did not say."""

    line: IntArray
    time_ns: IntArray
    input_tokens: IntArray
    output_tokens: IntArray
    flags: npt.NDArray[np.uint32]
    quality: npt.NDArray[np.uint8]
    content: IntArray
    columns: dict[str, Column] = field(default_factory=dict)
    missing: dict[str, BoolArray] = field(default_factory=dict)
    row_id: IntArray | None = None

    def __len__(self) -> int:
        return len(self.line)

    @classmethod
    def plain(cls, line: IntArray, time_ns: IntArray, tokens_in: IntArray, tokens_out: IntArray) -> "Chunk":
        """Rows of which times and lengths are known and nothing else."""
        rows = len(line)
        return cls(
            line=line,
            time_ns=time_ns,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            flags=np.zeros(rows, dtype=np.uint32),
            quality=np.full(rows, Quality.EXACT, dtype=np.uint8),
            content=np.zeros(rows, dtype=np.int64),
        )


class Gather:
    """Rows while they are gathered into a chunk."""

    def __init__(self) -> None:
        self._numbers = {
            name: array("q") for name in ("line", "time", "input", "output", "flags", "quality", "content", "row_id")
        }
        self._absent: dict[str, list[int]] = {"arrival_ns": [], "input_tokens": [], "output_tokens": []}
        self._more: dict[str, dict[int, Any]] = {}
        self._texts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._numbers["line"])

    def add(self, line: int, row: Row) -> None:
        """Take one row in."""
        at, numbers = len(self), self._numbers
        numbers["line"].append(line if row.src_line is None else row.src_line)
        numbers["row_id"].append(-1 if row.row_id is None else row.row_id)
        numbers["time"].append(self._number("arrival_ns", at, row.time_ns))
        numbers["input"].append(self._number("input_tokens", at, row.input_tokens))
        numbers["output"].append(self._number("output_tokens", at, row.output_tokens))
        numbers["flags"].append(int(row.flags))
        numbers["quality"].append(row.quality)
        numbers["content"].append(row.content)
        for name, value in row.more.items():
            if value is not None:
                kept = self._texts.setdefault(value, value) if isinstance(value, str) and len(value) < 64 else value
                self._more.setdefault(name, {})[at] = kept

    def _number(self, name: str, at: int, value: int | None) -> int:
        if value is None:
            self._absent[name].append(at)
            return 0
        return value

    def chunks(self, at_least: int = 1) -> Iterator[Chunk]:
        """The gathered rows as one chunk, if they are at least so many; nothing is gathered afterwards."""
        if len(self) >= at_least:
            yield self._chunk()
            self.__init__()  # type: ignore[misc]

    def _chunk(self) -> Chunk:
        rows = len(self)
        n = {name: np.frombuffer(values, dtype=np.int64).copy() for name, values in self._numbers.items()}
        chunk = Chunk(
            line=n["line"],
            time_ns=n["time"],
            input_tokens=n["input"],
            output_tokens=n["output"],
            flags=n["flags"].astype(np.uint32),
            quality=n["quality"].astype(np.uint8),
            content=n["content"],
            row_id=n["row_id"] if (n["row_id"] >= 0).all() else None,
        )
        for name, at in self._absent.items():
            if at:
                chunk.missing[name] = _mask(rows, at)
        for name, values in self._more.items():
            chunk.columns[name] = _column(OPTIONAL_COLUMNS[name], rows, values)
            if len(values) < rows:
                chunk.missing[name] = ~_mask(rows, list(values))
        return chunk


def _mask(rows: int, at: list[int]) -> BoolArray:
    mask = np.zeros(rows, dtype=np.bool_)
    mask[at] = True
    return mask


def _column(kind: str, rows: int, values: Mapping[int, Any]) -> Column:
    if kind == "ragged":
        return Ragged.of([values.get(at, ()) for at in range(rows)])
    column = np.full(rows, None, dtype=object) if kind == "object" else np.zeros(rows, dtype=kind)
    for at, value in values.items():
        column[at] = value
    return column


def length_flags(tokens_in: int, hashes: int, block_tokens: int) -> Flag:
    """Doubts about prefix hashes: fewer than the prompt has blocks. Zero lengths are flagged for all formats alike."""
    return Flag.HASH_SHORT if hashes < -(-tokens_in // block_tokens) else Flag.NONE
