"""Prometheus remote write 1.0 on the wire: snappy-compressed protobuf, written and read without generated classes.

Source: prometheus/prompb/remote.proto and types.proto.

    WriteRequest  1: TimeSeries (repeated)   3: MetricMetadata (repeated)
    TimeSeries    1: Label (repeated)        2: Sample (repeated)   3: Exemplar   4: Histogram
    Label         1: name                    2: value
    Sample        1: value (double)          2: timestamp (int64, Unix milliseconds)

The reader keeps each series' raw label bytes as the key to its label set, so labels are decoded once per sender and
series, and remembers the shape of the last request: one of the same shape costs a comparison and two gathers.
"""

import struct
from collections.abc import Iterable

import cramjam
import numpy as np

from collector.model.labels import Labels
from collector.model.series import Float64Array, Int64Array, Series

CONTENT_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

_SIX_BYTE_VARINT = (1 << 35, 1 << 42)
"""Varints of six bytes: every millisecond from 1971 to 2109."""


def encode(series: Iterable[Series]) -> bytes:
    """One compressed write request that holds every sample of ``series``."""
    body = bytearray()
    for one in series:
        message = _encode_labels(one.labels) + _encode_samples(one.timestamps_ms, one.values)
        body += b"\x0a" + _varint(len(message)) + message
    return bytes(cramjam.snappy.compress_raw(bytes(body)))


def _encode_labels(labels: Labels) -> bytes:
    out = bytearray()
    for name, value in labels:
        raw_name, raw_value = name.encode(), value.encode()
        pair = b"\x0a" + _varint(len(raw_name)) + raw_name + b"\x12" + _varint(len(raw_value)) + raw_value
        out += b"\x0a" + _varint(len(pair)) + pair
    return bytes(out)


def _encode_samples(timestamps_ms: Int64Array, values: Float64Array) -> bytes:
    if not len(timestamps_ms):
        return b""
    low, high = _SIX_BYTE_VARINT
    if timestamps_ms.min() < low or timestamps_ms.max() >= high:
        return b"".join(
            _encode_sample(int(time), float(value)) for time, value in zip(timestamps_ms, values, strict=True)
        )
    rows = np.empty((len(timestamps_ms), 18), dtype=np.uint8)
    rows[:, :3] = (0x12, 0x10, 0x09)
    rows[:, 3:11] = np.ascontiguousarray(values, dtype="<f8").view(np.uint8).reshape(-1, 8)
    rows[:, 11] = 0x10
    shifts = np.arange(0, 42, 7, dtype=np.int64)
    rows[:, 12:] = (timestamps_ms[:, None] >> shifts & 0x7F) | (0x80, 0x80, 0x80, 0x80, 0x80, 0)
    return rows.tobytes()


def _encode_sample(timestamp_ms: int, value: float) -> bytes:
    message = b"\x09" + struct.pack("<d", value) + b"\x10" + _varint(timestamp_ms & 0xFFFF_FFFF_FFFF_FFFF)
    return b"\x12" + _varint(len(message)) + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
