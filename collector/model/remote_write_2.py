"""Prometheus remote write 2.0 on the wire, read and written without generated classes.

Source: the remote write 2.0 specification, ``io.prometheus.write.v2.Request``.

    Request     4: symbols (text, repeated; the first is empty)   5: TimeSeries (repeated)
    TimeSeries  1: label references (packed; name, value, ...)    2: Sample (repeated)   3: Histogram (repeated)
                4: Exemplar (repeated)   5: Metadata              6: created (int64, Unix milliseconds)
    Sample      1: value (double)        2: timestamp             3: start (later drafts, in place of "created")
    Exemplar    1: label references      2: value (double)        3: timestamp
    Metadata    1: type (number)         3: help reference        4: unit reference

References count into the symbols. As long as a sender repeats its symbols, a series' raw references are the key to its
label set; requests of a known shape (``write_shape``) are not walked through at all. Times of creation are read past.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import cramjam
import numpy as np

from collector.model.errors import IngestError
from collector.model.exemplars import Exemplar
from collector.model.labels import METRIC_NAME, Labels, from_mapping, get
from collector.model.protobuf_wire import delimited, fields, number_and_moment, read_varint, varint
from collector.model.remote_write import (
    MAX_BODY_BYTES,
    MAX_CACHED_SERIES,
    decompressed,
    encode_samples,
    metric_type,
    metric_type_number,
    named,
)
from collector.model.series import Series
from collector.model.write_shape import Batch, Shapes, WriteRequest, WrittenMetadata

MESSAGE = "io.prometheus.write.v2.Request"
"""The ``proto`` parameter of a Content-Type that announces this version."""

_SUFFIXES = ("_bucket", "_count", "_sum", "_total")
_MEMBERS = {"histogram": ("_bucket", "_count", "_sum"), "summary": ("_count", "_sum")}


CONTENT_HEADERS = {
    "Content-Type": f"application/x-protobuf;proto={MESSAGE}",
    "Content-Encoding": "snappy",
    "X-Prometheus-Remote-Write-Version": "2.0.0",
}


def encode(
    series: Iterable[Series],
    exemplars: Iterable[Exemplar] = (),
    described: Mapping[str, WrittenMetadata] = MappingProxyType({}),
) -> bytes:
    """A compressed write request: series with samples, exemplars, and of both what is ``described`` of their families.

    Exemplars stand in series of their own, without samples.
    """
    numbers = {"": 0}
    body = bytearray()

    def reference(text: str) -> bytes:
        return varint(numbers.setdefault(text, len(numbers)))

    def references(labels: Labels) -> bytes:
        return delimited(0x0A, b"".join(reference(text) for pair in labels for text in pair))

    def meaning(labels: Labels) -> bytes:
        found = _meaning(get(labels, METRIC_NAME), described)
        if found is None:
            return b""
        texts = b"\x18" + reference(found.help) + b"\x20" + reference(found.unit)
        return delimited(0x2A, b"\x08" + varint(metric_type_number(found.type)) + texts)

    for one in series:
        if len(one.values):
            samples = encode_samples(one.timestamps_ms, one.values)
            body += delimited(0x2A, references(one.labels) + samples + meaning(one.labels))
    for exemplar in exemplars:
        value = b"\x11" + struct.pack("<d", exemplar.value)
        moment = b"\x18" + varint(exemplar.timestamp_ms & 0xFFFF_FFFF_FFFF_FFFF)
        inside = delimited(0x22, references(exemplar.labels) + value + moment)
        body += delimited(0x2A, references(exemplar.series) + inside + meaning(exemplar.series))
    symbols = b"".join(delimited(0x22, text.encode()) for text in numbers)
    return bytes(cramjam.snappy.compress_raw(symbols + bytes(body)))


def _meaning(metric: str, described: Mapping[str, WrittenMetadata]) -> WrittenMetadata | None:
    found = described.get(metric)
    for suffix in _SUFFIXES if found is None else ():
        if metric.endswith(suffix):
            found = described.get(metric.removesuffix(suffix))
    return found


class WriteReader2:
    """Reads write requests of version 2.0. Not for several threads at once."""

    def __init__(self, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self._max_body_bytes = max_body_bytes
        self._symbols: tuple[bytes, ...] = ()
        self._texts: tuple[str, ...] = ()
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
            found = list(fields(data, 0, len(data)))
            self._learn(tuple(data[start:end] for tag, start, end in found if tag == 0x22))
            for tag, start, end in found:
                if tag == 0x2A:
                    self._read_series(data, start, end, batch)
        except (IndexError, struct.error) as error:
            raise IngestError("remote write: the request is cut short") from error
        return self._shapes.fill(batch, raw)

    def _learn(self, symbols: tuple[bytes, ...]) -> None:
        if symbols == self._symbols and len(self._labels) <= MAX_CACHED_SERIES:
            return
        if symbols and symbols[0]:
            raise IngestError("remote write: the first symbol is the empty text")
        try:
            self._texts = tuple(symbol.decode() for symbol in symbols)
        except UnicodeDecodeError as error:
            raise IngestError("remote write: names and label values are UTF-8") from error
        self._symbols = symbols
        self._labels.clear()

    def _read_series(self, data: bytes, start: int, end: int, batch: Batch) -> None:
        position = start
        if position < end and data[position] == 0x0A:
            length, position = read_varint(data, position + 1)
            start, position = position, position + length
            if position > end:
                raise IngestError("remote write: label references are cut short")
        raw = data[start:position]
        labels = self._labels.get(raw)
        if labels is None:
            labels = self._labels[raw] = named(self._pairs(list(_numbers(raw))))
        batch.open(labels)
        while position < end:
            after = batch.read_sample(data, position, end) if data[position] == 0x12 else 0
            position = after or self._read_other(data, position, end, batch)

    def _read_other(self, data: bytes, position: int, end: int, batch: Batch) -> int:
        tag, start, stop = next(fields(data, position, end))
        if tag == 0x12:
            batch.read_odd_sample(data, start, stop)
        elif tag == 0x1A:
            batch.native_histograms += 1
        elif tag == 0x22:
            batch.exemplars.append(self._exemplar(data, start, stop, batch.labels[-1]))
        elif tag == 0x2A:
            self._read_metadata(data, start, stop, batch)
        elif tag in (0x0A, 0x08):
            raise IngestError("remote write: label references stand once, packed, before samples")
        return stop

    def _exemplar(self, data: bytes, start: int, end: int, series: Labels) -> Exemplar:
        value, timestamp_ms = number_and_moment(data, start, end, 0x11, 0x18)
        references = [
            number for tag, at, stop in fields(data, start, end) if tag == 0x0A for number in _numbers(data[at:stop])
        ]
        return Exemplar(series, from_mapping(self._pairs(references)), value, timestamp_ms)

    def _read_metadata(self, data: bytes, start: int, end: int, batch: Batch) -> None:
        numbers = {tag: read_varint(data, at)[0] for tag, at, _ in fields(data, start, end) if tag & 7 == 0}
        kind = metric_type(numbers.get(0x08, 0))
        text, unit = self._symbol(numbers.get(0x18, 0)), self._symbol(numbers.get(0x20, 0))
        if kind == "unknown" and not text and not unit:
            return
        name = get(batch.labels[-1], METRIC_NAME)
        suffix = next((end for end in _MEMBERS.get(kind, ()) if name.endswith(end)), "")
        family = name.removesuffix(suffix)
        batch.metadata[family] = WrittenMetadata(family, kind, text, unit)

    def _pairs(self, references: Sequence[int]) -> dict[str, str]:
        if len(references) % 2:
            raise IngestError(f"remote write: {len(references)} label references; they come in pairs")
        texts = [self._symbol(reference) for reference in references]
        return dict(zip(texts[::2], texts[1::2], strict=True))

    def _symbol(self, reference: int) -> str:
        if reference >= len(self._texts):
            if not reference:
                return ""
            raise IngestError(f"remote write: symbol {reference} is named; there are {len(self._texts)}")
        return self._texts[reference]


def _numbers(raw: bytes) -> Iterator[int]:
    position = 0
    while position < len(raw):
        number, position = read_varint(raw, position)
        yield number
