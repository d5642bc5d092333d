"""Feedback on answers: read or refused, joined to the request's span, kept, found again, counted."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.client import Client
from collector.ingest.feedback import FeedbackReceiver, Requests
from collector.ingest.feedback_metrics import MORE, FeedbackMetrics
from collector.model.errors import IngestError, SourceError
from collector.model.feedback import RATINGS, Feedback, feedback_from_json, feedback_to_json
from collector.model.labels import METRIC_NAME, Labels, get
from collector.model.logs import LogRecord
from collector.model.series import Float64Array
from collector.model.spans import Span

NOW_S = 1_700_000_000.0
PROTOBUF = {"content-type": "application/x-protobuf"}


class Sink:
    """Keeps every row of counts that was written."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[Labels, float]]] = []
        self.families: dict[str, str] = {}

    def append_scrape(self, group_key: str, layout: Sequence[Labels], timestamp_ms: int, values: Float64Array) -> None:
        self.rows.append((timestamp_ms, dict(zip(layout, values.tolist(), strict=True))))

    def set_metadata(self, metric: str, type: str, help: str, unit: str) -> None:
        self.families[metric] = type

    def value(self, name: str, **labels: str) -> float:
        (found,) = [
            value
            for series, value in self.rows[-1][1].items()
            if get(series, METRIC_NAME) == name and all(get(series, key) == text for key, text in labels.items())
        ]
        return found


class Nothing:
    """No spans; takes records and forgets them."""

    def search(self, **conditions: object) -> list[Span]:
        return []

    def append(self, records: Sequence[LogRecord]) -> int:
        return len(records)


def request_trace(request_id: str, trace_id: bytes = b"\x07" * 16, start_s: float = NOW_S - 60) -> bytes:
    """What the engine tells of one request: its own span, and a stage inside it."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "engine"
    scope = resource.scope_spans.add()
    texts = {"gen_ai.response.id": request_id, "gen_ai.request.model": "tiny", "loadline.tenant": "acme"}
    for place, attributes in enumerate((texts, {})):
        span = scope.spans.add(name="chat", trace_id=trace_id, span_id=bytes([place + 1] * 8))
        span.parent_span_id = bytes([place] * 8) if place else b""
        span.start_time_unix_nano = int(start_s * 1e9) + place
        span.end_time_unix_nano = int((start_s + 1) * 1e9)
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


def test_feedback_finds_the_span_of_its_request_and_is_found_again(api: httpx.Client, parts: Parts) -> None:
    api.post("/v1/traces", content=request_trace("chatcmpl-1"), headers=PROTOBUF)
    given = {"request_id": "chatcmpl-1", "rating": "down", "hallucination_score": 0.8, "labels": {"prompt": "v2"}}
    answer = api.post("/api/v1/feedback", json=given)
    assert answer.json() == {"status": "success", "data": {"stored": 1, "joined": 1}}
    (found,) = api.get("/api/v1/feedback", params={"request_id": "chatcmpl-1"}).json()["data"]
    assert found == given | {"trace_id": "07" * 16, "model": "tiny", "tenant": "acme", "time": NOW_S}
    (record,) = api.get("/api/v1/logs", params={"trace_id": "07" * 16}).json()["data"]
    assert (record["service"], record["span_id"]) == ("engine", "01" * 8)


@pytest.mark.parametrize("said", ["abc", "chatcmpl-abc"])
def test_the_callers_own_request_id_leads_to_the_answers(api: httpx.Client, said: str) -> None:
    api.post("/v1/traces", content=request_trace("chatcmpl-abc"), headers=PROTOBUF)
    answer = api.post("/api/v1/feedback", json={"request_id": said, "rating": 5})
    assert answer.json()["data"]["joined"] == 1


def test_a_request_from_before_the_start_is_looked_up_in_the_store(
    parts: Parts, serve_app: Callable[[ASGIApp], str]
) -> None:
    with httpx.Client(base_url=serve_app(create_app(parts)), trust_env=False) as before:
        before.post("/v1/traces", content=request_trace("old"), headers=PROTOBUF)
    restarted = replace(parts, feedback=None, otlp=None)  # type: ignore[arg-type]
    with httpx.Client(base_url=serve_app(create_app(restarted)), trust_env=False) as after:
        assert after.post("/api/v1/feedback", json={"request_id": "old", "rating": "up"}).json()["data"]["joined"] == 1


def test_feedback_by_trace_id_is_joined_to_the_span_of_the_request(api: httpx.Client) -> None:
    api.post("/v1/traces", content=request_trace("r"), headers=PROTOBUF)
    api.post("/api/v1/feedback", json={"trace_id": "07" * 16, "retried": True})
    (record,) = api.get("/api/v1/logs", params={"text": "loadline.feedback"}).json()["data"]
    assert record["span_id"] == "01" * 8
    assert record["attributes"]["gen_ai.request.model"] == "tiny"


def test_feedback_of_an_unknown_request_is_kept_and_counted_as_unmatched(api: httpx.Client, parts: Parts) -> None:
    answer = api.post("/api/v1/feedback", json={"request_id": "lost", "rating": "up", "model": "m", "tenant": "t"})
    assert answer.json()["data"] == {"stored": 1, "joined": 0}
    assert [one["model"] for one in api.get("/api/v1/feedback").json()["data"]] == ["m"]
    parts.feedback.metrics.write(round(NOW_S * 1000))
    (sample,) = api.get("/api/v1/query", params={"query": "loadline_feedback_unmatched_total"}).json()["data"]["result"]
    assert sample["value"][1] == "1"
    assert "loadline_collector_feedback_total 1.0" in api.get("/metrics").text


def test_of_a_list_the_bad_are_named_and_the_others_stored(api: httpx.Client) -> None:
    several = [{"request_id": "a", "rating": "up"}, {"request_id": "b", "rating": "great"}, {"rating": "up"}, 7]
    answer = api.post("/api/v1/feedback", json=several)
    assert answer.status_code == 400
    assert answer.json()["error"] == (
        "feedback[1]: rating is 'great'; it is up, down or 1 to 5; "
        "feedback[2]: request_id and trace_id are absent; one of the two is needed; "
        "feedback[3]: 7 is no object; one has request_id, trace_id, rating, hallucination_score, retried, truncated, "
        "model, tenant, labels, comment, time; 1 stored"
    )
    assert len(api.get("/api/v1/feedback").json()["data"]) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"rating": True}, "rating is True"),
        ({"rating": 6}, "rating is 6"),
        ({"hallucination_score": 1.5}, "a number from 0 to 1"),
        ({"retried": "yes"}, "true or false"),
        ({"labels": {"a-b": "c"}}, "name 'a-b'"),
        ({"labels": {f"l{n}": "" for n in range(11)}}, "at most 10"),
        ({"labels": {"a": 1}}, "a is 1"),
        ({"trace_id": "xyz"}, "32 hexadecimal digits"),
        ({"request_id": "a b"}, "printable"),
        ({"time": 1_700_000_000_000}, "Unix seconds"),
        ({"ratings": "up"}, "'ratings' is not understood"),
        ({"rating": None}, "nothing is said"),
        ({"comment": "x" * 2001}, "at most 2000"),
    ],
)
def test_what_cannot_be_used_is_named(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        feedback_from_json({"request_id": "a", "rating": "up"} | change)


opinions = st.builds(
    Feedback,
    request_id=st.text("abc-123", min_size=1, max_size=20),
    rating=st.sampled_from(RATINGS),
    hallucination_score=st.none() | st.floats(0, 1),
    retried=st.none() | st.booleans(),
    truncated=st.none() | st.booleans(),
    model=st.text("mn", max_size=3),
    tenant=st.text("tu", max_size=3),
    labels=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text("xyz", max_size=5), max_size=3),
    comment=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    time_s=st.none() | st.floats(0, 4e9),
)


@given(opinions)
def test_json_keeps_what_was_said(feedback: Feedback) -> None:
    assert feedback_from_json(orjson.loads(orjson.dumps(feedback_to_json(feedback)))) == feedback


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["request_id", "rating", "labels", "time", "trace_id", "comment"]), json_values))
def test_any_object_is_read_or_refused_with_a_reason(entry: dict[str, Any]) -> None:
    try:
        feedback_from_json(entry)
    except ValueError as error:
        assert len(str(error)) < 400


@given(st.binary(max_size=200) | json_values.map(lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)))
def test_any_body_is_taken_or_refused_as_unreadable(body: bytes) -> None:
    receiver = FeedbackReceiver(Requests(Nothing()), Nothing(), FeedbackMetrics(Sink()), lambda: NOW_S)
    try:
        taken = receiver.take(body)
    except IngestError:
        return
    assert receiver.stored == taken.stored
    assert receiver.refused == len(taken.refused)


def test_counts_are_by_model_tenant_and_rating() -> None:
    sink = Sink()
    metrics = FeedbackMetrics(sink)
    down = Feedback("a", rating="down", hallucination_score=0.35, retried=True, model="m", tenant="t")
    metrics.observe([down, down, replace(down, rating="up", retried=False, truncated=True)], unmatched=1)
    metrics.write(1000)
    assert sink.value("loadline_feedback_total", rating="down", model_name="m", tenant="t") == 2.0
    assert sink.value("loadline_feedback_total", rating="up") == 1.0
    assert sink.value("loadline_feedback_retried_total") == 2.0
    assert sink.value("loadline_feedback_truncated_total") == 1.0
    assert sink.value("loadline_feedback_hallucination_score_bucket", le="0.3") == 0.0
    assert sink.value("loadline_feedback_hallucination_score_bucket", le="0.4") == 3.0
    assert sink.value("loadline_feedback_hallucination_score_bucket", le="+Inf") == 3.0
    np.testing.assert_allclose(sink.value("loadline_feedback_hallucination_score_sum"), 1.05)
    assert sink.value("loadline_feedback_unmatched_total") == 1.0
    assert set(sink.families.values()) == {"counter", "histogram"}


def test_a_new_series_is_zero_just_before_its_first_count() -> None:
    sink = Sink()
    metrics = FeedbackMetrics(sink)
    metrics.observe([Feedback("a", rating="up")], 0)
    metrics.write(1000)
    metrics.observe([Feedback("a", rating="up"), Feedback("b", rating="down")], 0)
    metrics.write(2000)
    metrics.write(3000)
    assert [time for time, _ in sink.rows] == [999, 1000, 1999, 2000, 3000]
    counts = [
        [value for series, value in row.items() if get(series, METRIC_NAME) == "loadline_feedback_total"]
        for _, row in sink.rows
    ]
    assert counts == [[0.0], [1.0], [2.0, 0.0], [2.0, 1.0], [2.0, 1.0]]


def test_models_and_tenants_beyond_the_limit_are_counted_together() -> None:
    sink = Sink()
    metrics = FeedbackMetrics(sink, max_pairs=2)
    metrics.observe([Feedback("a", rating="up", tenant=f"t{number}") for number in range(5)], 0)
    metrics.write(1)
    assert sink.value("loadline_feedback_total", tenant="t1") == 1.0
    assert sink.value("loadline_feedback_total", tenant=MORE, model_name=MORE) == 3.0


def test_only_the_latest_requests_are_remembered() -> None:
    requests = Requests(Nothing(), most=2)
    spans = [
        Span("0" * 32, f"{place:016x}", None, "n", "s", "server", 1, 2, attributes={"gen_ai.response.id": f"r{place}"})
        for place in range(4)
    ]
    requests.observe(spans)
    assert [requests.find(f"r{place}", "", 0) is not None for place in range(4)] == [False, False, True, True]


def test_the_client_gives_and_finds_feedback(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    with Client(serve_app(create_app(parts))) as client:
        client.give_feedback([Feedback("a", rating="up"), Feedback("b", rating="down", tenant="acme")])
        (found,) = client.feedback(rating="down", tenant="acme")
        assert (found.request_id, found.time_s) == ("b", NOW_S)
        with pytest.raises(SourceError, match="rating is 'no'"):
            client.give_feedback([Feedback("a", rating="no")])
