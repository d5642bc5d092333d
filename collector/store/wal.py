"""What one write-ahead row holds, as bytes. Knows nothing of SQLite.

A scrape row: the values of one scrape, in the order of its layout, and the numbers of the series that vanished with
it. A batch row: samples of any series at any times. Either is damaged as a whole or not at all: the row's checksum,
kept beside it, covers the payload. ``FORMAT.md`` draws both.
"""

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import zstandard

from collector.model.series import Float64Array, Int64Array
from collector.store.errors import CodecError

_SCRAPE = struct.Struct("<BII")  # packing, values, vanished series
_BATCH = struct.Struct("<BII")  # packing, series, samples
RAW, ZSTD = 0, 1
LEVEL = -1
"""zstd level of rows: on the append path time counts more than bytes, and rows live for one block only."""

_SMALL = 128
_MOST = 1 << 26


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of several series: ``ids`` and ``counts`` (series,), ``timestamps_ms`` and ``values`` (samples,)."""

    ids: Int64Array
    counts: Int64Array
    timestamps_ms: Int64Array
    values: Float64Array


def checksum(payload: bytes) -> int:
    """CRC-32 of a payload, as the row keeps it."""
    return zlib.crc32(payload)


def encode_scrape(values: Float64Array, vanished: Int64Array) -> bytes:
    """Payload of a scrape: ``values`` (series,) float64, ``vanished`` (series,) int64."""
    body = values.astype("<f8", copy=False).tobytes() + vanished.astype("<u4").tobytes()
    packing, body = _pack(body)
    return _SCRAPE.pack(packing, len(values), len(vanished)) + body


def decode_scrape(payload: bytes) -> tuple[Float64Array, Int64Array]:
    """Values and vanished series of a scrape. Raises CodecError."""
    body, values, vanished = _open(payload, _SCRAPE)
    if len(body) != 8 * values + 4 * vanished:
        raise CodecError(f"scrape row has {len(body)} bytes for {values} values and {vanished} vanished series")
    return (
        np.frombuffer(body, "<f8", values).astype(np.float64),
        np.frombuffer(body, "<u4", vanished, 8 * values).astype(np.int64),
    )


def encode_batch(batch: Batch) -> bytes:
    """Payload of a batch."""
    packing, body = _pack(
        batch.ids.astype("<u4").tobytes()
        + batch.counts.astype("<u4").tobytes()
        + batch.timestamps_ms.astype("<i8").tobytes()
        + batch.values.astype("<f8", copy=False).tobytes()
    )
    return _BATCH.pack(packing, len(batch.ids), len(batch.values)) + body


def decode_batch(payload: bytes) -> Batch:
    """Samples of a batch. Raises CodecError."""
    body, series, samples = _open(payload, _BATCH)
    if len(body) != 8 * series + 16 * samples:
        raise CodecError(f"batch row has {len(body)} bytes for {series} series and {samples} samples")
    batch = Batch(
        np.frombuffer(body, "<u4", series).astype(np.int64),
        np.frombuffer(body, "<u4", series, 4 * series).astype(np.int64),
        np.frombuffer(body, "<i8", samples, 8 * series).astype(np.int64),
        np.frombuffer(body, "<f8", samples, 8 * series + 8 * samples).astype(np.float64),
    )
    if int(batch.counts.sum()) != samples:
        raise CodecError(f"batch row counts {int(batch.counts.sum())} samples by series but holds {samples}")
    return batch


def _pack(body: bytes) -> tuple[int, bytes]:
    if len(body) < _SMALL:
        return RAW, body
    packed: bytes = zstandard.ZstdCompressor(level=LEVEL).compress(body)
    return (ZSTD, packed) if len(packed) < len(body) else (RAW, body)


def _open(payload: bytes, header: struct.Struct) -> tuple[bytes, int, int]:
    if len(payload) < header.size:
        raise CodecError(f"row of {len(payload)} bytes is shorter than its header")
    packing, first, second = header.unpack_from(payload)
    body = payload[header.size :]
    if packing == RAW:
        return body, first, second
    if packing != ZSTD:
        raise CodecError(f"row is packed in way {packing}; this program knows {RAW} and {ZSTD}")
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= _MOST:
            raise CodecError(f"row unpacks to {size} bytes; at most {_MOST} are read")
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=size), first, second
    except zstandard.ZstdError as error:
        raise CodecError(f"row cannot be decompressed: {error}") from error
