"""Remote write's wire format: round trips, a protobuf referee, damaged bodies."""

import math

import cramjam
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.model.errors import IngestError
from collector.model.labels import from_mapping
from collector.model.remote_write import WriteReader, encode
from collector.model.series import STALE_NAN, Series, is_stale

INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=6)


@st.composite
def all_series(draw: st.DrawFn) -> Series:
    labels = from_mapping({**draw(st.dictionaries(NAMES, NAMES, max_size=3)), "__name__": draw(NAMES)})
    points = draw(
        st.lists(st.tuples(INT64 | st.integers(1_700_000_000_000, 1_800_000_000_000), st.floats()), max_size=5)
    )
    return Series(
        labels,
        np.array([time for time, _ in points], dtype=np.int64),
        np.array([value for _, value in points], dtype=np.float64),
    )


def assert_equal(left: Series, right: Series) -> None:
    assert left.labels == right.labels
    np.testing.assert_array_equal(left.timestamps_ms, right.timestamps_ms)
    np.testing.assert_array_equal(left.values.view(np.int64), right.values.view(np.int64))


@settings(deadline=None)
@given(st.lists(all_series(), max_size=4))
def test_what_is_encoded_is_read_back_bit_by_bit(written: list[Series]) -> None:
    reader = WriteReader()
    for _ in range(2):
        request = reader.read(encode(written))
        kept = [one for one in written if len(one.values)]
        assert len(request.series) == len(kept)
        assert request.samples == sum(len(one.values) for one in kept)
        for got, one in zip(request.series, kept, strict=True):
            assert_equal(got, one)


def write_request_class() -> type[Message]:
    """prompb's WriteRequest built from its description, so that protobuf's own library is the referee."""
    file = descriptor_pb2.FileDescriptorProto(name="remote.proto", package="prompb", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    many, one = kinds.LABEL_REPEATED, kinds.LABEL_OPTIONAL
    fields = {
        "Label": [("name", 1, one, kinds.TYPE_STRING, ""), ("value", 2, one, kinds.TYPE_STRING, "")],
        "Sample": [("value", 1, one, kinds.TYPE_DOUBLE, ""), ("timestamp", 2, one, kinds.TYPE_INT64, "")],
        "TimeSeries": [
            ("labels", 1, many, kinds.TYPE_MESSAGE, ".prompb.Label"),
            ("samples", 2, many, kinds.TYPE_MESSAGE, ".prompb.Sample"),
            ("histograms", 4, many, kinds.TYPE_MESSAGE, ".prompb.Sample"),
        ],
        "WriteRequest": [("timeseries", 1, many, kinds.TYPE_MESSAGE, ".prompb.TimeSeries")],
    }
    for name, members in fields.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, type_name in members:
            message.field.add(name=field, number=number, label=label, type=kind, type_name=type_name or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("prompb.WriteRequest"))


def some_series() -> list[Series]:
    times = np.array([1_700_000_000_000, 1_700_000_005_000], dtype=np.int64)
    return [
        Series(from_mapping({"__name__": "a", "job": "x"}), times, np.array([0.0, 1.5])),
        Series(from_mapping({"__name__": "b"}), times, np.array([STALE_NAN, math.inf])),
        Series(from_mapping({"__name__": "c"}), np.array([5], dtype=np.int64), np.array([-1.0])),
    ]


def test_protobuf_reads_what_we_encode() -> None:
    request = write_request_class()()
    request.ParseFromString(bytes(cramjam.snappy.decompress_raw(encode(some_series()))))
    read = [
        (
            [(label.name, label.value) for label in one.labels],
            [(sample.timestamp, sample.value) for sample in one.samples],
        )
        for one in request.timeseries  # type: ignore[attr-defined]
    ]
    assert read[0] == ([("__name__", "a"), ("job", "x")], [(1_700_000_000_000, 0.0), (1_700_000_005_000, 1.5)])
    assert read[2] == ([("__name__", "c")], [(5, -1.0)])


def test_we_read_what_protobuf_encodes_zero_values_left_out() -> None:
    request = write_request_class()()
    for series in some_series():
        one = request.timeseries.add()  # type: ignore[attr-defined]
        for name, value in series.labels:
            one.labels.add(name=name, value=value)
        for time, value in zip(series.timestamps_ms, series.values, strict=True):
            one.samples.add(timestamp=int(time), value=float(value))
    one.histograms.add(timestamp=7)
    read = WriteReader().read(bytes(cramjam.snappy.compress_raw(request.SerializeToString())))
    for got, series in zip(read.series, some_series(), strict=True):
        assert got.labels == series.labels
        np.testing.assert_array_equal(got.timestamps_ms, series.timestamps_ms)
        np.testing.assert_array_equal(got.values, series.values)
    assert is_stale(read.series[1].values).tolist() == [True, False]
    assert read.native_histograms == 1


@st.composite
def same_series_again(draw: st.DrawFn) -> tuple[list[Series], list[Series]]:
    """Two requests of the same series and numbers of samples, mostly of the same shape on the wire."""
    first = draw(st.lists(all_series(), min_size=1, max_size=4))
    times, values = st.integers(1_700_000_000_000, 1_800_000_000_000), st.floats() | st.just(0.0)
    second = [
        Series(
            one.labels,
            np.array([draw(times) for _ in one.values], dtype=np.int64),
            np.array([draw(values) for _ in one.values], dtype=np.float64),
        )
        for one in first
    ]
    return first, second


@settings(deadline=None, max_examples=30)
@given(same_series_again(), same_series_again())
def test_a_reader_that_has_seen_the_shape_reads_what_a_fresh_one_reads(
    here: tuple[list[Series], list[Series]], there: tuple[list[Series], list[Series]]
) -> None:
    reader = WriteReader()
    for written in (*here, *there, *reversed(here), *there):
        body = encode(written)
        seen, fresh = reader.read(body), WriteReader().read(body)
        assert seen.samples == fresh.samples
        for left, right in zip(seen.series, fresh.series, strict=True):
            assert_equal(left, right)


def test_a_request_of_the_same_length_with_another_label_is_read_anew() -> None:
    reader = WriteReader()
    times, values = np.array([1_700_000_000_000], dtype=np.int64), np.array([1.5])
    for name in ("abc", "abd", "abc"):
        (series,) = reader.read(encode([Series((("__name__", name),), times, values)])).series
        assert series.labels == (("__name__", name),)


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_an_ingest_error(body: bytes) -> None:
    for data in (body, bytes(cramjam.snappy.compress_raw(body))):
        try:
            WriteReader().read(data)
        except IngestError as error:
            assert "remote write" in str(error)


def test_every_cut_of_a_request_is_refused_or_read() -> None:
    whole = bytes(cramjam.snappy.decompress_raw(encode(some_series())))
    for length in range(len(whole)):
        try:
            request = WriteReader().read(bytes(cramjam.snappy.compress_raw(whole[:length])))
        except IngestError:
            continue
        assert len(request.series) < 3


def test_a_body_that_unfolds_beyond_the_limit_is_refused_before_it_unfolds() -> None:
    with pytest.raises(IngestError, match="1000 bytes uncompressed; at most 100"):
        WriteReader(max_body_bytes=100).read(bytes(cramjam.snappy.compress_raw(bytes(1000))))


def test_a_series_without_a_name_is_refused() -> None:
    nameless = Series((("job", "x"),), np.array([1], dtype=np.int64), np.array([1.0]))
    with pytest.raises(IngestError, match="no metric name"):
        WriteReader().read(encode([nameless]))
