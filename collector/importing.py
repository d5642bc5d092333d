"""Read OpenMetrics text into a store or a server; what cannot be taken is named with its line, the rest goes on."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

from collector.client import Client
from collector.model.errors import SourceError
from collector.model.labels import Labels
from collector.model.openmetrics import LineReader
from collector.model.series import Series
from collector.store import Store

BATCH_SAMPLES = 200_000
MAX_LINE_BYTES = 1 << 20
"""A longer line is refused."""

MAX_SHOWN = 200
"""Characters of what is said of a line."""

_COMMENT = re.compile(rb'#[ \t]+(TYPE|HELP|UNIT)[ \t]+("(?:[^"\\]|\\.)*"|[^ \t]+)[ \t]*(.*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of a batch: samples stored, samples that were there already, and why the others were not."""

    stored: int
    known: int
    refused: int = 0
    reason: str = ""


class Sink(Protocol):
    """Where samples go."""

    def append(self, batch: list[Series]) -> Kept:
        """Store a batch. Raises StoreError or SourceError where it cannot go on."""
        ...

    def describe(self, family: str, kind: str, help: str, unit: str) -> None:
        """Keep what a family means, where that can be kept."""
        ...


class IntoStore:
    """Into a data directory that this process writes to."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def append(self, batch: list[Series]) -> Kept:
        """See ``Sink.append``."""
        result = self._store.append_series(batch)
        refused = result.out_of_order + result.conflict
        reason = f"{result.conflict} have other values than those of the same time" if result.conflict else ""
        if result.out_of_order:
            reason = f"{reason}{'; ' if reason else ''}{result.out_of_order} are out of order"
        return Kept(result.accepted, result.duplicate, refused, reason)

    def describe(self, family: str, kind: str, help: str, unit: str) -> None:
        """See ``Sink.describe``."""
        self._store.set_metadata(family, kind, help, unit)


class IntoServer:
    """Into a server, by remote write; how many of a refused batch were stored all the same is not told."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def append(self, batch: list[Series]) -> Kept:
        """See ``Sink.append``."""
        samples = sum(len(one.values) for one in batch)
        try:
            self._client.write(batch)
        except SourceError as error:
            if error.kind != "http_400":
                raise
            return Kept(0, 0, samples, str(error))
        return Kept(samples, 0)

    def describe(self, family: str, kind: str, help: str, unit: str) -> None:
        """Remote write 1.0 tells samples only."""


@dataclass(slots=True)
class Imported:
    """What became of a file: samples stored and known already; lines and samples that were refused."""

    samples: int = 0
    known: int = 0
    bad_lines: int = 0
    refused: int = 0


def import_lines(lines: BinaryIO, sink: Sink, tell: Callable[[str], None]) -> Imported:
    """Read a file to its ``# EOF``; ``tell`` is told each line that cannot be taken and why, and each refusal.

    Raises what reading and the sink raise; memory is bounded by ``BATCH_SAMPLES`` and the number of series.
    """
    return _Import(sink, tell).run(lines)


class _Import:
    """One file on its way."""

    def __init__(self, sink: Sink, tell: Callable[[str], None]) -> None:
        self._sink = sink
        self._tell = tell
        self._reader = LineReader()
        self._done = Imported()
        self._points: dict[Labels, tuple[list[int], list[float]]] = {}
        self._waiting = 0
        self._families: dict[str, dict[str, str]] = {}

    def run(self, lines: BinaryIO) -> Imported:
        number, ended = 0, False
        for number, line in _lines(lines):
            if ended:
                self._refuse(number, "nothing may follow # EOF")
                break
            ended = line == b"# EOF"
            if len(line) > MAX_LINE_BYTES:
                self._refuse(number, f"longer than {MAX_LINE_BYTES} bytes")
            elif line.startswith(b"#"):
                self._describe(number, line)
            elif line.strip():
                self._take(number, line)
        if not ended:
            self._refuse(number + 1, "# EOF is missing: the file was cut short")
        self._flush()
        for family, told in self._families.items():
            self._sink.describe(family, told.get("TYPE", "unknown"), told.get("HELP", ""), told.get("UNIT", ""))
        return self._done

    def _take(self, number: int, line: bytes) -> None:
        try:
            labels, time_ms, value = self._reader.read(line)
        except ValueError as error:
            self._refuse(number, f"{str(error)[:MAX_SHOWN]}: {line[:80].decode(errors='replace')!r}")
            return
        times, values = self._points.setdefault(labels, ([], []))
        times.append(time_ms)
        values.append(value)
        self._waiting += 1
        if self._waiting >= BATCH_SAMPLES:
            self._flush()

    def _describe(self, number: int, line: bytes) -> None:
        found = _COMMENT.fullmatch(line)
        if found is None:
            return
        try:
            keyword, name, text = (part.decode() for part in found.groups())
        except UnicodeDecodeError:
            self._refuse(number, "names and texts are UTF-8")
            return
        if name.startswith('"'):
            name = _unescaped(name[1:-1])
        self._families.setdefault(name, {})[keyword] = _unescaped(text) if keyword == "HELP" else text.strip()

    def _flush(self) -> None:
        if not self._points:
            return
        batch = [_series(labels, *points) for labels, points in self._points.items()]
        self._points, self._waiting = {}, 0
        kept = self._sink.append(batch)
        self._done.samples += kept.stored
        self._done.known += kept.known
        self._done.refused += kept.refused
        if kept.refused:
            self._tell(f"{kept.refused} samples were refused: {kept.reason}")

    def _refuse(self, number: int, reason: str) -> None:
        self._done.bad_lines += 1
        self._tell(f"line {number}: {reason}")


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines without their ends; of one that is too long only the beginning, a byte longer than allowed."""
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        kept, last = line, line
        while len(last) > MAX_LINE_BYTES and not last.endswith(b"\n"):
            last = stream.readline(MAX_LINE_BYTES + 1)
        yield number, kept.rstrip(b"\r\n")


def _series(labels: Labels, times: list[int], values: list[float]) -> Series:
    return Series(labels, np.array(times, dtype=np.int64), np.array(values, dtype=np.float64))


def _unescaped(text: str) -> str:
    return re.sub(r'\\([\\n"])', lambda found: "\n" if found[1] == "n" else found[1], text)
