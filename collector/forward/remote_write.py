"""Remote write, going out: samples as they are stored, relabelled, queued in the form of 1.0, sent in batches.

A target's series are the same from scrape to scrape, so their request is kept as a template in which only values and
times are filled in. Exemplars go as series without samples. What metrics mean goes from time to time, as records of no
samples, in 1.0; in 2.0 it stands beside each series.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import cramjam
import httpx
import numpy as np

from collector.forward.queue import Batch, DiskQueue
from collector.forward.sender import Heard, Post
from collector.model import remote_write_2
from collector.model.errors import IngestError, StoreError
from collector.model.exemplars import Exemplar
from collector.model.labels import METRIC_NAME, Labels, from_mapping, get
from collector.model.protobuf_wire import delimited
from collector.model.remote_write import (
    CONTENT_HEADERS,
    WriteReader,
    encode_exemplar,
    encode_labels,
    encode_metadata,
    encode_samples,
)
from collector.model.remote_write_2 import CONTENT_HEADERS as CONTENT_HEADERS_2
from collector.model.remote_write_2 import MESSAGE as MESSAGE_2
from collector.model.series import STALE_NAN, Float64Array, Int64Array, Series
from collector.model.write_shape import ByteArray, WrittenMetadata
from collector.scrape.relabel import Rule, relabel

KIND = "samples"
MESSAGE_1 = "prometheus.WriteRequest"
MAX_SAMPLES = 2000
"""Samples of one request, unless one series alone has more."""

MAX_BYTES = 16 << 20
MAX_CACHED_LABELS = 200_000

_ONE_TIME = np.zeros(1, dtype=np.int64)
_ONE_VALUE = np.zeros(1, dtype=np.float64)


class RemoteWriteOut:
    """How a batch of samples becomes a request."""

    def __init__(
        self,
        url: str,
        max_samples: int = MAX_SAMPLES,
        message: str = MESSAGE_1,
        described: Mapping[str, WrittenMetadata] = MappingProxyType({}),
    ) -> None:
        self.max_items = max_samples
        self.max_bytes = MAX_BYTES
        self._url = url
        self._described = described
        self._reader = WriteReader() if message == MESSAGE_2 else None

    def post(self, batch: Batch) -> Post:
        """Requests are lists of series: one after the other they are one request. StoreError where one is damaged."""
        try:
            body = b"".join(bytes(cramjam.snappy.decompress_raw(payload)) for payload in batch.payloads)
        except cramjam.DecompressionError as error:
            raise StoreError(f"queued samples are damaged: {error}") from error
        packed = bytes(cramjam.snappy.compress_raw(body))
        if self._reader is None:
            return Post(self._url, packed, CONTENT_HEADERS)
        try:
            request = self._reader.read(packed)
        except IngestError as error:
            raise StoreError(f"queued samples are damaged: {error}") from error
        body = remote_write_2.encode(request.series, request.exemplars, self._described)
        return Post(self._url, body, CONTENT_HEADERS_2)

    def heard(self, batch: Batch, answer: httpx.Response) -> Heard:
        """The text of a refusal."""
        return Heard("" if answer.is_success else answer.text)


@dataclass(frozen=True, slots=True)
class Describing:
    """Whether metadata goes along, how often in 1.0, and how many families one request tells of."""

    send: bool = True
    every_s: float = 60.0
    max_families: int = 2000


DESCRIBING = Describing()


@dataclass(frozen=True, slots=True)
class _Template:
    """The request of some series of one layout: its bytes, and where of which column value and time go."""

    columns: Int64Array
    raw: ByteArray
    value_at: Int64Array
    time_at: Int64Array

    def fill(self, timestamp_ms: int, values: Float64Array) -> bytes:
        raw = self.raw.copy()
        taken = np.ascontiguousarray(values[self.columns], dtype="<f8")
        raw[self.value_at[:, None] + np.arange(8)] = taken.view(np.uint8).reshape(-1, 8)
        sample = np.frombuffer(encode_samples(np.array([timestamp_ms]), _ONE_VALUE), dtype=np.uint8)
        raw[self.time_at[:, None] + np.arange(6)] = sample[12:]
        return raw.tobytes()


@dataclass(slots=True)
class _Group:
    """A scrape group: the layout of its last scrape, and the templates of that."""

    layout: Sequence[Labels]
    templates: tuple[_Template, ...]


class Samples:
    """Puts samples into a queue. Calls of one group must not overlap.

    ``external`` labels are given to series that have none of that name, before the rules. Metadata, ``described`` by
    family, goes along with samples once every while.
    """

    def __init__(
        self,
        queue: DiskQueue,
        rules: Sequence[Rule] = (),
        max_samples: int = MAX_SAMPLES,
        external: Labels = (),
        with_exemplars: bool = False,
        described: Mapping[str, WrittenMetadata] = MappingProxyType({}),
        describing: Describing = DESCRIBING,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._rules = tuple(rules)
        self._external = dict(external)
        self._max_samples = max_samples
        self._groups: dict[str, _Group] = {}
        self._relabelled: dict[Labels, Labels | None] = {}
        self._with_exemplars = with_exemplars
        self._described, self._describing, self._now_s = described, describing, now_s
        self._describe_at_s = now_s()

    def scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        """All series of one scrape, and a stale marker for those of the last one that are absent now."""
        group = self._groups.get(group_key)
        if group is None or group.layout is not layout:
            if group is not None:
                now = frozenset(layout)
                self._end([labels for labels in group.layout if labels not in now], timestamp_ms)
            group = self._groups[group_key] = _Group(layout, tuple(self._templates(layout)))
        if not 1 << 35 <= timestamp_ms < 1 << 42:
            times = np.array([timestamp_ms])
            return self.series(Series(one, times, values[i : i + 1]) for i, one in enumerate(layout))
        for template in group.templates:
            self._put(template.fill(timestamp_ms, values), len(template.columns))
        return None

    def stale(self, group_key: str, timestamp_ms: int) -> None:
        """Every series of the group's last scrape ends."""
        group = self._groups.pop(group_key, None)
        if group is not None:
            self._end(group.layout, timestamp_ms)

    def series(self, series: Iterable[Series]) -> None:
        """Samples with times of their own."""
        body, items = bytearray(), 0
        for one in series:
            labels = self._relabel(one.labels)
            for start in range(0, len(one.values) if labels else 0, self._max_samples):
                end = start + self._max_samples
                times, values = one.timestamps_ms[start:end], one.values[start:end]
                if items and items + len(values) > self._max_samples:
                    self._put(bytes(body), items)
                    body, items = bytearray(), 0
                body += delimited(0x0A, encode_labels(labels or ()) + encode_samples(times, values))
                items += len(values)
        if items:
            self._put(bytes(body), items)

    def exemplars(self, exemplars: Sequence[Exemplar]) -> None:
        """Exemplars, where they are to be passed on; they are relabelled as their series are."""
        named = [(labels, one) for one in exemplars if self._with_exemplars and (labels := self._relabel(one.series))]
        for start in range(0, len(named), self._max_samples):
            some = named[start : start + self._max_samples]
            series = (delimited(0x0A, encode_labels(labels) + encode_exemplar(one)) for labels, one in some)
            self._put(b"".join(series), len(some))

    def _end(self, layout: Iterable[Labels], timestamp_ms: int) -> None:
        times, values = np.array([timestamp_ms]), np.array([STALE_NAN])
        self.series(Series(labels, times, values) for labels in dict.fromkeys(layout))

    def _put(self, body: bytes, items: int) -> None:
        if self._described and self._now_s() >= self._describe_at_s:
            self._describe_at_s = self._now_s() + self._describing.every_s
            families, most = tuple(self._described.values()), self._describing.max_families
            for start in range(0, len(families), most):
                self._enqueue(encode_metadata(families[start : start + most]), 0)
        self._enqueue(body, items)

    def _enqueue(self, body: bytes, items: int) -> None:
        self._queue.append(KIND, bytes(cramjam.snappy.compress_raw(body)), items)

    def _relabel(self, labels: Labels) -> Labels | None:
        if not self._rules and not self._external:
            return labels
        if labels not in self._relabelled:
            if len(self._relabelled) >= MAX_CACHED_LABELS:
                self._relabelled.clear()
            changed = relabel(self._external | dict(labels), self._rules)
            kept = from_mapping(changed) if changed else ()
            self._relabelled[labels] = kept if get(kept, METRIC_NAME) else None
        return self._relabelled[labels]

    def _templates(self, layout: Sequence[Labels]) -> Iterator[_Template]:
        found: dict[Labels, int] = {}
        for column, labels in enumerate(layout):
            changed = self._relabel(labels)
            if changed:
                found.setdefault(changed, column)
        named = list(found.items())
        for start in range(0, len(named), self._max_samples):
            yield _template(named[start : start + self._max_samples])


def _template(named: Sequence[tuple[Labels, int]]) -> _Template:
    raw, ends = bytearray(), []
    blank = encode_samples(_ONE_TIME + (1 << 40), _ONE_VALUE)
    for labels, _ in named:
        raw += delimited(0x0A, encode_labels(labels) + blank)
        ends.append(len(raw))
    at = np.array(ends, dtype=np.int64)
    columns = np.array([column for _, column in named], dtype=np.int64)
    return _Template(columns, np.frombuffer(bytes(raw), dtype=np.uint8), at - 15, at - 6)
