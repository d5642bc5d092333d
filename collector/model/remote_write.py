"""Prometheus remote write 1.0 on the wire: snappy-compressed protobuf, written and read without generated classes.

Source: prometheus/prompb/remote.proto and types.proto.

    WriteRequest    1: TimeSeries (repeated)   3: MetricMetadata (repeated)
    TimeSeries      1: Label (repeated)        2: Sample (repeated)   3: Exemplar (repeated)   4: Histogram (repeated)
    Label           1: name                    2: value
    Sample          1: value (double)          2: timestamp (int64, Unix milliseconds)
    Exemplar        1: Label (repeated)        2: value (double)      3: timestamp
    MetricMetadata  1: type (number)           2: family              4: help                  5: unit

The reader keeps each series' raw label bytes as the key to its label set, so labels are decoded once per sender and
series. Requests of a known shape (``write_shape``) are not walked through at all. Native histograms are counted and
left out.
"""

import struct
from collections.abc import Iterable

import cramjam
import numpy as np

from collector.model.errors import IngestError
from collector.model.exemplars import Exemplar
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.protobuf_wire import delimited, fields, number_and_moment, read_varint, texts, varint
from collector.model.series import Float64Array, Int64Array, Series
from collector.model.write_shape import METRIC_TYPES, SHIFTS, Batch, Shapes, WriteRequest, WrittenMetadata

CONTENT_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

MAX_BODY_BYTES = 64 << 20
"""Largest request that is read, uncompressed."""

MAX_CACHED_SERIES = 200_000

_SIX_BYTE_VARINT = (1 << 35, 1 << 42)
"""Varints of six bytes: every millisecond from 1971 to 2109."""


def encode(series: Iterable[Series]) -> bytes:
    """One compressed write request that holds every sample of ``series``."""
    body = bytearray()
    for one in series:
        body += delimited(0x0A, encode_labels(one.labels) + encode_samples(one.timestamps_ms, one.values))
    return bytes(cramjam.snappy.compress_raw(bytes(body)))


def encode_labels(labels: Labels) -> bytes:
    """A series' labels, uncompressed."""
    return b"".join(
        delimited(0x0A, delimited(0x0A, name.encode()) + delimited(0x12, value.encode())) for name, value in labels
    )


def encode_samples(timestamps_ms: Int64Array, values: Float64Array) -> bytes:
    """A series' samples, uncompressed: 18 bytes each but for times before 1971 or after 2109."""
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
    rows[:, 12:] = (timestamps_ms[:, None] >> SHIFTS & 0x7F) | (0x80, 0x80, 0x80, 0x80, 0x80, 0)
    return rows.tobytes()


def _encode_sample(timestamp_ms: int, value: float) -> bytes:
    return delimited(0x12, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(timestamp_ms & 0xFFFF_FFFF_FFFF_FFFF))


def encode_exemplar(exemplar: Exemplar) -> bytes:
    """An exemplar of a series, uncompressed."""
    moment = b"\x18" + varint(exemplar.timestamp_ms & 0xFFFF_FFFF_FFFF_FFFF)
    return delimited(0x1A, encode_labels(exemplar.labels) + b"\x11" + struct.pack("<d", exemplar.value) + moment)


def encode_metadata(families: Iterable[WrittenMetadata]) -> bytes:
    """What metric families mean, uncompressed."""
    return b"".join(
        delimited(
            0x1A,
            b"\x08"
            + varint(metric_type_number(one.type))
            + b"".join(
                delimited(tag, text.encode())
                for tag, text in ((0x12, one.family), (0x22, one.help), (0x2A, one.unit))
                if text
            ),
        )
        for one in families
    )


class WriteReader:
    """Reads write requests, remembering label sets by their bytes. Not for several threads at once."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body_bytes = max_body_bytes
        self._labels: dict[bytes, Labels] = {}
        self._shapes = Shapes()

    def read(self, body: bytes) -> WriteRequest:
        """Read one compressed request; raises IngestError, naming the reason, when it is not one."""
        data = decompressed(body, self._max_body_bytes)
        raw = np.frombuffer(data + bytes(8), dtype=np.uint8)
        shape = self._shapes.find(raw)
        if shape is not None:
            return shape.fill(raw)
        batch = Batch(zero_at=len(data))
        try:
            for tag, start, end in fields(data, 0, len(data)):
                if tag == 0x0A:
                    self._read_series(data, start, end, batch)
                elif tag == 0x1A:
                    _read_metadata(data, start, end, batch)
        except (IndexError, struct.error) as error:
            raise IngestError("remote write: the request is cut short") from error
        if len(self._labels) > MAX_CACHED_SERIES:
            self._labels.clear()
        return self._shapes.fill(batch, raw)

    def _read_series(self, data: bytes, start: int, end: int, batch: Batch) -> None:
        position = start
        while position < end and data[position] == 0x0A:
            length, position = read_varint(data, position + 1)
            position += length
        if position > end:
            raise IngestError("remote write: a label is cut short")
        raw = data[start:position]
        labels = self._labels.get(raw)
        if labels is None:
            labels = self._labels[raw] = named(_read_labels(raw, 0, len(raw), 0x0A))
        batch.open(labels)
        while position < end:
            after = batch.read_sample(data, position, end) if data[position] == 0x12 else 0
            position = after or _read_other(data, position, end, batch)


def _read_other(data: bytes, position: int, end: int, batch: Batch) -> int:
    tag, start, stop = next(fields(data, position, end))
    if tag == 0x12:
        batch.read_odd_sample(data, start, stop)
    elif tag == 0x1A:
        value, timestamp_ms = number_and_moment(data, start, stop, 0x11, 0x18)
        labels = from_mapping(_read_labels(data, start, stop, 0x0A))
        batch.exemplars.append(Exemplar(batch.labels[-1], labels, value, timestamp_ms))
    elif tag == 0x22:
        batch.native_histograms += 1
    elif tag == 0x0A:
        raise IngestError("remote write: labels stand before samples")
    return stop


def _read_metadata(data: bytes, start: int, end: int, batch: Batch) -> None:
    kind = 0
    for tag, at, _ in fields(data, start, end):
        if tag == 0x08:
            kind = read_varint(data, at)[0]
    text = texts(data, start, end)
    if family := text.get(0x12, ""):
        batch.metadata[family] = WrittenMetadata(family, metric_type(kind), text.get(0x22, ""), text.get(0x2A, ""))


def metric_type(number: int) -> str:
    """The type of a metric family by its number; ``unknown`` for one that is not in use."""
    return METRIC_TYPES[number] if number < len(METRIC_TYPES) else METRIC_TYPES[0]


def metric_type_number(kind: str) -> int:
    """The number of a type, that of ``unknown`` for what has none."""
    return METRIC_TYPES.index(kind) if kind in METRIC_TYPES else 0


def decompressed(body: bytes, limit_bytes: int) -> bytes:
    """The protobuf of a snappy body; IngestError where it is none or longer than the limit."""
    try:
        size, _ = read_varint(body, 0)
        if size > limit_bytes:
            raise IngestError(f"remote write: {size} bytes uncompressed; at most {limit_bytes} are taken")
        return bytes(cramjam.snappy.decompress_raw(body))
    except (IndexError, cramjam.DecompressionError) as error:
        raise IngestError(f"remote write: the body is not in snappy's block format: {error}") from error


def named(pairs: dict[str, str]) -> Labels:
    """The label set of a series; IngestError where it has no metric name."""
    if not pairs.get(METRIC_NAME):
        raise IngestError(f"remote write: the series {pairs} has no metric name")
    return from_mapping(pairs)


def _read_labels(data: bytes, start: int, end: int, tag: int) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for found, at, stop in fields(data, start, end):
        if found == tag:
            parts = texts(data, at, stop)
            pairs[parts.get(0x0A, "")] = parts.get(0x12, "")
    return pairs
