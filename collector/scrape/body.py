"""Read what a server answers, packed or not, without ever holding more than is allowed.

httpx would unpack a whole chunk at once, and by any method that the server names: a few bytes may become gigabytes.
"""

import zlib

import httpx

from collector.model.errors import ConfigError

HEADERS = {"Accept-Encoding": "gzip"}


async def read_body(response: httpx.Response, limit_bytes: int, beyond: str) -> bytes:
    """The body of a streamed response.

    ConfigError, ``beyond``, where it is longer than the limit; ConfigError where it cannot be unpacked.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", ""):
        raise ConfigError(f'content encoding "{encoding}"; gzip is read, or none')
    if response.is_stream_consumed:  # a transport inside the process answers with what it holds
        if len(response.content) > limit_bytes:
            raise ConfigError(beyond)
        return response.content
    body = bytearray()
    unpack = zlib.decompressobj(wbits=31) if encoding == "gzip" else None
    try:
        async for part in response.aiter_raw():
            if unpack is None:
                body += part
            else:
                unpack = _unpack(unpack, part, body, limit_bytes)
            if len(body) > limit_bytes:
                raise ConfigError(beyond)
    except zlib.error as error:
        raise ConfigError(f"the body is not gzip: {error}") from error
    if unpack is not None and not unpack.eof:
        raise ConfigError("the gzip body is cut short")
    return bytes(body)


def _unpack(unpack: "zlib._Decompress", part: bytes, body: bytearray, limit_bytes: int) -> "zlib._Decompress":
    """Add to ``body`` what ``part`` unpacks to, a byte beyond the limit at most; what takes the next part."""
    while part and len(body) <= limit_bytes:
        if unpack.eof:  # another member follows
            unpack = zlib.decompressobj(wbits=31)
        body += unpack.decompress(part, limit_bytes + 1 - len(body))
        part = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    return unpack
