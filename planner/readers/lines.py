"""Physical lines of a trace file, and the account of where each of them went."""

import base64
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import zstandard

from planner.errors import TraceError
from planner.traces.trace import Account, Flag, QuarantinedRow, ReadCounts

BOM = b"\xef\xbb\xbf"
BLOCK_BYTES = 2**21
MAX_LINE_BYTES = 2**26
KEPT_ROWS = 10_000
"""Rows set aside that are held in memory; a sink gets them all."""

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_PACKED_FAULTS = (EOFError, OSError, zlib.error, zstandard.ZstdError)

Sink = Callable[[QuarantinedRow], None]


class BadRow(Exception):
    """A line that cannot be used; the argument is the reason, in one word."""


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading its plain bytes; gzip and zstd are told by their first bytes. Raises TraceError."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise TraceError(f"{path}: cannot be opened: {error.strerror}") from error
    with raw:
        magic = raw.read(4)
        raw.seek(0)
        if magic.startswith(_GZIP):
            with gzip.GzipFile(fileobj=raw, mode="rb") as plain:
                yield cast(BinaryIO, plain)
        elif magic == _ZSTD:
            yield cast(BinaryIO, io.BufferedReader(_ZstdFrames(raw), BLOCK_BYTES))
        else:
            yield raw


class _ZstdFrames(io.RawIOBase):
    """Plain bytes of zstd frames, one after another; unlike the library's reader, a frame cut short is an EOFError."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._ready:
            packed = self._packed.read(2**14)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the last zstd frame is cut short")
                return 0
            self._ready = memoryview(self._unpacked(packed))
        view = memoryview(target)
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpacked(self, packed: bytes) -> bytes:
        plain = []
        while packed:
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            plain.append(self._frame.decompress(packed))
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        return b"".join(plain)


def first_bytes(path: Path, size: int = 2**16) -> bytes:
    """The first plain bytes of a file without a byte-order mark; fewer where its packing breaks. Raises TraceError."""
    found = b""
    with open_plain(path) as file, typed_faults(path):
        try:
            while len(found) < size and (more := file.read(2**12)):
                found += more
        except _PACKED_FAULTS:
            if not found:
                raise
    return found[:size].removeprefix(BOM)


@contextmanager
def typed_faults(path: Path) -> Iterator[None]:
    """Turn what a broken file or its packing raises into TraceError."""
    try:
        yield
    except _PACKED_FAULTS as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Block:
    """Whole physical lines: 1-based number of the first, offset of its first byte, the bytes with their line ends."""

    line: int
    offset: int
    data: bytes


def blocks(path: Path, size: int = BLOCK_BYTES) -> Iterator[Block]:
    """The plain content in blocks of about ``size`` bytes; a byte-order mark before the first line is dropped.

    Raises TraceError when a compressed file is cut short or a line is longer than 64 MiB.
    """
    line, offset, rest = 1, 0, b""
    try:
        with open_plain(path) as file:
            while chunk := file.read(size):
                data = rest + chunk
                cut = data.rfind(b"\n") + 1
                rest = data[cut:]
                if cut:
                    yield _block(line, offset, data[:cut])
                    line += data.count(b"\n", 0, cut)
                    offset += cut
                elif len(rest) > MAX_LINE_BYTES:
                    raise TraceError(f"{path}:{line}: a line longer than {MAX_LINE_BYTES // 2**20} MiB is no request")
        if rest:
            yield _block(line, offset, rest)
    except _PACKED_FAULTS as error:
        raise TraceError(f"{path}: cannot be read after line {line - 1}: {error}") from error


def _block(line: int, offset: int, data: bytes) -> Block:
    if offset or not data.startswith(BOM):
        return Block(line, offset, data)
    return Block(line, len(BOM), data[len(BOM) :])


def lines_of(block: Block) -> Iterator[tuple[int, int, bytes]]:
    """Yield (1-based line, byte offset, bytes without line end) of each line of a block."""
    line, offset = block.line, block.offset
    ends_whole = block.data.endswith(b"\n")
    found = block.data.split(b"\n")
    for raw in found[:-1] if ends_whole else found:
        yield line, offset, raw.removesuffix(b"\r")
        line += 1
        offset += len(raw) + 1


class Ledger:
    """Account of a file's lines while it is read: every line is entered exactly once."""

    def __init__(self, path: Path, strict: bool = False, sink: Sink | None = None) -> None:
        self.path = path
        self.strict = strict
        self.lines = 0
        self.header = 0
        self.blank = 0
        self.accepted = 0
        self.requests = 0
        self.quarantined = 0
        self.parts_quarantined = 0
        self.flagged: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.quarantine: list[QuarantinedRow] = []
        self.doubts: list[tuple[int, int]] = []
        self._sink = sink

    def set_aside(self, line: int, offset: int, reason: str, raw: bytes, *, part: bool = False) -> None:
        """Enter a line, or a ``part`` of an accepted one, that cannot be used. Raises TraceError under ``strict``."""
        if self.strict:
            raise TraceError(f"{self.path}:{line}: {reason}: {raw[:80].decode('utf-8', 'replace')!r}")
        if part:
            self.parts_quarantined += 1
        else:
            self.quarantined += 1
        self.reasons[reason] += 1
        row = QuarantinedRow(line, offset, reason, raw)
        if len(self.quarantine) < KEPT_ROWS:
            self.quarantine.append(row)
        if self._sink is not None:
            self._sink(row)

    def counts(self) -> ReadCounts:
        """The reckoning; asserts that nothing was lost."""
        counts = ReadCounts(
            lines=self.lines,
            header=self.header,
            blank=self.blank,
            accepted=self.accepted,
            quarantined=self.quarantined,
            requests=self.requests,
            parts_quarantined=self.parts_quarantined,
            flagged=dict(sorted(self.flagged.items())),
            reasons=dict(sorted(self.reasons.items())),
        )
        counts.reconcile()
        return counts


@contextmanager
def quarantine_file(path: Path) -> Iterator[Sink]:
    """A sink that writes rows set aside as JSONL ``{line, byte_offset, reason, raw}``; ``raw`` is base64 of the bytes.

    Raises TraceError when the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8") as file:

            def write(row: QuarantinedRow) -> None:
                raw = base64.b64encode(row.raw).decode("ascii")
                entry = {"line": row.line, "byte_offset": row.byte_offset, "reason": row.reason, "raw": raw}
                file.write(json.dumps(entry) + "\n")

            yield write
    except OSError as error:
        raise TraceError(f"{path}: cannot be written: {error.strerror}") from error


def problems(path: Path, account: Account, limit: int = 10) -> list[str]:
    """Lines for a person: the reckoning, then the first ``limit`` rows with problems, in the order of the file."""
    counts = account.counts
    found = [(row.line, f"set aside: {row.reason}: {row.raw[:60]!r}") for row in account.quarantine[:limit]]
    for line, flags in account.doubts[:limit]:
        names = ", ".join(str(flag.name).lower() for flag in Flag(flags))
        found.append((line, f"kept, flagged: {names}"))
    if not found:
        return []
    found.sort()
    lines = [reckoning(path, counts), *(f"{path}:{line}: {what}" for line, what in found[:limit])]
    if len(found) > limit or counts.quarantined + counts.parts_quarantined > limit:
        by_reason = {**counts.reasons, **counts.flagged}
        told = ", ".join(f"{count} {reason}" for reason, count in sorted(by_reason.items(), key=lambda one: -one[1]))
        lines.append(f"{path}: in all: {told}")
    return lines


def reckoning(path: Path, counts: ReadCounts) -> str:
    """Where the lines of a file went, in one line."""
    text = (
        f"{path}: {counts.lines} lines = {counts.header} header + {counts.blank} blank "
        f"+ {counts.accepted} accepted + {counts.quarantined} set aside"
    )
    if counts.requests not in (None, counts.accepted):
        text += f"; the accepted ones hold {counts.requests} requests"
    if counts.parts_quarantined:
        text += f"; {counts.parts_quarantined} more requests in them are set aside"
    return text
