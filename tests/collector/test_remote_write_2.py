"""Remote write 2.0: protobuf's own library as referee, the answers of the API, damaged bodies."""

import cramjam
import httpx
import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from collector.api.parts import Parts
from collector.ingest.errors import UnsupportedMedia
from collector.ingest.remote_write import MESSAGE_1, MESSAGE_2, message_of
from collector.model.errors import IngestError
from collector.model.matchers import Matcher
from collector.model.remote_write_2 import WriteReader2, encode
from collector.model.series import STALE_NAN, Series, is_stale

NOW_MS = 1_700_000_000_000
HEADERS = {"Content-Type": f"application/x-protobuf;proto={MESSAGE_2}", "Content-Encoding": "snappy"}
KINDS = descriptor_pb2.FieldDescriptorProto
WRITTEN = "x-prometheus-remote-write-{}-written"


def request_class() -> type[Message]:
    """io.prometheus.write.v2.Request from its description."""
    file = descriptor_pb2.FileDescriptorProto(name="write2.proto", package="write2", syntax="proto3")
    many, one = KINDS.LABEL_REPEATED, KINDS.LABEL_OPTIONAL
    messages = {
        "Sample": [("value", 1, one, KINDS.TYPE_DOUBLE, ""), ("timestamp", 2, one, KINDS.TYPE_INT64, "")],
        "Exemplar": [
            ("labels_refs", 1, many, KINDS.TYPE_UINT32, ""),
            ("value", 2, one, KINDS.TYPE_DOUBLE, ""),
            ("timestamp", 3, one, KINDS.TYPE_INT64, ""),
        ],
        "Metadata": [
            ("type", 1, one, KINDS.TYPE_INT32, ""),
            ("help_ref", 3, one, KINDS.TYPE_UINT32, ""),
            ("unit_ref", 4, one, KINDS.TYPE_UINT32, ""),
        ],
        "TimeSeries": [
            ("labels_refs", 1, many, KINDS.TYPE_UINT32, ""),
            ("samples", 2, many, KINDS.TYPE_MESSAGE, ".write2.Sample"),
            ("histograms", 3, many, KINDS.TYPE_MESSAGE, ".write2.Sample"),
            ("exemplars", 4, many, KINDS.TYPE_MESSAGE, ".write2.Exemplar"),
            ("metadata", 5, one, KINDS.TYPE_MESSAGE, ".write2.Metadata"),
            ("created_timestamp", 6, one, KINDS.TYPE_INT64, ""),
        ],
        "Request": [
            ("symbols", 4, many, KINDS.TYPE_STRING, ""),
            ("timeseries", 5, many, KINDS.TYPE_MESSAGE, ".write2.TimeSeries"),
        ],
    }
    for name, members in messages.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, type_name in members:
            message.field.add(name=field, number=number, label=label, type=kind, type_name=type_name or None)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("write2.Request"))


REQUEST = request_class()


class Sender:
    """Builds requests with a table of symbols."""

    def __init__(self) -> None:
        self.request = REQUEST()
        self.request.symbols.append("")  # type: ignore[attr-defined]

    def ref(self, text: str) -> int:
        symbols = self.request.symbols  # type: ignore[attr-defined]
        if text not in symbols:
            symbols.append(text)
        return list(symbols).index(text)

    def refs(self, labels: dict[str, str]) -> list[int]:
        return [self.ref(text) for pair in labels.items() for text in pair]

    def series(self, *samples: tuple[int, float], **labels: str):
        one = self.request.timeseries.add(labels_refs=self.refs(labels))  # type: ignore[attr-defined]
        for timestamp, value in samples:
            one.samples.add(timestamp=timestamp, value=value)
        return one

    def body(self) -> bytes:
        return bytes(cramjam.snappy.compress_raw(self.request.SerializeToString()))


def whole() -> Sender:
    """A request with everything in it."""
    sender = Sender()
    one = sender.series((NOW_MS, 1.5), (NOW_MS + 1, 0.0), __name__="h_bucket", le="1", job="x")
    one.exemplars.add(labels_refs=sender.refs({"trace_id": "ab"}), value=0.5, timestamp=NOW_MS)
    one.metadata.type, one.metadata.help_ref, one.metadata.unit_ref = 3, sender.ref("How long."), sender.ref("seconds")
    one.created_timestamp = NOW_MS - 1000
    sender.series((NOW_MS, STALE_NAN), __name__="up", job="x")
    return sender


def test_we_read_what_protobuf_encodes() -> None:
    read = WriteReader2().read(whole().body())
    first, second = read.series
    assert dict(first.labels) == {"__name__": "h_bucket", "le": "1", "job": "x"}
    assert (first.timestamps_ms.tolist(), first.values.tolist()) == ([NOW_MS, NOW_MS + 1], [1.5, 0.0])
    assert is_stale(second.values).all()
    (exemplar,) = read.exemplars
    assert (exemplar.series, exemplar.labels) == (first.labels, (("trace_id", "ab"),))
    assert (exemplar.value, exemplar.timestamp_ms) == (0.5, NOW_MS)
    (told,) = read.metadata
    assert (told.family, told.type, told.help, told.unit) == ("h", "histogram", "How long.", "seconds")


NAMES = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=4)
SERIES = st.tuples(
    st.dictionaries(NAMES, NAMES, max_size=3),
    st.lists(st.tuples(st.integers(-(2**60), 2**60) | st.integers(NOW_MS, NOW_MS * 2), st.floats()), max_size=3),
)


@given(st.lists(st.lists(SERIES, max_size=3), min_size=1, max_size=3))
def test_a_reader_reads_the_same_whatever_it_has_read_before(requests: list[list[tuple]]) -> None:  # type: ignore[type-arg]
    reader = WriteReader2()
    for number in (*range(len(requests)), *range(len(requests))):
        sender = Sender()
        for labels, samples in requests[number]:
            sender.series(*samples, **(labels | {"__name__": "m"}))
        read = reader.read(sender.body())
        expected = [(labels, samples) for labels, samples in requests[number] if samples]
        assert len(read.series) == len(expected)
        for got, (labels, samples) in zip(read.series, expected, strict=True):
            assert dict(got.labels) == labels | {"__name__": "m"}
            assert got.timestamps_ms.tolist() == [time for time, _ in samples]
            np.testing.assert_array_equal(got.values, [value for _, value in samples])


def test_a_repeated_request_with_other_values_has_the_same_labels_to_the_object() -> None:
    reader = WriteReader2()
    first, second = (Sender(), Sender())
    for sender, value in ((first, 1.0), (second, 2.0)):
        sender.series((NOW_MS + int(value), value), __name__="a")
        sender.series((NOW_MS + int(value), value), __name__="b")
    one, two = reader.read(first.body()), reader.read(second.body())
    assert one.labels is two.labels
    assert [series.values.tolist() for series in two.series] == [[2.0], [2.0]]


@given(st.binary(max_size=80))
def test_no_bytes_raise_anything_but_an_ingest_error(body: bytes) -> None:
    for data in (body, bytes(cramjam.snappy.compress_raw(body))):
        try:
            WriteReader2().read(data)
        except IngestError as error:
            assert "remote write" in str(error)


def test_every_cut_and_every_changed_byte_of_a_request_is_read_or_refused() -> None:
    raw = whole().request.SerializeToString()
    reader = WriteReader2()
    for place in range(len(raw)):
        for damaged in (raw[:place], raw[:place] + bytes([raw[place] ^ 0x81]) + raw[place + 1 :]):
            try:
                reader.read(bytes(cramjam.snappy.compress_raw(damaged)))
            except IngestError:
                continue


@pytest.mark.parametrize(
    ("references", "words"),
    [([1, 2, 1], "3 label references; they come in pairs"), ([1, 99], "symbol 99 is named; there are 3"), ([], "name")],
)
def test_references_that_lead_nowhere_are_refused(references: list[int], words: str) -> None:
    request = REQUEST(symbols=["", "__name__", "x"])  # type: ignore[call-arg]
    request.timeseries.add(labels_refs=references).samples.add(timestamp=NOW_MS)  # type: ignore[attr-defined]
    with pytest.raises(IngestError, match=words):
        WriteReader2().read(bytes(cramjam.snappy.compress_raw(request.SerializeToString())))


def test_the_message_is_told_by_the_content_type() -> None:
    for plain in ("", "application/x-protobuf", f"application/x-protobuf; proto={MESSAGE_1}"):
        assert message_of(plain) == MESSAGE_1
    assert message_of(f'Application/X-Protobuf;proto="{MESSAGE_2}"') == MESSAGE_2
    for other in ("text/plain", "application/x-protobuf;proto=other"):
        with pytest.raises(UnsupportedMedia):
            message_of(other)


def test_the_answer_says_what_was_written(api: httpx.Client, parts: Parts) -> None:
    answer = api.post("/api/v1/write", content=whole().body(), headers=HEADERS)
    assert answer.status_code == 204
    assert answer.headers[WRITTEN.format("samples")] == "3"
    assert answer.headers[WRITTEN.format("histograms")] == "0"
    assert parts.store.metadata()["h"].type == "histogram"
    assert len(parts.store.select([Matcher("__name__", "=", "h_bucket")], 0, 2 * NOW_MS)) == 1


def test_a_part_that_is_refused_is_named_and_the_rest_is_stored(api: httpx.Client) -> None:
    sender = whole()
    sender.request.timeseries[1].histograms.add(timestamp=NOW_MS)  # type: ignore[attr-defined]
    answer = api.post("/api/v1/write", content=sender.body(), headers=HEADERS)
    assert answer.status_code == 400
    assert "1 native histograms are not kept; send classic ones; the rest was stored" in answer.text
    assert answer.headers[WRITTEN.format("samples")] == "3"
    late = Sender()
    late.series((NOW_MS - 3_600_000, 1.0), __name__="up", job="x")
    late.series((NOW_MS - 5, 1.0), __name__="other")
    answer = api.post("/api/v1/write", content=late.body(), headers=HEADERS)
    assert (answer.status_code, answer.headers[WRITTEN.format("samples")]) == (400, "1")
    assert "1 of 2 samples are out of order" in answer.text


def test_what_is_not_read_at_all_is_415(api: httpx.Client) -> None:
    for headers in ({"Content-Type": "text/plain"}, HEADERS | {"Content-Encoding": "zstd"}):
        assert api.post("/api/v1/write", content=b"", headers=headers).status_code == 415
    broken = api.post("/api/v1/write", content=b"nonsense", headers=HEADERS)
    assert (broken.status_code, broken.headers[WRITTEN.format("samples")]) == (400, "0")


def test_times_beyond_all_bounds_are_refused_and_not_retried(api: httpx.Client) -> None:
    for moment in (1 << 60, -(1 << 63)):
        sender = Sender()
        sender.series((moment, 1.0), __name__="a")
        answer = api.post("/api/v1/write", content=sender.body(), headers=HEADERS)
        assert (answer.status_code, "beyond" in answer.text) == (400, True)


def test_protobuf_reads_what_we_encode() -> None:
    times = np.array([NOW_MS, NOW_MS + 1], dtype=np.int64)
    series = [
        Series((("__name__", "a"), ("pool", "p")), times, np.array([0.0, -1.5])),
        Series((("__name__", "b"), ("pool", "a")), times[:1] - (1 << 42), np.array([np.inf])),
    ]
    request = REQUEST()
    request.ParseFromString(bytes(cramjam.snappy.decompress_raw(encode(series))))
    symbols = list(request.symbols)  # type: ignore[attr-defined]
    assert symbols[0] == ""
    assert len(set(symbols)) == len(symbols)
    for one, wanted in zip(request.timeseries, series, strict=True):  # type: ignore[attr-defined]
        texts = [symbols[number] for number in one.labels_refs]
        assert tuple(zip(texts[::2], texts[1::2], strict=True)) == wanted.labels
        assert [sample.timestamp for sample in one.samples] == wanted.timestamps_ms.tolist()
        assert [sample.value for sample in one.samples] == wanted.values.tolist()


def test_a_sample_with_another_value_at_the_same_time_is_refused_and_the_rest_stored(
    api: httpx.Client, parts: Parts
) -> None:
    def write(a: float, b_ms: int) -> httpx.Response:
        series = [
            Series((("__name__", "a"),), np.array([NOW_MS]), np.array([a])),
            Series((("__name__", "b"),), np.array([b_ms]), np.array([1.0])),
        ]
        return api.post("/api/v1/write", content=encode(series), headers=HEADERS)

    assert write(1.0, NOW_MS).status_code == 204
    assert write(1.0, NOW_MS + 1).status_code == 204
    refused = write(2.0, NOW_MS + 2)
    assert refused.status_code == 400
    assert "1 of 2 samples have other values than those of the same time; the rest was stored" in refused.text
    assert refused.headers[WRITTEN.format("samples")] == "1"
    (group,) = parts.store.select([Matcher("__name__", "=", "b")], 0, NOW_MS + 10)
    assert group.timestamps_ms.tolist() == [NOW_MS, NOW_MS + 1, NOW_MS + 2]
