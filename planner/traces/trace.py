"""The canonical request trace: one row per request, held in columns, with a header that tells its origin.

Null means that the source did not say. A column that a source never fills is absent (``None``); a column that it
fills for some rows carries a mask in ``missing``. Nothing here knows a file format: ``planner.readers`` does.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.errors import TraceError

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

FORMAT_VERSION = 1
MAX_TOKENS = 2**32 - 1


class Quality(IntEnum):
    """How far an arrival time may be believed."""

    EXACT = 0
    QUANTISED = 1
    COMPLETION_DERIVED = 2
    SYNTHETIC = 3


class Flag(IntFlag):
    """Doubts about an accepted row; a row may carry several."""

    NONE = 0
    ZERO_INPUT = 1
    ZERO_OUTPUT = 2
    DUPLICATE = 4
    OUT_OF_ORDER = 8
    HASH_SHORT = 16
    CLAMPED = 32


OPTIONAL_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "request_id": "object",
        "prefix_hashes": "ragged",
        "block_tokens": "int64",
        "output_hashes": "ragged",
        "input_token_ids": "ragged",
        "messages": "object",
        "prompt_ref": "object",
        "cached_input_tokens": "int64",
        "session_id": "object",
        "parent_request_id": "object",
        "turn": "int64",
        "after_ms": "float64",
        "context_mode": "object",
        "model": "object",
        "tenant": "object",
        "priority": "int64",
        "slo_class": "object",
        "kind": "object",
        "images": "int64",
        "image_tokens": "int64",
        "audio_tokens": "int64",
        "video_tokens": "int64",
        "reasoning_tokens": "int64",
        "status": "object",
        "rec_queue_ms": "float64",
        "rec_ttft_ms": "float64",
        "rec_e2e_ms": "float64",
        "rec_itl_ms": "float64",
        "extra": "object",
    }
)


@dataclass(frozen=True, slots=True)
class Ragged:
    """Rows of unequal length: row ``i`` is ``values[offsets[i]:offsets[i + 1]]``.

    ``values`` is (total,) uint64, ``offsets`` is (rows + 1,) int64.
    """

    values: npt.NDArray[np.uint64]
    offsets: IntArray

    def row(self, index: int) -> npt.NDArray[np.uint64]:
        """Values of one row, a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, index: IntArray) -> "Ragged":
        """Rows in the order of ``index``."""
        lengths = np.diff(self.offsets)[index]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        first = np.repeat(self.offsets[:-1][index] - offsets[:-1], lengths)
        return Ragged(self.values[first + np.arange(offsets[-1])], offsets)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Ragged":
        """From one sequence of 64-bit numbers per row."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        return cls(np.fromiter(chain.from_iterable(rows), dtype=np.uint64, count=int(offsets[-1])), offsets)

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """The rows of all parts, one after another."""
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(np.concatenate([part.values for part in parts]), offsets)


Column = npt.NDArray[Any] | Ragged


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """Where every physical line of a file went; ``flagged`` counts accepted requests by flag name.

    A line may hold several requests: ``requests`` counts them, and ``parts_quarantined`` those set aside from a line
    that was accepted for its others. Where a file is one JSON document, its objects are counted as lines.
    """

    lines: int
    header: int
    blank: int
    accepted: int
    quarantined: int
    requests: int | None = None
    parts_quarantined: int = 0
    flagged: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    def reconcile(self) -> None:
        """Raise AssertionError unless every line is accounted for exactly once."""
        parts = self.header + self.blank + self.accepted + self.quarantined
        if self.lines != parts:
            raise AssertionError(
                f"{self.lines} lines are not {self.header} header + {self.blank} blank "
                f"+ {self.accepted} accepted + {self.quarantined} quarantined"
            )


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """A physical line that could not be used: 1-based line, offset of its first byte, why, and the bytes."""

    line: int
    byte_offset: int
    reason: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class TraceHeader:
    """Where a trace came from and what was done to it.

    ``origin_ns`` is the wall clock (Unix epoch, ns) of arrival 0; ``zone`` is "unstated" where the source names none.
    ``transforms`` holds one mapping per shaping step, in order, with its parameters.
    """

    source: str
    source_sha256: str
    reader: str
    reader_version: int
    origin_ns: int
    zone: str
    resolution_ns: int
    counts: ReadCounts
    format_version: int = FORMAT_VERSION
    transforms: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests sorted by (arrival, row id); every column is (rows,).

    ``arrival_ns`` counts from the trace's origin; ``arrival_quality`` holds ``Quality`` codes, ``flags`` ``Flag`` bits.
    ``columns`` holds those of ``OPTIONAL_COLUMNS`` that the source fills; ``missing`` masks the rows of a column, or of
    ``arrival_ns``/``input_tokens``/``output_tokens``, that the source left out; what stands there is 0.
    """

    header: TraceHeader
    row_id: IntArray
    src_line: IntArray
    arrival_ns: IntArray
    arrival_quality: npt.NDArray[np.uint8]
    input_tokens: IntArray
    output_tokens: IntArray
    flags: npt.NDArray[np.uint32]
    columns: Mapping[str, Column] = field(default_factory=dict)
    missing: Mapping[str, BoolArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rows = len(self.row_id)
        for name in ("src_line", "arrival_ns", "arrival_quality", "input_tokens", "output_tokens", "flags"):
            if len(getattr(self, name)) != rows:
                raise TraceError(f"trace column {name} has {len(getattr(self, name))} rows, row_id has {rows}")
        for name, column in self.columns.items():
            if name not in OPTIONAL_COLUMNS:
                raise TraceError(f"trace column {name!r} is not one of {', '.join(OPTIONAL_COLUMNS)}")
            length = len(column.offsets) - 1 if isinstance(column, Ragged) else len(column)
            if length != rows:
                raise TraceError(f"trace column {name} has {length} rows, row_id has {rows}")

    def __len__(self) -> int:
        return len(self.row_id)

    def column(self, name: str) -> Column | None:
        """One optional column, or None when the source never fills it."""
        return self.columns.get(name)

    @property
    def absent(self) -> tuple[str, ...]:
        """Those of arrival times, prompt lengths and answer lengths that no request tells, in words."""
        words = {"arrival_ns": "arrival times", "input_tokens": "prompt lengths", "output_tokens": "answer lengths"}
        return tuple(word for name, word in words.items() if name in self.missing and self.missing[name].all())

    @property
    def duration_s(self) -> float:
        """Seconds from the first arrival to the last; 0 for fewer than two rows."""
        return float(self.arrival_ns[-1] - self.arrival_ns[0]) / 1e9 if len(self) else 0.0

    def take_rows(self, index: IntArray, **transform: object) -> "Trace":
        """Rows in the order of ``index``, with one transform added to the header."""
        header = replace(self.header, transforms=(*self.header.transforms, transform))
        return replace(self.rows(index), header=header)

    def rows(self, index: IntArray) -> "Trace":
        """Rows in the order of ``index``, under the same header."""
        return replace(
            self,
            row_id=self.row_id[index],
            src_line=self.src_line[index],
            arrival_ns=self.arrival_ns[index],
            arrival_quality=self.arrival_quality[index],
            input_tokens=self.input_tokens[index],
            output_tokens=self.output_tokens[index],
            flags=self.flags[index],
            columns={k: v.take(index) if isinstance(v, Ragged) else v[index] for k, v in self.columns.items()},
            missing={k: v[index] for k, v in self.missing.items()},
        )

    def sha256(self) -> str:
        """Identity of what is asked of a server: arrivals, lengths and prefix hashes, whatever file they came from."""
        digest = hashlib.sha256(b"loadline-trace-1")
        for array in (self.row_id, self.arrival_ns, self.input_tokens, self.output_tokens):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        hashes = self.columns.get("prefix_hashes")
        if isinstance(hashes, Ragged):
            digest.update(np.ascontiguousarray(hashes.values, dtype="<u8").tobytes())
            digest.update(np.ascontiguousarray(hashes.offsets, dtype="<i8").tobytes())
        return digest.hexdigest()


def concatenate(parts: Sequence[Trace], header: TraceHeader) -> Trace:
    """The rows of all parts, one after another, as they stand; a column that only some parts have is null elsewhere."""
    names = {name: None for part in parts for name in part.columns}
    masked = {name for part in parts for name in part.missing}
    masked |= {name for name in names if any(name not in part.columns for part in parts)}
    return Trace(
        header=header,
        row_id=np.concatenate([part.row_id for part in parts]),
        src_line=np.concatenate([part.src_line for part in parts]),
        arrival_ns=np.concatenate([part.arrival_ns for part in parts]),
        arrival_quality=np.concatenate([part.arrival_quality for part in parts]),
        input_tokens=np.concatenate([part.input_tokens for part in parts]),
        output_tokens=np.concatenate([part.output_tokens for part in parts]),
        flags=np.concatenate([part.flags for part in parts]),
        columns={name: _joined([_filled(part, name) for part in parts]) for name in names},
        missing={name: np.concatenate([_mask(part, name) for part in parts]) for name in sorted(masked)},
    )


def _joined(columns: Sequence[Column]) -> Column:
    ragged = [column for column in columns if isinstance(column, Ragged)]
    return Ragged.joined(ragged) if ragged else np.concatenate([c for c in columns if not isinstance(c, Ragged)])


def _filled(part: Trace, name: str) -> Column:
    if name in part.columns:
        return part.columns[name]
    kind = OPTIONAL_COLUMNS[name]
    if kind == "ragged":
        return Ragged(np.zeros(0, dtype=np.uint64), np.zeros(len(part) + 1, dtype=np.int64))
    return np.full(len(part), None, dtype=object) if kind == "object" else np.zeros(len(part), dtype=kind)


def _mask(part: Trace, name: str) -> BoolArray:
    if name in part.missing:
        return part.missing[name]
    there = name in part.columns or name not in OPTIONAL_COLUMNS
    return np.full(len(part), not there, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Account:
    """What became of a file's lines.

    ``quarantine`` holds the first 10,000 rows set aside, ``doubts`` the first 100 flagged ones as (line, flag bits);
    ``counts`` counts them all. ``remarks`` are what a person should know of the file, with how often.
    """

    counts: ReadCounts
    quarantine: tuple[QuarantinedRow, ...] = ()
    doubts: tuple[tuple[int, int], ...] = ()
    remarks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TraceRead:
    """What reading a file gave: the usable rows, and what became of the others."""

    trace: Trace
    account: Account

    @property
    def counts(self) -> ReadCounts:
        """The reckoning of the lines."""
        return self.account.counts

    @property
    def quarantine(self) -> tuple[QuarantinedRow, ...]:
        """The first rows that were set aside."""
        return self.account.quarantine


def from_lengths(
    arrival_s: npt.ArrayLike, input_tokens: npt.ArrayLike, output_tokens: npt.ArrayLike, source: str = "made"
) -> Trace:
    """A synthetic trace from arrivals in seconds and lengths in tokens; rows are sorted by arrival."""
    arrival_ns = np.rint(np.asarray(arrival_s, dtype=np.float64) * 1e9).astype(np.int64)
    order = np.argsort(arrival_ns, kind="stable")
    rows = len(order)
    counts = ReadCounts(lines=rows, header=0, blank=0, accepted=rows, quarantined=0)
    header = TraceHeader(source, "", "made", 1, origin_ns=0, zone="unstated", resolution_ns=1, counts=counts)
    return Trace(
        header=header,
        row_id=np.arange(rows, dtype=np.int64),
        src_line=order.astype(np.int64) + 1,
        arrival_ns=arrival_ns[order],
        arrival_quality=np.full(rows, Quality.SYNTHETIC, dtype=np.uint8),
        input_tokens=np.asarray(input_tokens, dtype=np.int64)[order],
        output_tokens=np.asarray(output_tokens, dtype=np.int64)[order],
        flags=np.zeros(rows, dtype=np.uint32),
    )


def file_sha256(path: Path) -> str:
    """SHA-256 of the stored bytes of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
