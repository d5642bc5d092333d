"""Chunks of a file as a trace: doubts flagged, order and origin settled, whole or piece by piece."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from planner.errors import TraceError
from planner.readers.head import Head
from planner.readers.row import Chunk
from planner.readers.source import Source, check_usable
from planner.traces.trace import (
    Account,
    Flag,
    IntArray,
    Quality,
    ReadCounts,
    Trace,
    TraceHeader,
    TraceRead,
    concatenate,
    file_sha256,
)

VERSION = 2
HELD_ROWS = 2**15
"""Rows that are held back to be put in order; one that is further out of its place than this stops a stream."""

TOLD_DOUBTS = 100

QUANTISED_TIES = 0.2
"""Above this share of arrivals at the same moment, the source rounded its clock."""

QUANTISED_ROWS = 10_000
"""How many arrivals are looked at for that."""

_NO_COUNTS = ReadCounts(0, 0, 0, 0, 0)


class OutOfReach(TraceError):
    """A row lies too far from its place for the file to be put in order piece by piece; whole, it can be."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of trace file.

    ``from_first`` is whether arrivals count from the earliest one (wall clocks) or from the source's own zero. Rows
    are out of order when they are a ``tick_ns`` too early. ``draws`` are rows that may be equal without being doubtful.
    Rows that were ``judged`` before carry their flags and quality. ``needs`` are columns or keys that it must have, for
    a person whose file has only some.
    """

    name: str
    what: str
    sniff: Callable[[Head], bool]
    chunks: Callable[[Source], Iterator[Chunk]]
    from_first: bool = False
    tick_ns: int = 1
    draws: bool = False
    judged: bool = False
    needs: tuple[str, ...] = ()


class TraceStream:
    """A trace file that is read piece by piece. Counts and header are complete once it was read to its end."""

    def __init__(self, source: Source, kind: Format) -> None:
        self.source = source
        self.kind = kind
        self._quality: Quality | None = None
        self._origin_ns = 0

    @property
    def path(self) -> Path:
        """The file that is read."""
        return self.source.path

    def pieces(self, held_rows: int = HELD_ROWS) -> Iterator[Trace]:
        """The requests in order of arrival, in pieces of about ``held_rows``.

        Raises OutOfReach when a row lies further from its place than that, TraceError when nothing can be used.
        """
        started = False
        for part in _in_order(self._parts(), held_rows, str(self.path)):
            if not started:
                started = True
                self._settle(part)
            yield self._settled(part)
        check_usable(self.source)

    def read(self) -> TraceRead:
        """The whole file. Raises TraceError when nothing can be used."""
        parts = list(self._parts())
        check_usable(self.source)
        whole = concatenate(parts, parts[0].header)
        parts.clear()
        order = np.argsort(whole.arrival_ns, kind="stable")
        if (np.diff(order) != 1).any():
            whole = whole.rows(order)
        self._settle(whole)
        trace = replace(self._settled(whole), header=self.header())
        return TraceRead(trace, self.account())

    def account(self) -> Account:
        """What became of the lines that were read."""
        ledger = self.source.ledger
        remarks = dict(self.source.remarks)
        return Account(ledger.counts(), tuple(ledger.quarantine), tuple(ledger.doubts), remarks)

    def header(self) -> TraceHeader:
        """Origin of what was read; its counts reconcile."""
        zones = self.source.zones
        zone = "mixed" if len(zones) > 1 else (next(iter(zones), "") or "unstated")
        resolution_ns = 10 ** (9 - self.source.digits) if zones else self.kind.tick_ns
        counts = self.source.ledger.counts()
        found = self._header(file_sha256(self.path), zone, resolution_ns, counts)
        return found if self.source.origin is None else replace(self.source.origin, counts=counts)

    def _header(self, sha256: str, zone: str, resolution_ns: int, counts: ReadCounts) -> TraceHeader:
        return TraceHeader(
            source=self.path.name,
            source_sha256=sha256,
            reader=self.kind.name,
            reader_version=VERSION,
            origin_ns=self._origin_ns,
            zone=zone,
            resolution_ns=resolution_ns,
            counts=counts,
        )

    def _parts(self) -> Iterator[Trace]:
        """Chunks as traces, in the order of the file; times count from the source's own zero."""
        doubts, rows, header = _Doubts(self.kind), 0, self._header("", "unstated", 1, _NO_COUNTS)
        ledger = self.source.ledger
        for chunk in self.kind.chunks(self.source):
            flags = chunk.flags if self.kind.judged else chunk.flags | doubts.of(chunk)
            for flag in Flag:
                if count := int(((flags & np.uint32(flag)) != 0).sum()):
                    ledger.flagged[str(flag.name).lower()] += count
            ledger.requests += len(chunk)
            for row in np.flatnonzero(flags)[: max(0, TOLD_DOUBTS - len(ledger.doubts))]:
                ledger.doubts.append((int(chunk.line[row]), int(flags[row])))
            yield Trace(
                header=header,
                row_id=np.arange(rows, rows + len(chunk), dtype=np.int64) if chunk.row_id is None else chunk.row_id,
                src_line=chunk.line,
                arrival_ns=chunk.time_ns,
                arrival_quality=chunk.quality,
                input_tokens=chunk.input_tokens,
                output_tokens=chunk.output_tokens,
                flags=flags.astype(np.uint32),
                columns=chunk.columns,
                missing=chunk.missing,
            )
            rows += len(chunk)

    def _settle(self, first: Trace) -> None:
        """Origin and quality of arrivals, told by the first requests."""
        if self.kind.judged:
            return
        if self.kind.from_first and "arrival_ns" not in first.missing:
            self._origin_ns = int(first.arrival_ns[0])
        gaps = np.diff(first.arrival_ns[:QUANTISED_ROWS])
        if len(gaps) and "arrival_ns" not in first.missing and (gaps == 0).mean() > QUANTISED_TIES:
            self._quality = Quality.QUANTISED

    def _settled(self, part: Trace) -> Trace:
        quality = part.arrival_quality
        if self._quality is not None:
            quality = np.where(quality == Quality.EXACT, np.uint8(self._quality), quality)
        return replace(part, arrival_ns=part.arrival_ns - self._origin_ns, arrival_quality=quality)


def _in_order(parts: Iterable[Trace], held_rows: int, path: str) -> Iterator[Trace]:
    """The rows sorted by arrival; about two times ``held_rows`` are held, and a chunk of the file."""
    held: list[Trace] = []
    released_ns: int | None = None
    for part in parts:
        if released_ns is not None and len(part) and int(part.arrival_ns.min()) < released_ns:
            row = int(part.src_line[int(part.arrival_ns.argmin())])
            raise OutOfReach(f"{path}:{row}: is more than {held_rows} rows out of order; the file must be read whole")
        held.append(part)
        if sum(len(one) for one in held) >= 2 * held_rows:
            whole = _sorted(held)
            cut = len(whole) - held_rows
            yield whole.rows(np.arange(cut))
            released_ns = int(whole.arrival_ns[cut - 1])
            held = [whole.rows(np.arange(cut, len(whole)))]
    if held:
        yield _sorted(held)


def _sorted(parts: list[Trace]) -> Trace:
    whole = concatenate(parts, parts[0].header) if len(parts) > 1 else parts[0]
    if (np.diff(whole.arrival_ns) >= 0).all():
        return whole
    return whole.rows(np.argsort(whole.arrival_ns, kind="stable"))


class _Doubts:
    """Flags of rows that are doubtful beside the rows before them."""

    def __init__(self, kind: Format) -> None:
        self._kind = kind
        self._latest = np.iinfo(np.int64).min
        self._recent: IntArray = np.zeros(0, dtype=np.int64)

    def of(self, chunk: Chunk) -> IntArray:
        """(rows,) flag bits; equality is looked for among the latest 32,768 rows."""
        flags = np.zeros(len(chunk), dtype=np.int64)
        for name, flag in (("input_tokens", Flag.ZERO_INPUT), ("output_tokens", Flag.ZERO_OUTPUT)):
            zero = getattr(chunk, name) == 0
            flags[zero & ~chunk.missing[name] if name in chunk.missing else zero] |= int(flag)
        if "arrival_ns" not in chunk.missing:
            ticks = chunk.time_ns // self._kind.tick_ns
            running = np.maximum.accumulate(np.concatenate([[self._latest], ticks]))
            flags[ticks < running[:-1]] |= int(Flag.OUT_OF_ORDER)
            self._latest = int(running[-1])
        if not self._kind.draws:
            flags[self._repeated(chunk)] |= int(Flag.DUPLICATE)
        return flags

    def _repeated(self, chunk: Chunk) -> IntArray:
        keys = _mixed(chunk.time_ns, chunk.input_tokens, chunk.output_tokens, chunk.content)
        known = len(self._recent)
        every = np.concatenate([self._recent, keys])
        order = np.argsort(every, kind="stable")
        later = order[1:][every[order][1:] == every[order][:-1]]
        self._recent = every[-HELD_ROWS:]
        found: IntArray = later[later >= known] - known
        return found


def _mixed(*columns: IntArray) -> IntArray:
    """64 bits that differ where any of the columns does (splitmix64 over them)."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed += column.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed.view(np.int64)
