"""The canonical request trace: one row per request, held in columns, with a header that tells its origin.

Null means that the source did not say. A column that a source never fills is absent (``None``); a column that it
fills for some rows carries a mask in ``missing``. Nothing here knows a file format: ``planner.readers`` does.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum, IntFlag
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
        rows = [self.row(int(i)) for i in index]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        values = np.concatenate(rows) if rows else np.zeros(0, dtype=np.uint64)
        return Ragged(values.astype(np.uint64), offsets)


Column = npt.NDArray[Any] | Ragged


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """Where every physical line of a file went; ``flagged`` counts accepted rows by flag name."""

    lines: int
    header: int
    blank: int
    accepted: int
    quarantined: int
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
    ``input_tokens``/``output_tokens``, that the source left out.
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
    def duration_s(self) -> float:
        """Seconds from the first arrival to the last; 0 for fewer than two rows."""
        return float(self.arrival_ns[-1] - self.arrival_ns[0]) / 1e9 if len(self) else 0.0

    def take_rows(self, index: IntArray, **transform: object) -> "Trace":
        """Rows in the order of ``index``, with one transform added to the header."""
        return replace(
            self,
            header=replace(self.header, transforms=(*self.header.transforms, transform)),
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


@dataclass(frozen=True, slots=True)
class TraceRead:
    """What reading a file gave: the usable rows, those set aside, and the reckoning of its lines."""

    trace: Trace
    quarantine: tuple[QuarantinedRow, ...]
    counts: ReadCounts


Reader = Callable[..., TraceRead]


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
