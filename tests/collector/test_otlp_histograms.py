"""Deltas become sums, exponential histograms classic ones, exemplars find their bucket."""

import math

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import ExponentialHistogramDataPoint as Exponential

from collector.ingest.otlp_deltas import FORGET_NS, Deltas
from collector.ingest.otlp_exponential import MAX_BUCKETS, classic
from collector.ingest.otlp_metrics import MetricsRead, MetricsReader
from collector.model.labels import get

SECOND_NS = 1_000_000_000


def read(reader: MetricsReader, name: str, kind: str, temporality: int, *points: dict[str, object]) -> MetricsRead:
    metric = {"name": name, kind: {"dataPoints": list(points), "aggregationTemporality": temporality}}
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    return reader.read(json_format.ParseDict(document, ExportMetricsServiceRequest()))


def values(found: MetricsRead) -> dict[tuple[str, str], list[float]]:
    return {(get(one.labels, "__name__"), get(one.labels, "le")): one.values.tolist() for one in found.series}


def at(second: int, **fields: object) -> dict[str, object]:
    return {"timeUnixNano": str(second * SECOND_NS), **fields}


def test_deltas_of_a_sum_are_added_up_across_requests() -> None:
    reader = MetricsReader()
    assert values(read(reader, "d", "sum", 1, at(1, asInt="3"), at(2, asInt="4"))) == {("d", ""): [3.0, 7.0]}
    assert values(read(reader, "d", "sum", 1, at(3, asDouble=0.5))) == {("d", ""): [7.5]}
    late = read(reader, "d", "sum", 1, at(3, asInt="1"))
    assert late.refused == ['metric "d": a delta is not after the last one of its series']
    assert values(read(reader, "d", "sum", 1, at(4, asInt="1"))) == {("d", ""): [8.5]}


def test_deltas_of_a_histogram_are_added_up_until_its_bounds_change() -> None:
    reader = MetricsReader()
    for second, expected in ((1, [1.0, 3.0]), (2, [2.0, 6.0])):
        point = at(second, count="3", sum=2.0, explicitBounds=[1.0], bucketCounts=["1", "2"])
        found = values(read(reader, "h", "histogram", 1, point))
        assert [found["h_bucket", le][0] for le in ("1", "+Inf")] == expected
        assert found["h_sum", ""] == [2.0 * second]
    point = at(3, count="3", sum=2.0, explicitBounds=[5.0], bucketCounts=["1", "2"])
    assert values(read(reader, "h", "histogram", 1, point))["h_count", ""] == [3.0]


def test_more_series_of_deltas_than_are_summed_are_refused_until_old_ones_are_forgotten() -> None:
    deltas = Deltas(max_series=1)
    assert deltas.add((("a", "1"),), 1, {"": 1.0}) == {"": 1.0}
    with pytest.raises(ValueError, match="deltas of 1 series are summed"):
        deltas.add((("a", "2"),), 2, {"": 1.0})
    assert deltas.add((("a", "2"),), FORGET_NS + 2, {"": 1.0}) == {"": 1.0}


def exponential(scale: int, observations: list[float]) -> Exponential:
    """What an SDK makes of observations, from the definition: bucket i holds base**i < v <= base**(i+1)."""
    point = Exponential(scale=scale, count=len(observations), zero_count=observations.count(0.0))
    for sign, side in ((1, point.positive), (-1, point.negative)):
        places = [math.ceil(math.log2(abs(v)) * 2.0**scale) - 1 for v in observations if v * sign > 0]
        if places:
            side.offset = min(places)
            side.bucket_counts.extend(places.count(place) for place in range(min(places), max(places) + 1))
    return point


OBSERVED = st.lists(
    st.floats(min_value=1e-6, max_value=1e6) | st.floats(min_value=-1e3, max_value=-1e-3) | st.just(0.0), max_size=20
)


@given(st.integers(-3, 8), OBSERVED)
def test_an_exponential_histogram_counts_at_its_bounds_what_was_observed(scale: int, observed: list[float]) -> None:
    bounds, counts = classic(exponential(scale, observed))
    assert list(bounds) == sorted(set(bounds))
    assert len(bounds) <= 2 * MAX_BUCKETS + 1
    assert sum(counts) == len(observed)
    reached = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        reached += count
        slack = abs(bound) * 1e-9  # an observation at a bound may fall on either side of it
        below = sum(value < bound - slack for value in observed)
        assert below <= reached <= sum(value <= bound + slack for value in observed)


def test_bounds_of_a_fine_histogram_are_fourth_roots_of_two() -> None:
    bounds, counts = classic(Exponential(scale=3, count=4, positive={"offset": -1, "bucket_counts": [1, 1, 1, 1]}))
    assert bounds == (0.0, 1.0, 2.0**0.25, 2.0**0.5)
    assert counts == (0.0, 1.0, 2.0, 1.0, 0.0)


def test_buckets_that_hold_more_than_was_counted_are_refused() -> None:
    with pytest.raises(ValueError, match="its buckets hold 5 of 4 observations"):
        classic(Exponential(scale=0, count=4, positive={"offset": 0, "bucket_counts": [5]}))


def test_an_exponential_histogram_is_stored_as_a_classic_one_also_of_deltas() -> None:
    reader = MetricsReader()
    point = {"scale": 0, "count": "3", "sum": 5.0, "positive": {"offset": 0, "bucketCounts": ["1", "2"]}}
    for second in (1, 2):
        found = values(read(reader, "e", "exponentialHistogram", 1, at(second, **point)))
        assert [found["e_bucket", le][0] for le in ("0", "2", "4", "+Inf")] == [
            0.0,
            1.0 * second,
            3.0 * second,
            3.0 * second,
        ]
        assert found["e_sum", ""] == [5.0 * second]


def test_an_exemplar_belongs_to_the_bucket_of_its_value() -> None:
    exemplar = {
        "timeUnixNano": str(SECOND_NS),
        "asDouble": 0.7,
        "traceId": "AAAAAAAAAAAAAAAAAAAAAQ==",
        "spanId": "AAAAAAAAAAI=",
        "filteredAttributes": [{"key": "user", "value": {"stringValue": "u"}}],
    }
    point = at(1, count="1", sum=0.7, explicitBounds=[0.5, 1.0], bucketCounts=["0", "1", "0"], exemplars=[exemplar])
    (found,) = read(MetricsReader(), "h", "histogram", 2, point).exemplars
    assert get(found.series, "le") == "1"
    assert dict(found.labels) == {"trace_id": "0" * 31 + "1", "span_id": "0" * 15 + "2", "user": "u"}
    assert (found.value, found.timestamp_ms) == (0.7, 1000)


def test_metadata_of_a_metric_is_told() -> None:
    metric = {"name": "tokens", "unit": "By", "description": "Read.", "sum": {"isMonotonic": True}}
    metric["sum"] |= {"dataPoints": [at(1, asInt="3")], "aggregationTemporality": 2}
    document = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    read = MetricsReader().read(json_format.ParseDict(document, ExportMetricsServiceRequest()))
    (told,) = read.metadata.values()
    assert (told.family, told.type, told.help, told.unit) == ("tokens_bytes_total", "counter", "Read.", "By")
