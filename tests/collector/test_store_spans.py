"""Spans: what is appended comes back, once, by every filter."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.model.errors import StoreError
from collector.model.spans import Span, SpanEvent
from collector.store import SpanStore, Store

VALUE = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.text(), max_size=3),
)
ATTRIBUTES = st.dictionaries(st.text(max_size=8), VALUE, max_size=4)
SPAN = st.builds(
    Span,
    trace_id=st.integers(0, 3).map(lambda n: f"{n:032x}"),
    span_id=st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}"),
    parent_id=st.none() | st.just("00000000000000ff"),
    name=st.text(max_size=8),
    service=st.sampled_from(["engine", "gateway"]),
    kind=st.sampled_from(["server", "client", "internal"]),
    start_ns=st.integers(0, 2**62),
    end_ns=st.integers(0, 2**62),
    status=st.sampled_from(["unset", "ok", "error"]),
    status_message=st.text(max_size=5),
    attributes=ATTRIBUTES,
    resource=ATTRIBUTES,
    events=st.lists(st.builds(SpanEvent, st.integers(0, 2**62), st.text(max_size=5), ATTRIBUTES), max_size=2).map(
        tuple
    ),
)


@pytest.fixture
def spans(tmp_path: Path) -> Iterator[SpanStore]:
    with Store.open(tmp_path) as store:
        yield SpanStore(store.database)


def request(number: int, **changes: object) -> Span:
    fields: dict[str, object] = {
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "parent_id": None,
        "name": "POST /v1/completions",
        "service": "engine",
        "kind": "server",
        "start_ns": number * 1_000_000_000,
        "end_ns": number * 1_000_000_000 + number * 1_000_000,
    }
    return Span(**{**fields, **changes})  # type: ignore[arg-type]


def ids(found: list[Span]) -> list[int]:
    return [int(span.span_id, 16) for span in found]


@given(given_spans=st.lists(SPAN, max_size=6, unique_by=lambda span: span.span_id))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_a_span_comes_back_as_it_was(spans: SpanStore, given_spans: list[Span]) -> None:
    spans.append(given_spans)
    for span in given_spans:
        assert span in spans.trace(span.trace_id)
    spans.retain(2**63 - 1)


def test_a_span_sent_twice_is_kept_once(spans: SpanStore) -> None:
    assert spans.append([request(1), request(2), request(1)]) == 2
    assert spans.append([request(2)]) == 0
    assert ids(spans.search()) == [2, 1]


def test_filters_narrow_the_answer(spans: SpanStore) -> None:
    spans.append([request(n) for n in range(1, 9)])
    spans.append(
        [request(20, service="gateway", name="route", attributes={"http.status": 503, "retry": True, "x": 0.5})]
    )
    assert ids(spans.search(service="gateway")) == [20]
    assert ids(spans.search(name="route")) == [20]
    assert ids(spans.search(trace_id=f"{3:032x}")) == [3]
    assert ids(spans.search(min_duration_ms=7, service="engine")) == [8, 7]
    assert ids(spans.search(start_ns=3_000_000_000, end_ns=5_000_000_000)) == [5, 4, 3]
    assert ids(spans.search(attributes={"http.status": "503", "retry": "true", "x": "0.5"})) == [20]
    assert ids(spans.search(attributes={"http.status": "503", "retry": "false"})) == []
    assert ids(spans.search(limit=2)) == [20, 8]


def test_an_attribute_of_the_resource_counts_too(spans: SpanStore) -> None:
    spans.append([request(1, resource={"k8s.pod.name": 'pod "7"'}), request(2)])
    assert ids(spans.search(attributes={"k8s.pod.name": 'pod "7"'})) == [1]


def test_a_trace_is_in_order_of_time(spans: SpanStore) -> None:
    trace_id = "ab" * 16
    spans.append([request(n, trace_id=trace_id) for n in (3, 1, 2)])
    assert ids(spans.trace(trace_id)) == [1, 2, 3]
    assert spans.trace("cd" * 16) == []


def test_numbers_that_json_lacks_are_kept_as_words(spans: SpanStore) -> None:
    spans.append([request(1, attributes={"a": float("nan"), "b": [float("inf"), -float("inf")]})])
    assert spans.search()[0].attributes == {"a": "NaN", "b": ["Infinity", "-Infinity"]}


def test_an_id_that_is_not_hexadecimal_is_refused_and_nothing_is_stored(spans: SpanStore) -> None:
    with pytest.raises(StoreError, match="span id 'xyz' is not hexadecimal"):
        spans.append([request(1), request(2, span_id="xyz")])
    assert spans.search() == []


def test_spans_outlive_a_restart(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        SpanStore(store.database).append([request(1, events=(SpanEvent(5, "first token", {"n": 1}),))])
    with Store.open(tmp_path, read_only=True) as store:
        assert SpanStore(store.database).search()[0].events == (SpanEvent(5, "first token", {"n": 1}),)


def test_a_damaged_span_is_reported_and_the_others_are_found(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        spans = SpanStore(store.database)
        good = Span("ab" * 16, "01" * 8, None, "GET /", "api", "server", 1, 2, attributes={"user": "u"})
        spans.append([good, *(Span("ab" * 16, f"0{n}" * 8, None, "n", "api", "server", 1, 2) for n in (2, 3, 4))])
        connection = sqlite3.connect(tmp_path / "loadline.db")
        with connection:
            connection.execute("UPDATE spans SET attributes = '{\"user\":' WHERE id = 2")
            connection.execute("UPDATE spans SET resource = '7' WHERE id = 3")
            connection.execute("UPDATE spans SET name = CAST(x'ff' AS TEXT) WHERE id = 4")
        connection.close()
        assert spans.search(attributes={"user": "u"}) == [good]
        assert spans.search(service="api") == [good]
        assert spans.trace("ab" * 16) == [good]
        problems = store.stats().recovered.problems
        assert sorted(problem[:15] for problem in problems) == [f"row {n} of spans "[:15] for n in (2, 3, 4)]


def test_spans_are_found_by_status(spans: SpanStore) -> None:
    for number, status in enumerate(("ok", "error", "unset")):
        spans.append([Span("ab" * 16, f"{number:016x}", None, status, "api", "server", 1, 2, status)])  # type: ignore[arg-type]
    assert [span.name for span in spans.search(status="error")] == ["error"]
