"""What a server answers is read packed or not, and never beyond its limit."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import ConfigError
from collector.scrape.body import read_body

LIMIT_BYTES = 1 << 20


def read(body: bytes, encoding: str | None = "gzip", chunk: int = 1 << 16, limit_bytes: int = LIMIT_BYTES) -> bytes:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), chunk):
            yield body[start : start + chunk]

    async def run() -> bytes:
        headers = {} if encoding is None else {"content-encoding": encoding}
        return await read_body(httpx.Response(200, content=parts(), headers=headers), limit_bytes, "too long")

    return asyncio.run(run())


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from([None, "identity", "gzip", "GZIP"]))
def test_a_body_arrives_whole_however_it_is_cut(body: bytes, chunk: int, encoding: str | None) -> None:
    packed = gzip.compress(body) if (encoding or "").lower() == "gzip" else body
    assert read(packed, encoding, chunk) == body


def test_members_of_gzip_follow_one_another() -> None:
    assert read(gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n"), chunk=7) == b"a 1\nb 2\n"


@pytest.mark.parametrize("size", [LIMIT_BYTES - 1, LIMIT_BYTES])
def test_a_body_may_be_as_long_as_the_limit(size: int) -> None:
    assert len(read(gzip.compress(bytes(size)))) == size
    assert len(read(bytes(size), None)) == size


def test_a_few_bytes_that_would_become_many_take_no_more_than_the_limit() -> None:
    bomb = gzip.compress(bytes(256 << 20), 9)
    tracemalloc.start()
    with pytest.raises(ConfigError, match="too long"):
        read(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * LIMIT_BYTES


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (b"a 1\n", "gzip", "the body is not gzip"),
        (gzip.compress(b"a 1\n")[:-3], "gzip", "cut short"),
        (b"", "gzip", "cut short"),
        (b"a 1\n", "zstd", 'content encoding "zstd"; gzip is read, or none'),
        (bytes(LIMIT_BYTES + 1), None, "too long"),
    ],
)
def test_what_cannot_be_unpacked_is_told(body: bytes, encoding: str | None, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(body, encoding)


@given(st.binary(max_size=200))
def test_any_bytes_are_gzip_or_refused(body: bytes) -> None:
    try:
        read(body, limit_bytes=100)
    except ConfigError:
        return
