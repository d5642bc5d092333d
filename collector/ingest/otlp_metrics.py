"""OTLP metric requests as series, named and labelled as Prometheus does it.

Sums and gauges become one series per data point's attributes, histograms ``_bucket``, ``_sum`` and ``_count``,
summaries quantiles beside ``_sum`` and ``_count``. Deltas are summed (``otlp_deltas``), exponential histograms become
classic ones (``otlp_exponential``). A resource's ``service.*`` attributes become ``job`` and ``instance``, its others
the labels of ``target_info``.

Label sets are remembered by metric, resource and the bytes of a point's attributes, since a sender repeats them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2 as wire
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.ingest.otlp_attributes import as_text, read_attributes
from collector.ingest.otlp_deltas import Deltas
from collector.ingest.otlp_exponential import classic
from collector.ingest.otlp_ids import SPAN_BYTES, TRACE_BYTES, optional_id
from collector.ingest.otlp_names import label_name, metric_name
from collector.model.exemplars import Exemplar
from collector.model.float_text import float_text
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import STALE_NAN, Float64Array, Int64Array, Series
from collector.model.write_shape import WrittenMetadata

NO_VALUE = 1
"""Flag of a data point that says: the series has ended."""

MAX_CACHED_SERIES = 200_000
MAX_EXEMPLAR_CHARACTERS = 128
"""Of an exemplar's labels together, as OpenMetrics has it; beyond them only its ids are kept."""

DELTA, CUMULATIVE = wire.AGGREGATION_TEMPORALITY_DELTA, wire.AGGREGATION_TEMPORALITY_CUMULATIVE

HistogramPoint = wire.HistogramDataPoint | wire.ExponentialHistogramDataPoint
Point = wire.NumberDataPoint | wire.SummaryDataPoint | HistogramPoint
Identity = tuple[tuple[str, str], ...]
"""``job`` and ``instance`` of a resource."""

Key = tuple[Identity, str, bytes, tuple[float, ...]]
"""Resource, metric, attributes and, of a histogram, bounds."""


@dataclass(slots=True)
class MetricsRead:
    """What one request holds, and one reason per data point that was refused.

    Point ``i`` is of the series ``layout[i]``; requests of the same series have the same ``layout``, to the object.
    """

    layout: list[Labels] = field(default_factory=list)
    timestamps_ms: Int64Array = field(default_factory=lambda: np.empty(0, np.int64))
    values: Float64Array = field(default_factory=lambda: np.empty(0, np.float64))
    distinct: bool = False
    """Whether every point is of another series."""
    exemplars: list[Exemplar] = field(default_factory=list)
    metadata: dict[str, WrittenMetadata] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    @property
    def series(self) -> list[Series]:
        """The points by series, each in the order of time."""
        places: dict[Labels, list[int]] = {}
        for place, labels in enumerate(self.layout):
            places.setdefault(labels, []).append(place)
        sorted_places = ((labels, sorted(at, key=self.timestamps_ms.__getitem__)) for labels, at in places.items())
        return [Series(labels, self.timestamps_ms[at], self.values[at]) for labels, at in sorted_places]


class MetricsReader:
    """Reads metric requests, remembering label sets and sums of deltas. Not for several threads at once."""

    def __init__(self, deltas: Deltas | None = None) -> None:
        self._deltas = deltas or Deltas()
        self._labels: dict[Key, tuple[Labels, ...]] = {}
        self._last = MetricsRead()

    def read(self, request: ExportMetricsServiceRequest) -> MetricsRead:
        """Everything in one request; a point that cannot be kept is refused and the rest read."""
        if len(self._labels) > MAX_CACHED_SERIES:
            self._labels.clear()
        reading = _Reading(self._deltas, self._labels)
        for resource_metrics in request.resource_metrics:
            reading.resource(resource_metrics)
        read = reading.finish()
        if read.layout == self._last.layout:
            read.layout, read.distinct = self._last.layout, self._last.distinct
        else:
            read.distinct = len(set(read.layout)) == len(read.layout) > 0
        self._last = read
        return read


class _Reading:
    """One request while it is read."""

    def __init__(self, deltas: Deltas, labels: dict[Key, tuple[Labels, ...]]) -> None:
        self._deltas = deltas
        self._known = labels
        self._read = MetricsRead()
        self._labels: list[Labels] = []
        self._times_ms: list[int] = []
        self._values: list[float] = []

    def resource(self, resource_metrics: wire.ResourceMetrics) -> None:
        """Read all metrics of one resource, and describe it."""
        identity, information = _identity(resource_metrics.resource)
        first = len(self._times_ms)
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                self._metric(metric, identity)
        if information and identity and len(self._times_ms) > first:
            labels = from_mapping({**information, **dict(identity), METRIC_NAME: "target_info"})
            self._add(labels, max(self._times_ms[first:]), 1.0)

    def finish(self) -> MetricsRead:
        """What was read."""
        read = self._read
        read.layout = self._labels
        read.timestamps_ms = np.array(self._times_ms, dtype=np.int64)
        read.values = np.array(self._values, dtype=np.float64)
        return read

    def _metric(self, metric: wire.Metric, identity: Identity) -> None:
        kind = metric.WhichOneof("data")
        if kind is None:
            return
        data = getattr(metric, kind)
        temporality = getattr(data, "aggregation_temporality", CUMULATIVE)
        monotonic = kind == "sum" and data.is_monotonic
        name = metric_name(metric.name, metric.unit, monotonic_sum=monotonic, gauge=kind == "gauge")
        if not name or temporality not in (DELTA, CUMULATIVE):
            fault = "states no temporality" if name else "has no name of letters or digits"
            self._read.refused += [f'metric "{metric.name}": it {fault}'] * len(data.data_points)
            return
        type_ = "counter" if monotonic else "gauge" if kind == "sum" else kind.removeprefix("exponential_")
        self._read.metadata[name] = WrittenMetadata(name, type_, metric.description, metric.unit)
        readers: dict[str, Callable[[Any, str, Identity, bool], None]]
        readers = {"gauge": self._number, "sum": self._number, "summary": self._summary}
        read = readers.get(kind, self._histogram)
        delta = temporality == DELTA
        for point in data.data_points:
            try:
                if not point.time_unix_nano:
                    raise ValueError("a data point has no time")
                read(point, name, identity, delta)
            except ValueError as error:
                self._read.refused.append(f'metric "{metric.name}": {error}')

    def _number(self, point: wire.NumberDataPoint, name: str, identity: Identity, delta: bool) -> None:
        key = (identity, name, _raw(point.attributes), ())
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = (_labels(point.attributes, identity, name),)
        labels = found[0]
        value = STALE_NAN
        if not point.flags & NO_VALUE:
            value = float(point.as_int if point.HasField("as_int") else point.as_double)
            if delta:
                value = self._deltas.add(labels, point.time_unix_nano, {"": value})[""]
        self._add(labels, point.time_unix_nano // 1_000_000, value)
        for exemplar in point.exemplars:
            self._exemplar(exemplar, labels)

    def _histogram(self, point: HistogramPoint, name: str, identity: Identity, delta: bool) -> None:
        bounds, counts = _buckets(point)
        raw = _raw(point.attributes)
        figures: dict[float | str, float] = dict(zip(bounds, counts, strict=False))
        figures |= {"sum": point.sum, "count": float(point.count)} if point.HasField("sum") else {"count": point.count}
        if delta and not point.flags & NO_VALUE:
            series = _labels(point.attributes, identity, name)
            shape = bounds if isinstance(point, wire.HistogramDataPoint) else ()
            figures = self._deltas.add(series, point.time_unix_nano, figures, shape)
            bounds = tuple(sorted(bound for bound in figures if not isinstance(bound, str)))
        found = self._known.get((identity, name, raw, bounds))
        if found is None:
            found = self._known[identity, name, raw, bounds] = _histogram_labels(point, name, identity, bounds)
        values = [*accumulate(figures[bound] for bound in bounds), figures["count"], figures["count"]]
        values.append(figures.get("sum", math.nan))
        time_ms = point.time_unix_nano // 1_000_000
        for labels, value in zip(found if "sum" in figures else found[:-1], values, strict=False):
            self._add(labels, time_ms, STALE_NAN if point.flags & NO_VALUE else value)
        for exemplar in point.exemplars:
            self._exemplar(exemplar, found[bisect_left(bounds, _value(exemplar))])

    def _summary(self, point: wire.SummaryDataPoint, name: str, identity: Identity, delta: bool) -> None:
        quantiles = tuple(each.quantile for each in point.quantile_values)
        key = (identity, name, _raw(point.attributes), quantiles)
        found = self._known.get(key)
        if found is None:
            members: list[tuple[str, dict[str, str]]] = [(f"{name}_sum", {}), (f"{name}_count", {})]
            members += [(name, {"quantile": float_text(quantile)}) for quantile in quantiles]
            found = tuple(_labels(point.attributes, identity, member, extra) for member, extra in members)
            self._known[key] = found
        values = (point.sum, float(point.count), *(each.value for each in point.quantile_values))
        for labels, value in zip(found, values, strict=True):
            self._add(labels, point.time_unix_nano // 1_000_000, STALE_NAN if point.flags & NO_VALUE else value)

    def _add(self, labels: Labels, time_ms: int, value: float) -> None:
        self._labels.append(labels)
        self._times_ms.append(time_ms)
        self._values.append(value)

    def _exemplar(self, exemplar: wire.Exemplar, series: Labels) -> None:
        ids = {
            "trace_id": optional_id(exemplar.trace_id, TRACE_BYTES) or "",
            "span_id": optional_id(exemplar.span_id, SPAN_BYTES) or "",
        }
        labels = from_mapping({**_attributes(exemplar.filtered_attributes), **ids})
        if sum(len(name) + len(value) for name, value in labels) > MAX_EXEMPLAR_CHARACTERS:
            labels = from_mapping(ids)
        moment_ms = exemplar.time_unix_nano // 1_000_000
        self._read.exemplars.append(Exemplar(series, labels, _value(exemplar), moment_ms))


def _identity(resource: Resource) -> tuple[Identity, dict[str, str]]:
    """``job`` and ``instance``, and the other attributes for ``target_info``."""
    attributes = {key: as_text(value) for key, value in read_attributes(resource.attributes).items()}
    service = attributes.pop("service.name", "")
    namespace = attributes.pop("service.namespace", "")
    instance = attributes.pop("service.instance.id", "")
    job = f"{namespace}/{service}" if namespace and service else service
    identity = tuple((name, value) for name, value in (("job", job), ("instance", instance)) if value)
    return identity, _as_labels(attributes)


def _raw(attributes: Iterable[KeyValue]) -> bytes:
    """Attributes as bytes that tell them from others."""
    parts = [pair.SerializeToString() for pair in attributes]
    return b"".join(parts) if len(parts) < 2 else b"".join(b"%d:%b" % (len(part), part) for part in parts)


def _buckets(point: HistogramPoint) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if isinstance(point, wire.ExponentialHistogramDataPoint):
        return classic(point)
    bounds, counts = tuple(point.explicit_bounds), tuple(map(float, point.bucket_counts))
    if len(counts) not in (0, len(bounds) + 1):
        raise ValueError(f"{len(counts)} bucket counts for {len(bounds)} bounds")
    if any(not low < high for low, high in pairwise(bounds)) or any(map(math.isnan, bounds)):
        raise ValueError("its bounds do not rise")
    if not counts:
        return (), ()
    return (bounds, counts) if not bounds or math.isfinite(bounds[-1]) else (bounds[:-1], counts[:-1])


def _histogram_labels(point: Point, name: str, identity: Identity, bounds: Sequence[float]) -> tuple[Labels, ...]:
    """Of the buckets, that of ``+Inf`` last, then of count and sum."""
    buckets = [(f"{name}_bucket", {"le": text}) for text in (*map(float_text, bounds), "+Inf")]
    members = [*buckets, (f"{name}_count", {}), (f"{name}_sum", {})]
    return tuple(_labels(point.attributes, identity, member, extra) for member, extra in members)


def _labels(
    attributes: Iterable[KeyValue], identity: Identity, name: str, extra: dict[str, str] | None = None
) -> Labels:
    return from_mapping({**_attributes(attributes), **dict(identity), **(extra or {}), METRIC_NAME: name})


def _attributes(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return _as_labels({key: as_text(value) for key, value in read_attributes(attributes).items()})


def _as_labels(attributes: dict[str, str]) -> dict[str, str]:
    """Labels of attributes; values of those that get one name are joined, as Prometheus does it."""
    labels: dict[str, str] = {}
    for key in sorted(attributes):
        name = label_name(key)
        labels[name] = f"{labels[name]};{attributes[key]}" if name in labels else attributes[key]
    return labels


def _value(exemplar: wire.Exemplar) -> float:
    return float(exemplar.as_int if exemplar.HasField("as_int") else exemplar.as_double)
