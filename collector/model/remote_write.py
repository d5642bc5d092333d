"""Prometheus remote write 1.0 on the wire: snappy-compressed protobuf, written and read without generated classes.

Source: prometheus/prompb/remote.proto and types.proto.

    WriteRequest  1: TimeSeries (repeated)   3: MetricMetadata (repeated)
    TimeSeries    1: Label (repeated)        2: Sample (repeated)   3: Exemplar   4: Histogram
    Label         1: name                    2: value
    Sample        1: value (double)          2: timestamp (int64, Unix milliseconds)

The reader keeps each series' raw label bytes as the key to its label set, so labels are decoded once per sender and
series; values and timestamps of the whole request are gathered at once. It also remembers the shape of a request: the
next one that differs in nothing but values and times is not walked through at all. Native histograms are counted and
left out; exemplars and metadata are passed over.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import cramjam
import numpy as np
import numpy.typing as npt

from collector.model.errors import IngestError
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import Float64Array, Int64Array, Series

CONTENT_HEADERS = {
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}

ByteArray = npt.NDArray[np.uint8]

MAX_BODY_BYTES = 64 << 20
"""Largest request that is read, uncompressed."""

MAX_CACHED_SERIES = 200_000
MAX_SHAPES = 16
MAX_SHAPE_BYTES = 4 << 20
"""Requests longer than this are walked through every time."""

_SIX_BYTE_VARINT = (1 << 35, 1 << 42)
"""Varints of six bytes: every millisecond from 1971 to 2109."""

_SHIFTS = np.arange(0, 42, 7, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What one request holds; ``native_histograms`` counts the histogram samples that were left out."""

    series: tuple[Series, ...]
    samples: int
    native_histograms: int


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
    rows[:, 12:] = (timestamps_ms[:, None] >> _SHIFTS & 0x7F) | (0x80, 0x80, 0x80, 0x80, 0x80, 0)
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


class WriteReader:
    """Reads write requests, remembering label sets by their bytes. Not for several threads at once."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body_bytes = max_body_bytes
        self._labels: dict[bytes, Labels] = {}
        self._shapes: dict[int, _Shape] = {}

    def read(self, body: bytes) -> WriteRequest:
        """Read one compressed request; raises IngestError, naming the reason, when it is not one."""
        data = _decompressed(body, self._max_body_bytes)
        raw = np.frombuffer(data + bytes(8), dtype=np.uint8)
        shape = self._shapes.get(len(data))
        if shape is not None and shape.fits(raw):
            return shape.fill(raw)
        batch = _Batch(zero_at=len(data))
        try:
            for tag, start, end in _fields(data, 0, len(data)):
                if tag == 0x0A:
                    self._read_series(data, start, end, batch)
        except (IndexError, struct.error) as error:
            raise IngestError("remote write: the request is cut short") from error
        if len(self._labels) > MAX_CACHED_SERIES:
            self._labels.clear()
        shape = batch.finish()
        if batch.odd:
            return shape.fill(raw, batch.odd)
        if len(data) <= MAX_SHAPE_BYTES:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[len(data)] = shape.remember(raw)
        return shape.fill(raw)

    def _read_series(self, data: bytes, start: int, end: int, batch: "_Batch") -> None:
        position = start
        while position < end and data[position] == 0x0A:
            length, position = _read_varint(data, position + 1)
            position += length
        raw = data[start:position]
        labels = self._labels.get(raw)
        if labels is None:
            labels = self._labels[raw] = _read_labels(raw)
        batch.open(labels)
        if position > end:
            raise IngestError("remote write: a label is cut short")
        while position < end:
            position = batch.read_sample(data, position, end)


class _Batch:
    """Where the samples of one request lie, so that all of them are read in two gathers."""

    def __init__(self, zero_at: int) -> None:
        self._zero_at = zero_at
        self._labels: list[Labels] = []
        self._starts: list[int] = []
        self._value_at: list[int] = []
        self._time_at: list[int] = []
        self.odd: dict[int, tuple[float, int]] = {}
        self._histograms = 0

    def open(self, labels: Labels) -> None:
        self._labels.append(labels)
        self._starts.append(len(self._value_at))

    def read_sample(self, data: bytes, position: int, end: int) -> int:
        """Note the field at ``position`` and give the position after it."""
        if data[position] == 0x12:
            size = data[position + 1]
            if size == 16 and position + 18 <= end and data[position + 2] == 0x09 and data[position + 11] == 0x10:
                self._value_at.append(position + 3)
                self._time_at.append(position + 12)
                return position + 18
            if size == 7 and position + 9 <= end and data[position + 2] == 0x10:  # proto3 leaves out a value of zero
                self._value_at.append(self._zero_at)
                self._time_at.append(position + 3)
                return position + 9
        return self._read_odd(data, position, end)

    def _read_odd(self, data: bytes, position: int, end: int) -> int:
        tag, start, stop = next(_fields(data, position, end))
        if tag == 0x12:
            value, timestamp_ms = 0.0, 0
            for inner, at, _ in _fields(data, start, stop):
                if inner == 0x09:
                    value = struct.unpack_from("<d", data, at)[0]
                elif inner == 0x10:
                    timestamp_ms = _signed(_read_varint(data, at)[0])
            self.odd[len(self._value_at)] = (value, timestamp_ms)
            self._value_at.append(self._zero_at)
            self._time_at.append(self._zero_at)
        elif tag == 0x22:
            self._histograms += 1
        elif tag == 0x0A:
            raise IngestError("remote write: labels stand before samples")
        return stop

    def finish(self) -> "_Shape":
        return _Shape(
            tuple(self._labels),
            (*self._starts, len(self._value_at)),
            np.array(self._value_at, dtype=np.int64),
            np.array(self._time_at, dtype=np.int64),
            self._histograms,
        )


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where a request's samples lie: of series ``i`` those from ``bounds[i]`` to ``bounds[i + 1]``.

    ``mask`` covers what is no sample: all bits of most bytes, of a timestamp's bytes only those that say whether
    another follows. A request fits whose masked bytes are ``fixed``.
    """

    labels: tuple[Labels, ...]
    bounds: tuple[int, ...]
    value_at: Int64Array
    time_at: Int64Array
    native_histograms: int
    mask: ByteArray | None = None
    fixed: ByteArray | None = None

    def remember(self, raw: ByteArray) -> "_Shape":
        mask = np.full(len(raw), 0xFF, dtype=np.uint8)
        mask[self.value_at[:, None] + np.arange(8)] = 0
        mask[self.time_at[:, None] + np.arange(6)] = 0x80
        mask[-8:] = 0xFF
        return replace(self, mask=mask, fixed=raw & mask)

    def fits(self, raw: ByteArray) -> bool:
        return self.mask is not None and self.fixed is not None and np.array_equal(raw & self.mask, self.fixed)

    def fill(self, raw: ByteArray, odd: Mapping[int, tuple[float, int]] | None = None) -> WriteRequest:
        values = raw[self.value_at[:, None] + np.arange(8)].view("<f8").reshape(-1)
        bytes_of_time = raw[self.time_at[:, None] + np.arange(6)]
        timestamps_ms = ((bytes_of_time & 0x7F).astype(np.int64) << _SHIFTS).sum(axis=1)
        regular = (bytes_of_time >> 7 == (1, 1, 1, 1, 1, 0)).all(axis=1)
        for index, (value, timestamp_ms) in (odd or {}).items():
            values[index], timestamps_ms[index], regular[index] = value, timestamp_ms, True
        if not regular.all():
            raise IngestError("remote write: a timestamp is no number of milliseconds")
        series = tuple(
            Series(labels, timestamps_ms[start:end], values[start:end])
            for labels, start, end in zip(self.labels, self.bounds[:-1], self.bounds[1:], strict=True)
            if end > start
        )
        return WriteRequest(series, len(values), self.native_histograms)


def _decompressed(body: bytes, limit_bytes: int) -> bytes:
    try:
        size, _ = _read_varint(body, 0)
        if size > limit_bytes:
            raise IngestError(f"remote write: {size} bytes uncompressed; at most {limit_bytes} are taken")
        return bytes(cramjam.snappy.decompress_raw(body))
    except (IndexError, cramjam.DecompressionError) as error:
        raise IngestError(f"remote write: the body is not in snappy's block format: {error}") from error


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of one message: (tag, where the content starts, where it ends)."""
    while position < end:
        tag, position = _read_varint(data, position)
        kind = tag & 7
        if kind == 2:
            length, position = _read_varint(data, position)
            stop = position + length
        elif kind == 0:
            stop = _read_varint(data, position)[1]
        elif kind in (1, 5):
            stop = position + (8 if kind == 1 else 4)
        else:
            raise IngestError(f"remote write: protobuf wire type {kind} is not in use")
        if stop > end:
            raise IngestError("remote write: the request is cut short")
        yield tag, position, stop
        position = stop


def _read_labels(raw: bytes) -> Labels:
    pairs: dict[str, str] = {}
    try:
        for _, start, end in _fields(raw, 0, len(raw)):
            parts = {tag: raw[at:stop].decode() for tag, at, stop in _fields(raw, start, end)}
            pairs[parts.get(0x0A, "")] = parts.get(0x12, "")
    except UnicodeDecodeError as error:
        raise IngestError("remote write: names and label values are UTF-8") from error
    if not pairs.get(METRIC_NAME):
        raise IngestError(f"remote write: the series {pairs} has no metric name")
    return from_mapping(pairs)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
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


def _signed(number: int) -> int:
    number &= 0xFFFF_FFFF_FFFF_FFFF
    return number - (1 << 64) if number >> 63 else number
