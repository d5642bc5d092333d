"""Files that are compressed if their name says so: ``.gz``, ``.zst``; ``-`` is standard output or input."""

import contextlib
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from collector.model.errors import ConfigError

PLAIN = Path("-")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A stream to write to. The file appears under its name once the block ends well, and not at all otherwise."""
    if path == PLAIN:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as raw, _packed(raw, path.suffix) as stream:
            yield stream
        unfinished.replace(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """A stream to read from; ConfigError where the file is none of what its name says."""
    try:
        if path == PLAIN:
            yield sys.stdin.buffer
        else:
            with path.open("rb") as raw, _unpacked(raw, path.suffix) as stream:
                yield stream
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _packed(raw: BinaryIO, suffix: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=6, mtime=0))
    if suffix == ".zst":
        return cast(BinaryIO, zstandard.ZstdCompressor(level=6).stream_writer(raw, closefd=False))
    return contextlib.nullcontext(raw)


def _unpacked(raw: BinaryIO, suffix: str) -> contextlib.AbstractContextManager[BinaryIO]:
    if suffix == ".gz":
        return cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb"))
    if suffix == ".zst":
        import io

        return cast(BinaryIO, io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw, closefd=False)))
    return contextlib.nullcontext(raw)
