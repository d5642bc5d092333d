"""Samples and OTLP on their way out: what is sent, again, refused; over HTTP transports of our own."""

import asyncio
import gzip
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.forward.forwarding import Forwarding, file_of
from collector.forward.metrics import ForwardMetrics
from collector.forward.queue import DiskQueue
from collector.forward.remote_write import MESSAGE_1, Describing, RemoteWriteOut, Samples
from collector.forward.retry import RETRIED, Patience
from collector.forward.settings import Destination, ForwardSettings, forward_settings, read_forward_file
from collector.model.errors import ConfigError
from collector.model.exemplars import Exemplar
from collector.model.labels import Labels
from collector.model.remote_write import WriteReader
from collector.model.remote_write_2 import MESSAGE, WriteReader2
from collector.model.series import STALE_NAN, Series, is_stale
from collector.model.write_shape import WrittenMetadata
from collector.scrape.access import Access, Credentials
from collector.scrape.relabel import Rule
from collector.scrape.secret import Secret
from collector.store import Store

URL = "http://user:secret@receiver/api/v1/write"
NOW_MS = 1_700_000_000_000
LAYOUT: tuple[Labels, ...] = tuple((("__name__", name), ("job", "x")) for name in ("a", "b", "c"))

Points = dict[str, list[tuple[int, float]]]


def bearer(path: Path) -> Access:
    return Access(Credentials("Bearer", Secret(file=path)))


class Receiver:
    """Answers with the statuses it is given, then 204; keeps what came."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._answers.pop(0) if self._answers else httpx.Response(204)

    def points(self) -> Points:
        """Samples by metric name, in the order in which they came; the stale marker as text."""
        found: Points = {}
        for request in self.requests:
            for one in WriteReader().read(request.content).series:
                pairs = zip(one.timestamps_ms.tolist(), np.where(is_stale(one.values), -1.0, one.values), strict=True)
                found.setdefault(dict(one.labels)["__name__"], []).extend((t, float(v)) for t, v in pairs)
        return found


def forwarded(
    folder: Path, settings: ForwardSettings, receiver: Receiver, use: Callable[[Forwarding], None], steps: int
) -> list[float]:
    """Use a forwarding, take some steps of its first sender, and give the waits in seconds that it asked for."""

    async def run() -> list[float]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(receiver)) as http:
            with Forwarding(folder / "forward", lambda access: http) as forwarding:
                forwarding.apply(settings)
                use(forwarding)
                return [await forwarding.senders[0].step() for _ in range(steps)]

    return asyncio.run(run())


def scrapes(store: Store, *values: list[float]) -> Callable[[Forwarding], None]:
    def use(forwarding: Forwarding) -> None:
        tee = forwarding.tee(store)
        for number, row in enumerate(values):
            tee.append_scrape("g", LAYOUT[: len(row)], NOW_MS + number * 5000, np.array(row))

    return use


@pytest.fixture
def store(tmp_path: Path):
    with Store.open(tmp_path / "store") as opened:
        yield opened


def test_scrapes_arrive_with_stale_markers_for_what_vanished(store: Store, tmp_path: Path) -> None:
    receiver = Receiver()
    settings = ForwardSettings((Destination(URL),))
    forwarded(tmp_path, settings, receiver, scrapes(store, [1.0, 2.0, 3.0], [4.0, np.nan], [5.0, 6.0]), 1)
    points = receiver.points()
    assert points["a"] == [(NOW_MS, 1.0), (NOW_MS + 5000, 4.0), (NOW_MS + 10_000, 5.0)]
    assert points["c"] == [(NOW_MS, 3.0), (NOW_MS + 5000, -1.0)]
    assert np.isnan(points["b"][1][1])
    (request,) = receiver.requests
    assert request.headers["content-encoding"] == "snappy"
    assert request.headers["x-prometheus-remote-write-version"] == "0.1.0"


def test_a_target_that_goes_away_and_ragged_samples_are_passed_on(store: Store, tmp_path: Path) -> None:
    receiver = Receiver()

    def use(forwarding: Forwarding) -> None:
        tee = forwarding.tee(store)
        tee.append_scrape("g", LAYOUT[:1], NOW_MS, np.array([1.0]))
        tee.mark_stale("g", NOW_MS + 1)
        tee.mark_stale("unknown", NOW_MS + 1)
        times = np.arange(5, dtype=np.int64) * 1000 + NOW_MS
        assert tee.append_series([Series(LAYOUT[1], times, np.arange(5.0))]).accepted == 5

    forwarded(tmp_path, ForwardSettings((Destination(URL, max_samples=2),)), receiver, use, 9)
    assert receiver.points()["a"] == [(NOW_MS, 1.0), (NOW_MS + 1, -1.0)]
    assert [value for _, value in receiver.points()["b"]] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert all(WriteReader().read(request.content).samples <= 2 for request in receiver.requests)


def test_what_the_store_refuses_is_not_passed_on(store: Store, tmp_path: Path) -> None:
    receiver = Receiver()

    def use(forwarding: Forwarding) -> None:
        tee = forwarding.tee(store)
        tee.append_scrape("g", LAYOUT, NOW_MS, np.zeros(3))
        with pytest.raises(Exception, match="not after the last one"):
            tee.append_scrape("g", LAYOUT, NOW_MS, np.ones(3))

    forwarded(tmp_path, ForwardSettings((Destination(URL),)), receiver, use, 2)
    assert receiver.points() == {name: [(NOW_MS, 0.0)] for name in "abc"}


def test_failures_are_tried_again_with_growing_waits_or_as_asked(store: Store, tmp_path: Path) -> None:
    refusals = [httpx.Response(503), httpx.Response(500), httpx.Response(429, headers={"Retry-After": "7"})]
    receiver = Receiver(*refusals)
    waits = forwarded(tmp_path, ForwardSettings((Destination(URL),)), receiver, scrapes(store, [1.0]), 4)
    assert waits == [0.1, 0.2, 7.0, 1.0]
    assert len(receiver.requests) == 4
    assert len({request.content for request in receiver.requests}) == 1


def test_waits_and_what_429_means_are_those_of_the_destination(store: Store, tmp_path: Path) -> None:
    receiver = Receiver(httpx.Response(503), httpx.Response(503), httpx.Response(503), httpx.Response(429))
    to = Destination(URL, patience=Patience(0.5, 0.75, RETRIED - {429}))
    kept: list[Forwarding] = []
    use = scrapes(store, [1.0])
    waits = forwarded(
        tmp_path, ForwardSettings((to,)), receiver, lambda forwarding: (kept.append(forwarding), use(forwarding))[1], 4
    )
    assert waits == [0.5, 0.75, 0.75, 1.0]
    assert kept[0].senders[0].refused == 1


EXEMPLARS = [Exemplar(LAYOUT[n], (("trace_id", str(n)),), n + 0.5, NOW_MS + n) for n in range(3)]


@pytest.mark.parametrize("message", [MESSAGE_1, MESSAGE])
def test_exemplars_go_along_where_that_is_asked_for(tmp_path: Path, message: str) -> None:
    def use(store: Store, forwarding: Forwarding) -> None:
        tee = forwarding.tee(store)
        tee.append_scrape("g", LAYOUT, NOW_MS, np.zeros(3))
        assert tee.append_exemplars(one for one in EXEMPLARS) == 3

    rules = (Rule(action="drop", source_labels=("__name__",), regex="b"), Rule(target_label="x", replacement="y"))
    read = (WriteReader if message == MESSAGE_1 else WriteReader2)().read
    for wanted in (True, False):
        receiver = Receiver()
        to = Destination(URL, message=message, exemplars=wanted, rules=rules)
        with Store.open(tmp_path / str(wanted)) as store:
            forwarded(tmp_path / str(wanted), ForwardSettings((to,)), receiver, partial(use, store), 1)
        (request,) = receiver.requests
        found = read(request.content)
        assert [replace(one, series=one.series[:2]) for one in found.exemplars] == EXEMPLARS[::2] * wanted
        assert all(one.series[2] == ("x", "y") for one in found.exemplars)


def test_what_metrics_mean_goes_along_once_in_a_while(tmp_path: Path) -> None:
    described = {name: WrittenMetadata(name, "counter", f"Help of {name}.", "") for name in ("a", "b", "c")}
    now_s = 0.0
    with DiskQueue(tmp_path / "q.db") as queue:
        describing = Describing(every_s=60.0, max_families=2)
        samples = Samples(queue, described=described, describing=describing, now_s=lambda: now_s)
        told = []
        for moment_s in (1.0, 2.0, 61.0):
            now_s = moment_s
            samples.scrape("g", LAYOUT, NOW_MS + round(now_s * 1000), np.zeros(3))
            batch = queue.peek(100, 1 << 20)
            assert batch is not None
            queue.done(batch.last_id)
            assert batch.items == 3
            told.append(WriteReader().read(RemoteWriteOut("http://x").post(batch).body).metadata)
    assert told == [tuple(described.values()), (), tuple(described.values())]


def test_in_remote_write_2_what_a_metric_means_stands_beside_its_series(tmp_path: Path) -> None:
    layout = tuple((("__name__", name),) for name in ("a", "h_bucket", "unknown"))
    meanings = [WrittenMetadata("a", "gauge", "Level.", "bytes"), WrittenMetadata("h", "histogram", "Spread.", "")]

    def use(store: Store, forwarding: Forwarding) -> None:
        tee = forwarding.tee(store)
        for one in meanings:
            tee.set_metadata(one.family, one.type, one.help, one.unit)
        tee.append_scrape("g", layout, NOW_MS, np.zeros(3))

    for send in (True, False):
        receiver = Receiver()
        to = Destination(URL, message=MESSAGE, metadata=Describing(send=send))
        with Store.open(tmp_path / str(send)) as store:
            forwarded(tmp_path / str(send), ForwardSettings((to,)), receiver, partial(use, store), 1)
        found = WriteReader2().read(receiver.requests[0].content)
        assert list(found.metadata) == meanings * send
        assert found.samples == 3


def test_what_is_refused_for_good_is_dropped_counted_and_said_once(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = Receiver(httpx.Response(400, text="out of\norder"), httpx.Response(400, text="out of order"))
    settings = ForwardSettings((Destination(URL, max_samples=3),))
    kept: list[Forwarding] = []
    use = scrapes(store, [1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0])
    with caplog.at_level(logging.INFO):
        forwarded(tmp_path, settings, receiver, lambda forwarding: (kept.append(forwarding), use(forwarding))[1], 3)
    (sender,) = kept[0].senders
    assert (sender.refused, sender.sent, sender.trouble) == (6, 3, "")
    assert [record.message for record in caplog.records if record.name.startswith("collector")] == [
        "forwarding to http://receiver/api/v1/write: answers 400: out of order",
        "forwarding to http://receiver/api/v1/write: works again",
    ]


def test_what_waits_is_sent_by_the_next_process(store: Store, tmp_path: Path) -> None:
    settings = ForwardSettings((Destination(URL),))
    receiver = Receiver()
    forwarded(tmp_path, settings, Receiver(httpx.Response(503)), scrapes(store, [1.0, 2.0]), 1)
    forwarded(tmp_path, settings, receiver, lambda _: None, 1)
    assert receiver.points() == {"a": [(NOW_MS, 1.0)], "b": [(NOW_MS, 2.0)]}


def test_the_token_is_read_at_each_request_and_its_absence_is_waited_out(store: Store, tmp_path: Path) -> None:
    token, receiver = tmp_path / "token", Receiver()
    settings = ForwardSettings((Destination("http://receiver/write", bearer(token)),))
    forwarded(tmp_path, settings, receiver, scrapes(store, [1.0]), 1)
    assert receiver.requests == []
    token.write_text("s3cret\n")
    forwarded(tmp_path, settings, receiver, lambda _: None, 1)
    assert receiver.requests[0].headers["authorization"] == "Bearer s3cret"


def test_series_are_relabelled_and_dropped_before_they_are_queued(tmp_path: Path) -> None:
    rules = (
        Rule(action="drop", source_labels=("__name__",), regex="b"),
        Rule(target_label="site", replacement="here"),
        Rule(action="labeldrop", regex="job"),
    )
    with DiskQueue(tmp_path / "q.db") as queue:
        samples = Samples(queue, rules, external=(("zone", "z"), ("job", "outer")))
        samples.scrape("g", LAYOUT, NOW_MS, np.array([1.0, 2.0, 3.0]))
        samples.scrape("g", LAYOUT[:1], NOW_MS + 1, np.array([1.0]))
        batch = queue.peek(100, 1 << 20)
        assert batch is not None
        read = WriteReader().read(RemoteWriteOut("http://x").post(batch).body)
    assert {dict(one.labels)["__name__"] for one in read.series} == {"a", "c"}
    assert {one.labels[1:] for one in read.series} == {(("site", "here"), ("zone", "z"))}
    assert batch.items == 4


def test_a_moment_outside_the_template_is_sent_all_the_same(tmp_path: Path) -> None:
    with DiskQueue(tmp_path / "q.db") as queue:
        Samples(queue).scrape("g", LAYOUT, 5, np.array([1.0, STALE_NAN, 3.0]))
        batch = queue.peek(100, 1 << 20)
        assert batch is not None
        read = WriteReader().read(RemoteWriteOut("http://x").post(batch).body)
    assert [one.timestamps_ms.tolist() for one in read.series] == [[5], [5], [5]]
    assert is_stale(read.series[1].values).all()


def spans(*names: str) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for name in names:
        request.resource_spans.add().scope_spans.add().spans.add(name=name)
    return request


def test_otlp_is_passed_on_as_it_came_in_batches_of_one_signal(tmp_path: Path) -> None:
    receiver = Receiver()

    def use(forwarding: Forwarding) -> None:
        for request in (spans("a"), spans(), spans("b", "c")):
            forwarding.pass_on("traces", request)

    forwarded(tmp_path, ForwardSettings(otlp=(Destination("http://backend:4318/"),)), receiver, use, 2)
    (request,) = receiver.requests
    assert (request.url, request.headers["content-encoding"]) == ("http://backend:4318/v1/traces", "gzip")
    sent = ExportTraceServiceRequest.FromString(gzip.decompress(request.content))
    assert [one.scope_spans[0].spans[0].name for one in sent.resource_spans] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "settings", [ForwardSettings((Destination(URL),)), ForwardSettings(otlp=(Destination("http://backend"),))]
)
def test_damaged_records_are_dropped_counted_and_the_next_are_sent(tmp_path: Path, settings: ForwardSettings) -> None:
    kept: list[Forwarding] = []

    def use(forwarding: Forwarding) -> None:
        kept.append(forwarding)
        forwarding.senders[0].queue.append("traces", b"damaged", 3)

    receiver = Receiver()
    forwarded(tmp_path, settings, receiver, use, 1)
    assert (kept[0].senders[0].refused, receiver.requests) == (3, [])
    assert "damaged" in kept[0].senders[0].trouble


def test_own_metrics_tell_of_every_destination(store: Store, tmp_path: Path) -> None:
    def check(forwarding: Forwarding) -> None:
        scrapes(store, [1.0, 2.0])(forwarding)
        forwarding.senders[0].queue.dropped["size"] = 3
        found = {
            (sample.name.removeprefix("loadline_collector_forward_"), sample.labels.get("reason", "")): sample
            for family in ForwardMetrics(forwarding.senders).collect()
            for sample in family.samples
        }
        assert found["queue_items", ""].value == 2.0
        assert found["dropped_total", "size"].value == 3.0
        assert found["sent_total", ""].labels == {"destination": "http://receiver/api/v1/write"}

    forwarded(tmp_path, ForwardSettings((Destination(URL),)), Receiver(), check, 0)


def test_a_file_says_where_to_and_what_of_it(tmp_path: Path) -> None:
    path = tmp_path / "forward.yml"
    path.write_text(
        "remote_write:\n"
        "  - url: http://a/write\n"
        "    queue_bytes: 1MB\n"
        "    queue_age: 1h\n"
        "    max_samples_per_send: 7\n"
        "    write_relabel_configs: [{source_labels: [__name__], regex: 'go_.*', action: drop}]\n"
        "otlp:\n"
        "  - {url: 'http://b:4318', bearer_token_file: /token}\n"
    )
    read = forward_settings(["http://c/write"], file=path)
    assert [to.url for to in read.remote_write] == ["http://c/write", "http://a/write"]
    to = read.remote_write[1]
    assert (to.queue_bytes, to.queue_age_s, to.max_samples, to.rules[0].action) == (1 << 20, 3600.0, 7, "drop")
    assert read.otlp[0].access == bearer(Path("/token"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("remote_write: [{url: 'ftp://a'}]", '1:22: url: "ftp://a"; an address looks like'),
        ("remote_write: [{}]", "url: is absent; it is where to send"),
        ("otlp: [{url: 'http://a', write_relabel_configs: []}]", '"write_relabel_configs" is not understood'),
        ("otlp: 3", 'otlp: "3"; it is a list'),
        ("remote: []", "allowed: remote_write, otlp"),
        ("a: [", "not YAML"),
    ],
)
def test_what_is_wrong_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "forward.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_forward_file(path)
    assert words in str(caught.value)
    assert f"{path}:1:" in str(caught.value)


def test_addresses_of_options_are_checked_and_given_once() -> None:
    with pytest.raises(ConfigError, match="'nowhere' is no address; an address looks like"):
        forward_settings(["nowhere"])
    with pytest.raises(ConfigError, match="http://b is given 2 times"):
        forward_settings(["http://u:p@b"], ["http://u:p@b"])


def test_a_queues_file_has_a_name_of_its_own_without_secrets() -> None:
    assert file_of(URL).startswith("http-receiver-api-v1-write-")
    assert "secret" not in file_of(URL)
    assert file_of(URL) != file_of(URL + "/")


def test_samples_leave_by_remote_write_2_where_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    receiver = Receiver()
    settings = ForwardSettings((Destination(URL, message=MESSAGE),))
    forwarded(tmp_path, settings, receiver, scrapes(store, [1.0, 0.0, np.nan], [4.0]), 1)
    (request,) = receiver.requests
    assert request.headers["content-type"] == f"application/x-protobuf;proto={MESSAGE}"
    assert request.headers["x-prometheus-remote-write-version"] == "2.0.0"
    found = WriteReader2().read(request.content)
    values = {one.labels: one.values.tolist() for one in found.series if dict(one.labels)["__name__"] != "c"}
    assert set(values) == set(LAYOUT[:2])
    samples = [(dict(one.labels)["__name__"], float(value)) for one in found.series for value in one.values]
    assert samples[:2] == [("a", 1.0), ("b", 0.0)]
    assert ("a", 4.0) in samples
    assert sum(bool(is_stale(one.values)[-1]) for one in found.series) == 2
