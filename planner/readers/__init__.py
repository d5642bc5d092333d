"""Read trace files of any known format into the canonical trace."""

from pathlib import Path

from planner.readers.detect import FORMATS, detect
from planner.readers.lines import Ledger, Sink, problems, quarantine_file, reckoning
from planner.readers.source import Source
from planner.readers.stream import TraceStream
from planner.traces.trace import TraceRead

__all__ = ["FORMATS", "TraceStream", "open_trace", "problems", "quarantine_file", "read_trace", "reckoning"]


def open_trace(
    path: Path,
    *,
    kind: str | None = None,
    strict: bool = False,
    sink: Sink | None = None,
    seed: int = 0,
    tokenizer: Path | None = None,
) -> TraceStream:
    """A trace to be read piece by piece; plain, gzip or zstd, its format told by its content or by ``kind``.

    ``sink`` gets every row that is set aside. Raises TraceError when the file cannot be opened or no reader knows it.
    """
    found, head = detect(path, kind)
    source = Source(path, Ledger(path, strict, sink), document=head.document, seed=seed, tokenizer=tokenizer)
    return TraceStream(source, found)


def read_trace(
    path: Path,
    *,
    kind: str | None = None,
    strict: bool = False,
    sink: Sink | None = None,
    seed: int = 0,
    tokenizer: Path | None = None,
) -> TraceRead:
    """Read a whole trace; as ``open_trace``.

    Raises TraceError when it cannot be opened, no reader knows it, it holds no usable row, or, with ``strict``, at the
    first row that cannot be used.
    """
    return open_trace(path, kind=kind, strict=strict, sink=sink, seed=seed, tokenizer=tokenizer).read()
