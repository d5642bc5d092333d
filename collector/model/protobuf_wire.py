"""Protobuf's wire format, as far as remote write needs it: numbers, and the fields of a message.

Everything raises IngestError, or IndexError where the bytes end within a number.
"""

import struct
from collections.abc import Iterator

from collector.model.errors import IngestError


def varint(number: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def delimited(tag: int, content: bytes) -> bytes:
    """A field of text, bytes or a message."""
    return bytes((tag,)) + varint(len(content)) + content


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position``, and the position after it."""
    number = shift = 0
    while True:
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 63:
            raise IngestError("remote write: a number has more than ten bytes")


def signed(number: int) -> int:
    """An int64 from its 64 bits."""
    number &= 0xFFFF_FFFF_FFFF_FFFF
    return number - (1 << 64) if number >> 63 else number


def fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of one message: (tag, where the content starts, where it ends)."""
    while position < end:
        tag, position = read_varint(data, position)
        kind = tag & 7
        if kind == 2:
            length, position = read_varint(data, position)
            stop = position + length
        elif kind == 0:
            stop = read_varint(data, position)[1]
        elif kind in (1, 5):
            stop = position + (8 if kind == 1 else 4)
        else:
            raise IngestError(f"remote write: protobuf wire type {kind} is not in use")
        if stop > end:
            raise IngestError("remote write: the request is cut short")
        yield tag, position, stop
        position = stop


def texts(data: bytes, start: int, end: int) -> dict[int, str]:
    """The text fields of one message by tag; of a repeated one the last."""
    try:
        return {tag: data[at:stop].decode() for tag, at, stop in fields(data, start, end) if tag & 7 == 2}
    except UnicodeDecodeError as error:
        raise IngestError("remote write: names and label values are UTF-8") from error


def number_and_moment(data: bytes, start: int, end: int, value_tag: int, time_tag: int) -> tuple[float, int]:
    """The double and the int64 of one message; 0 where a field is absent."""
    value, moment = 0.0, 0
    for tag, at, _ in fields(data, start, end):
        if tag == value_tag:
            value = struct.unpack_from("<d", data, at)[0]
        elif tag == time_tag:
            moment = signed(read_varint(data, at)[0])
    return value, moment
