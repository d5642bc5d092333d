"""What a write request holds and where in its bytes the samples lie, so that the next one of its shape is not walked.

``Shape`` is the memory of one request: a request that differs in nothing but values and times has the same shape, and
its samples are gathered in two strokes. Both versions of remote write put a sample the same way: a message of field 2
with a double in field 1 and Unix milliseconds in field 2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from collector.model.errors import IngestError
from collector.model.exemplars import Exemplar
from collector.model.labels import Labels
from collector.model.protobuf_wire import number_and_moment
from collector.model.series import Float64Array, Int64Array, Series

ByteArray = npt.NDArray[np.uint8]

MAX_SHAPES = 16
MAX_SHAPE_BYTES = 4 << 20
"""Requests longer than this are walked through every time."""

SHIFTS = np.arange(0, 42, 7, dtype=np.int64)
METRIC_TYPES = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")
"""Of metadata, by number."""


@dataclass(frozen=True, slots=True)
class WrittenMetadata:
    """TYPE, HELP and UNIT of a metric family."""

    family: str
    type: str
    help: str
    unit: str


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """What one request holds.

    Series ``i`` has the labels ``labels[i]`` and the samples from ``bounds[i]`` to ``bounds[i + 1]`` of
    ``timestamps_ms`` and ``values``, both (samples,). Requests of one shape have the same ``labels`` and ``bounds``,
    to the object. ``native_histograms`` counts the histogram samples that were left out.
    """

    labels: tuple[Labels, ...]
    bounds: tuple[int, ...]
    timestamps_ms: Int64Array
    values: Float64Array
    native_histograms: int = 0
    exemplars: tuple[Exemplar, ...] = ()
    metadata: tuple[WrittenMetadata, ...] = ()
    rows: int = 0
    """How many samples each series has, where all have equally many and none is named twice; 0 otherwise."""

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return len(self.values)

    @property
    def series(self) -> tuple[Series, ...]:
        """The series that have samples."""
        return tuple(self._series())

    def _series(self) -> Iterator[Series]:
        start = 0
        for labels, end in zip(self.labels, self.bounds[1:], strict=True):
            if end > start:
                yield Series(labels, self.timestamps_ms[start:end], self.values[start:end])
            start = end


class Batch:
    """One request while it is walked through; ``zero_at`` is where eight zero bytes lie."""

    def __init__(self, zero_at: int) -> None:
        self.labels: list[Labels] = []
        self.exemplars: list[Exemplar] = []
        self.metadata: dict[str, WrittenMetadata] = {}
        self.native_histograms = 0
        self.odd: dict[int, tuple[float, int]] = {}
        self._zero_at = zero_at
        self._starts: list[int] = []
        self._value_at: list[int] = []
        self._time_at: list[int] = []

    def open(self, labels: Labels) -> None:
        """The samples that follow are of this series."""
        self.labels.append(labels)
        self._starts.append(len(self._value_at))

    def read_sample(self, data: bytes, position: int, end: int) -> int:
        """Note the sample whose tag is at ``position``; the position after it, or 0 where it is none of the usual."""
        size = data[position + 1]
        if size == 16 and position + 18 <= end and data[position + 2] == 0x09 and data[position + 11] == 0x10:
            self._value_at.append(position + 3)
            self._time_at.append(position + 12)
            return position + 18
        if size == 7 and position + 9 <= end and data[position + 2] == 0x10:  # proto3 leaves out a value of zero
            self._value_at.append(self._zero_at)
            self._time_at.append(position + 3)
            return position + 9
        return 0

    def read_odd_sample(self, data: bytes, start: int, end: int) -> None:
        """Note a sample of any other make, whose content is between ``start`` and ``end``."""
        self.odd[len(self._value_at)] = number_and_moment(data, start, end, 0x09, 0x10)
        self._value_at.append(self._zero_at)
        self._time_at.append(self._zero_at)

    def finish(self) -> "Shape":
        """Where everything was."""
        series, samples = len(self.labels), len(self._value_at)
        rows = samples // series if series else 0
        regular = rows and self._starts == list(range(0, samples, rows)) and rows * series == samples
        return Shape(
            tuple(self.labels),
            (*self._starts, len(self._value_at)) if self.labels else (0,),
            np.array(self._value_at, dtype=np.int64),
            np.array(self._time_at, dtype=np.int64),
            self.native_histograms,
            tuple(self.exemplars),
            tuple(self.metadata.values()),
            rows if regular and len(set(self.labels)) == series else 0,
        )


@dataclass(frozen=True, slots=True)
class Shape:
    """Where a request's samples lie.

    ``mask`` covers what is no sample: all bits of most bytes, of a timestamp's bytes only those that say whether
    another follows. A request fits whose masked bytes are ``fixed``.
    """

    labels: tuple[Labels, ...]
    bounds: tuple[int, ...]
    value_at: Int64Array
    time_at: Int64Array
    native_histograms: int
    exemplars: tuple[Exemplar, ...]
    metadata: tuple[WrittenMetadata, ...]
    rows: int
    mask: ByteArray | None = None
    fixed: ByteArray | None = None

    def remember(self, raw: ByteArray) -> "Shape":
        """The same with the mask of ``raw``, the request's bytes and eight zeros."""
        mask = np.full(len(raw), 0xFF, dtype=np.uint8)
        mask[self.value_at[:, None] + np.arange(8)] = 0
        mask[self.time_at[:, None] + np.arange(6)] = 0x80
        mask[-8:] = 0xFF
        return replace(self, mask=mask, fixed=raw & mask)

    def fits(self, raw: ByteArray) -> bool:
        """Whether a request differs in nothing but values and times."""
        return self.mask is not None and self.fixed is not None and np.array_equal(raw & self.mask, self.fixed)

    def fill(self, raw: ByteArray, odd: Mapping[int, tuple[float, int]] | None = None) -> WriteRequest:
        """The request whose bytes are ``raw``; IngestError where a time is out of all bounds."""
        values = raw[self.value_at[:, None] + np.arange(8)].view("<f8").reshape(-1)
        bytes_of_time = raw[self.time_at[:, None] + np.arange(6)]
        timestamps_ms = ((bytes_of_time & 0x7F).astype(np.int64) << SHIFTS).sum(axis=1)
        regular = (bytes_of_time >> 7 == (1, 1, 1, 1, 1, 0)).all(axis=1)
        for index, (value, timestamp_ms) in (odd or {}).items():
            values[index], timestamps_ms[index], regular[index] = value, timestamp_ms, True
        if not regular.all():
            raise IngestError("remote write: a timestamp is no number of milliseconds")
        return WriteRequest(
            self.labels,
            self.bounds,
            timestamps_ms,
            values,
            self.native_histograms,
            self.exemplars,
            self.metadata,
            self.rows,
        )


class Shapes:
    """The shapes of the latest requests, by length."""

    def __init__(self) -> None:
        self._shapes: dict[int, Shape] = {}

    def find(self, raw: ByteArray) -> Shape | None:
        """The shape that a request fits, if it is known."""
        shape = self._shapes.get(len(raw))
        return shape if shape is not None and shape.fits(raw) else None

    def fill(self, batch: Batch, raw: ByteArray) -> WriteRequest:
        """What the walk found; its shape is remembered where the next request may have the same."""
        shape = batch.finish()
        if not batch.odd and len(raw) <= MAX_SHAPE_BYTES:
            if len(self._shapes) >= MAX_SHAPES:
                self._shapes.clear()
            self._shapes[len(raw)] = shape.remember(raw)
        return shape.fill(raw, batch.odd)
