"""Write a trace, piece by piece: our own JSONL, or Mooncake's for other tools; plain, gzip or zstd by the file's name.

The file appears whole or not at all: it is written beside itself and then renamed.
"""

import gzip
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import zstandard

from planner.errors import TraceError, WorkloadError
from planner.readers.canonical import FORMAT_NAME, row_object
from planner.traces.trace import OPTIONAL_COLUMNS, Flag, Quality, Ragged, Trace, TraceHeader

MOONCAKE_BLOCK = 512
TARGETS = ("loadline", "mooncake")
_PLAIN = ("row_id", "src_line")
_NS_PER_MS = 1_000_000


@dataclass(slots=True)
class Written:
    """What was written, and the columns that the format has no place for with how many requests had them."""

    requests: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)


class Export:
    """A trace file while it is written; ``finish`` gives it its header and its name."""

    def __init__(self, path: Path, target: str) -> None:
        if target not in TARGETS:
            raise TraceError(f"target format {target!r} is not one of {', '.join(TARGETS)}")
        self.path = path
        self.target = target
        self.written = Written()
        self._body = path.with_name(path.name + ".part")

    def write(self, pieces: Iterable[Trace]) -> None:
        """Write the requests of all pieces. Raises TraceError when the disk does not take them."""
        with _typed(self.path), self._body.open("wb") as raw, _packed(self.path, raw) as body:
            for piece in pieces:
                lines = _canonical(piece) if self.target == "loadline" else _mooncake(piece, self.written)
                body.write(b"".join(line + b"\n" for line in lines))
                self.written.requests += len(piece)

    def finish(self, header: TraceHeader) -> Written:
        """Put the header, which is only known after the last piece, before the requests, and give the file its name."""
        if self.target != "loadline":
            with _typed(self.path):
                self._body.replace(self.path)
            return self.written
        whole = self.path.with_name(self.path.name + ".whole")
        with _typed(self.path):
            with whole.open("wb") as raw:
                with _packed(self.path, raw) as first:
                    first.write(row_object(_header(header)) + b"\n")
                with self._body.open("rb") as body:
                    shutil.copyfileobj(body, raw, 2**20)
            self._body.unlink()
            whole.replace(self.path)
        return self.written

    def abandon(self) -> None:
        """Leave nothing behind."""
        with suppress(OSError):
            self._body.unlink(missing_ok=True)


@contextmanager
def _typed(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TraceError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def _packed(path: Path, raw: BinaryIO) -> Iterator[BinaryIO]:
    """A writer in the packing that the name asks for; several of one kind after another are one file."""
    if path.suffix == ".gz":
        with gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=0) as packed:
            yield cast(BinaryIO, packed)
    elif path.suffix == ".zst":
        with zstandard.ZstdCompressor().stream_writer(raw, closefd=False) as packed_zst:
            yield cast(BinaryIO, packed_zst)
    else:
        yield raw


def _header(header: TraceHeader) -> Mapping[str, Any]:
    return {
        "format": FORMAT_NAME,
        "version": header.format_version,
        "source": header.source,
        "source_sha256": header.source_sha256,
        "reader": header.reader,
        "reader_version": header.reader_version,
        "origin_ns": header.origin_ns,
        "zone": header.zone,
        "resolution_ns": header.resolution_ns,
        "transforms": [dict(step) for step in header.transforms],
    }


def _canonical(piece: Trace) -> Iterator[bytes]:
    """One object per request, without what is not known."""
    names = [name for name in OPTIONAL_COLUMNS if name in piece.columns]
    columns = {name: _values(piece, name) for name in names}
    told = {name: _told(piece, name) for name in ("arrival_ns", "input_tokens", "output_tokens")}
    plain = {name: getattr(piece, name).tolist() for name in (*_PLAIN, *told)}
    qualities, flags = piece.arrival_quality.tolist(), piece.flags.tolist()
    for row in range(len(piece)):
        found: dict[str, Any] = {name: plain[name][row] for name in _PLAIN}
        found |= {name: plain[name][row] for name, known in told.items() if known[row]}
        if qualities[row] != Quality.EXACT:
            found["quality"] = Quality(qualities[row]).name.lower()
        if flags[row]:
            found["flags"] = [str(flag.name).lower() for flag in Flag(flags[row])]
        found |= {name: values[row] for name, values in columns.items() if values[row] is not None}
        yield row_object(found)


def _told(piece: Trace, name: str) -> list[bool]:
    mask = piece.missing.get(name)
    return [True] * len(piece) if mask is None else (~mask).tolist()


def _values(piece: Trace, name: str) -> list[Any]:
    """A column as a list, None where the source did not say."""
    column, told = piece.columns[name], _told(piece, name)
    found = [column.row(row) for row in range(len(piece))] if isinstance(column, Ragged) else column.tolist()
    return [value if known else None for value, known in zip(found, told, strict=True)]


def _mooncake(piece: Trace, written: Written) -> Iterator[bytes]:
    """Mooncake's four fields. Raises WorkloadError where the trace lacks arrivals or lengths."""
    if piece.absent:
        raise WorkloadError(
            f"{piece.header.source} has no {' and no '.join(piece.absent)}, which Mooncake's format needs"
        )
    for name in piece.columns:
        if name not in ("prefix_hashes", "block_tokens") and (
            count := sum(v is not None for v in _values(piece, name))
        ):
            written.left_out[name] = written.left_out.get(name, 0) + count
    if unsure := sum(int(mask.sum()) for name, mask in piece.missing.items() if name.endswith("put_tokens")):
        remark = "lengths that the source does not tell are written as 0"
        written.remarks[remark] = written.remarks.get(remark, 0) + unsure
    hashes = _values(piece, "prefix_hashes") if "prefix_hashes" in piece.columns else [None] * len(piece)
    sizes = _values(piece, "block_tokens") if "block_tokens" in piece.columns else [None] * len(piece)
    plain = (getattr(piece, name).tolist() for name in ("arrival_ns", "input_tokens", "output_tokens"))
    for arrival_ns, tokens_in, tokens_out, ids, size in zip(*plain, hashes, sizes, strict=True):
        whole_ms, rest = divmod(arrival_ns, _NS_PER_MS)
        found = {"timestamp": arrival_ns / _NS_PER_MS if rest else whole_ms, "input_length": tokens_in}
        found["output_length"] = tokens_out
        if ids is not None and size is not None:
            found["hash_ids"] = _regrouped(ids, size, piece.header.source, written)
        yield row_object(found)


def _regrouped(ids: Any, size: int, source: str, written: Written) -> Any:
    """Hashes of blocks of 512 tokens: a chained hash names all before it, so the last of each 512 tokens is taken."""
    if size == MOONCAKE_BLOCK:
        return ids
    each, odd = divmod(MOONCAKE_BLOCK, size)
    if odd:
        raise WorkloadError(f"{source}: blocks of {size} tokens do not make up Mooncake's of {MOONCAKE_BLOCK}")
    remark = f"blocks of {size} tokens were put together to {MOONCAKE_BLOCK}: shared parts of those are lost"
    written.remarks[remark] = written.remarks.get(remark, 0) + 1
    ends = np.append(np.arange(each - 1, len(ids), each), len(ids) - 1)
    return ids[np.unique(ends[ends >= 0])]
