"""OTLP metric requests as series, named and labelled as Prometheus does it.

Sums and gauges become one series per data point's attributes, histograms ``_bucket``, ``_sum`` and ``_count``,
summaries quantiles beside ``_sum`` and ``_count``. Delta temporality and exponential histograms are refused by name.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1 import metrics_pb2 as wire
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from collector.ingest import otlp
from collector.ingest.otlp_attributes import as_text, read_attributes
from collector.ingest.otlp_names import label_name, metric_name
from collector.model.float_text import float_text
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import STALE_NAN, Series

NO_VALUE = 1
"""Flag of a data point that says: the series has ended."""

Point = tuple[Labels, int, float]


def read_metrics(body: bytes, media: str) -> tuple[list[Series], list[str]]:
    """Series of one request, and one reason per data point that was refused. Raises IngestError."""
    request = otlp.decode(ExportMetricsServiceRequest(), body, media)
    points: list[Point] = []
    refused: list[str] = []
    for resource_metrics in request.resource_metrics:
        identity, information = _resource_labels(resource_metrics.resource)
        latest_ms = 0
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                read = list(_read_metric(metric, identity, refused))
                latest_ms = max([latest_ms, *(timestamp_ms for _, timestamp_ms, _ in read)])
                points += read
        if information and latest_ms and identity:
            labels = from_mapping({**information, **identity, METRIC_NAME: "target_info"})
            points.append((labels, latest_ms, 1.0))
    return gather(points), refused


def gather(points: Iterable[Point]) -> list[Series]:
    """Points as series, each in the order of time."""
    by_labels: dict[Labels, list[tuple[int, float]]] = {}
    for labels, timestamp_ms, value in points:
        by_labels.setdefault(labels, []).append((timestamp_ms, value))
    return [
        Series(
            labels,
            np.array([time for time, _ in sorted(pairs, key=lambda pair: pair[0])], dtype=np.int64),
            np.array([value for _, value in sorted(pairs, key=lambda pair: pair[0])], dtype=np.float64),
        )
        for labels, pairs in by_labels.items()
    ]


def _resource_labels(resource: Resource) -> tuple[dict[str, str], dict[str, str]]:
    """``job`` and ``instance``, and the other attributes for ``target_info``."""
    attributes = {key: as_text(value) for key, value in read_attributes(resource.attributes).items()}
    service = attributes.pop("service.name", "")
    namespace = attributes.pop("service.namespace", "")
    instance = attributes.pop("service.instance.id", "")
    job = f"{namespace}/{service}" if namespace and service else service
    identity = {name: value for name, value in (("job", job), ("instance", instance)) if value}
    return identity, {label_name(key): value for key, value in attributes.items()}


def _read_metric(metric: wire.Metric, identity: dict[str, str], refused: list[str]) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    if kind == "gauge":
        name = metric_name(metric.name, metric.unit, gauge=True)
        yield from _numbers(metric.gauge.data_points, name, identity)
    elif kind == "sum" and _is_cumulative(metric.sum, metric, refused):
        name = metric_name(metric.name, metric.unit, monotonic_sum=metric.sum.is_monotonic)
        yield from _numbers(metric.sum.data_points, name, identity)
    elif kind == "histogram" and _is_cumulative(metric.histogram, metric, refused):
        for point in metric.histogram.data_points:
            if len(point.bucket_counts) not in (0, len(point.explicit_bounds) + 1):
                counts, bounds = len(point.bucket_counts), len(point.explicit_bounds)
                refused.append(f'histogram "{metric.name}": {counts} bucket counts for {bounds} bounds')
                continue
            yield from _histogram(point, metric_name(metric.name, metric.unit), identity)
    elif kind == "summary":
        for summary in metric.summary.data_points:
            yield from _summary(summary, metric_name(metric.name, metric.unit), identity)
    elif kind == "exponential_histogram":
        count = len(metric.exponential_histogram.data_points)
        refused += [f'metric "{metric.name}": exponential histograms are not kept'] * count


def _is_cumulative(data: wire.Sum | wire.Histogram, metric: wire.Metric, refused: list[str]) -> bool:
    if data.aggregation_temporality == wire.AGGREGATION_TEMPORALITY_CUMULATIVE:
        return True
    reason = (
        f'metric "{metric.name}": only cumulative temporality is kept; set the exporter\'s preference to cumulative'
    )
    refused += [reason] * len(data.data_points)
    return False


def _numbers(points: Iterable[wire.NumberDataPoint], name: str, identity: dict[str, str]) -> Iterator[Point]:
    for point in points:
        value = float(point.as_int if point.WhichOneof("value") == "as_int" else point.as_double)
        yield _labels(point, name, identity), _milliseconds(point), STALE_NAN if point.flags & NO_VALUE else value


def _histogram(point: wire.HistogramDataPoint, name: str, identity: dict[str, str]) -> Iterator[Point]:
    stale = bool(point.flags & NO_VALUE)
    values = {("_sum", ""): point.sum} if point.HasField("sum") else {}
    values |= {("_count", ""): float(point.count)}
    reached = 0
    for bound, count in zip(point.explicit_bounds, point.bucket_counts, strict=False):
        reached += count
        values["_bucket", float_text(bound)] = float(reached)
    values["_bucket", "+Inf"] = float(point.count)
    for (suffix, le), value in values.items():
        labels = _labels(point, name + suffix, identity, le=le)
        yield labels, _milliseconds(point), STALE_NAN if stale else value


def _summary(point: wire.SummaryDataPoint, name: str, identity: dict[str, str]) -> Iterator[Point]:
    stale = bool(point.flags & NO_VALUE)
    values = {("_sum", ""): point.sum, ("_count", ""): float(point.count)}
    values |= {("", float_text(quantile.quantile)): quantile.value for quantile in point.quantile_values}
    for (suffix, quantile), value in values.items():
        labels = _labels(point, name + suffix, identity, quantile=quantile)
        yield labels, _milliseconds(point), STALE_NAN if stale else value


def _labels(
    point: wire.NumberDataPoint | wire.HistogramDataPoint | wire.SummaryDataPoint,
    name: str,
    identity: dict[str, str],
    **extra: str,
) -> Labels:
    attributes = {label_name(key): as_text(value) for key, value in read_attributes(point.attributes).items()}
    return from_mapping({**attributes, **identity, **extra, METRIC_NAME: name})


def _milliseconds(point: wire.NumberDataPoint | wire.HistogramDataPoint | wire.SummaryDataPoint) -> int:
    return int(point.time_unix_nano // 1_000_000)
