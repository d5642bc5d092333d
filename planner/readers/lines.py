"""Physical lines of a trace file, and the account of where each of them went."""

import base64
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from planner.errors import TraceError
from planner.trace import Flag, QuarantinedRow, ReadCounts, TraceRead

BOM = b"\xef\xbb\xbf"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


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
            with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
                yield cast(BinaryIO, io.BufferedReader(stream))
        else:
            yield raw


def first_bytes(path: Path, size: int = 4096) -> bytes:
    """The first plain bytes of a file without a byte-order mark. Raises TraceError."""
    try:
        with open_plain(path) as file:
            return file.read(size).removeprefix(BOM)
    except (EOFError, OSError, zstandard.ZstdError) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error


def physical_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (1-based line, byte offset, bytes without line end) of each line of the plain content.

    A byte-order mark before the first line is dropped. Raises TraceError when a compressed file is cut short.
    """
    offset = 0
    line = 0
    try:
        with open_plain(path) as file:
            for raw in file:
                line += 1
                text = raw.removeprefix(BOM) if line == 1 else raw
                yield line, offset, text.removesuffix(b"\n").removesuffix(b"\r")
                offset += len(raw)
    except (EOFError, OSError, zstandard.ZstdError) as error:
        raise TraceError(f"{path}: cannot be read after line {line}: {error}") from error


class Ledger:
    """Account of a file's lines while it is read: every line is entered exactly once."""

    def __init__(self, path: Path, strict: bool) -> None:
        self.path = path
        self.strict = strict
        self.lines = 0
        self.header = 0
        self.blank = 0
        self.accepted = 0
        self.flagged: Counter[str] = Counter()
        self.quarantine: list[QuarantinedRow] = []

    def accept(self, flags: Flag) -> None:
        """Enter a line that became a row."""
        self.accepted += 1
        for flag in flags:
            self.flagged[str(flag.name).lower()] += 1

    def set_aside(self, line: int, offset: int, reason: str, raw: bytes) -> None:
        """Enter a line that cannot be used. Raises TraceError under ``strict``."""
        if self.strict:
            raise TraceError(f"{self.path}:{line}: {reason}: {raw[:80].decode('utf-8', 'replace')!r}")
        self.quarantine.append(QuarantinedRow(line, offset, reason, raw))

    def counts(self) -> ReadCounts:
        """The reckoning; asserts that nothing was lost."""
        reasons = Counter(row.reason for row in self.quarantine)
        counts = ReadCounts(
            lines=self.lines,
            header=self.header,
            blank=self.blank,
            accepted=self.accepted,
            quarantined=len(self.quarantine),
            flagged=dict(sorted(self.flagged.items())),
            reasons=dict(sorted(reasons.items())),
        )
        counts.reconcile()
        return counts


def write_quarantine(path: Path, rows: Iterable[QuarantinedRow]) -> None:
    """Write set-aside lines as JSONL ``{line, byte_offset, reason, raw}``; ``raw`` is base64 of the bytes."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            entry = {
                "line": row.line,
                "byte_offset": row.byte_offset,
                "reason": row.reason,
                "raw": base64.b64encode(row.raw).decode("ascii"),
            }
            file.write(json.dumps(entry) + "\n")


def problems(path: Path, read: TraceRead, limit: int = 10) -> list[str]:
    """Lines for a person: the reckoning, then the first ``limit`` rows with problems, in the order of the file."""
    trace, counts = read.trace, read.counts
    found = [(row.line, f"set aside: {row.reason}: {row.raw[:60]!r}") for row in read.quarantine]
    for index in trace.flags.nonzero()[0]:
        names = ", ".join(str(flag.name).lower() for flag in Flag(int(trace.flags[index])))
        found.append((int(trace.src_line[index]), f"kept, flagged: {names}"))
    if not found:
        return []
    found.sort()
    shown = [f"{path}:{line}: {what}" for line, what in found[:limit]]
    if len(found) > limit:
        shown.append(f"{path}: and {len(found) - limit} more rows with problems")
    total = (
        f"{path}: {counts.lines} lines = {counts.header} header + {counts.blank} blank "
        f"+ {counts.accepted} accepted + {counts.quarantined} set aside"
    )
    return [total, *shown]
