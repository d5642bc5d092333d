"""OTLP/HTTP on the wire: decode requests in protobuf or JSON, gzip or plain, and answer as the specification says.

Source: OpenTelemetry protocol 1.x, "OTLP/HTTP". In JSON, trace and span ids are hexadecimal, not base64.
"""

import base64
import zlib
from typing import TypeVar

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from collector.model.errors import IngestError

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MAX_BODY_BYTES = 64 << 20
"""Largest body that is read, uncompressed."""

_INVALID_ARGUMENT = 3
"""google.rpc.Code of a request that cannot be read."""

Request = TypeVar("Request", bound=Message)


def media_type(content_type: str) -> str:
    """Which of the two encodings a request uses; IngestError for any other."""
    media = content_type.split(";", maxsplit=1)[0].strip().lower()
    if media not in (PROTOBUF, JSON):
        raise IngestError(f'OTLP: content type "{media}"; {PROTOBUF} and {JSON} are read')
    return media


def unfold(body: bytes, content_encoding: str, limit_bytes: int = MAX_BODY_BYTES) -> bytes:
    """The body uncompressed; IngestError where it is not gzip as announced, or too long."""
    if content_encoding in ("", "identity"):
        return body
    if content_encoding != "gzip":
        raise IngestError(f'OTLP: content encoding "{content_encoding}"; gzip is read, or none')
    unzip = zlib.decompressobj(wbits=31)
    try:
        unfolded = unzip.decompress(body, limit_bytes)
    except zlib.error as error:
        raise IngestError(f"OTLP: the body is not gzip: {error}") from error
    if unzip.unconsumed_tail:
        raise IngestError(f"OTLP: more than {limit_bytes} bytes uncompressed")
    if not unzip.eof:
        raise IngestError("OTLP: the gzip body is cut short")
    return unfolded


def decode(request: Request, body: bytes, media: str) -> Request:
    """Fill ``request`` from ``body``; IngestError where it cannot be read."""
    try:
        if media == JSON:
            json_format.Parse(body, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(body)
    except (json_format.ParseError, DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise IngestError(f"OTLP: the body is no {type(request).__name__}: {error}") from error
    return request


def encode(response: Message, media: str) -> bytes:
    """A response in the encoding of its request."""
    if media == JSON:
        return json_format.MessageToJson(response, indent=None).encode()
    return response.SerializeToString()


def encode_refusal(reason: str, media: str) -> bytes:
    """A google.rpc.Status that says why a request was refused."""
    if media == JSON:
        return orjson.dumps({"code": _INVALID_ARGUMENT, "message": reason})
    text = reason.encode()[:16_000]
    length = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 0x7F | 0x80, len(text) >> 7])
    return b"\x08" + bytes([_INVALID_ARGUMENT]) + b"\x12" + length + text


def hex_id(raw: bytes, media: str) -> str:
    """An id as lower-case hexadecimal; what JSON's reader took for base64 was hexadecimal already."""
    return base64.b64encode(raw).decode().lower() if media == JSON else raw.hex()
