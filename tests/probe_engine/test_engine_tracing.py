"""Spans of a request, and an exporter that is no burden when nobody listens."""

import logging
import time

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.generation import Generation
from probe_engine.sched import SchedulerConfig
from probe_engine.telemetry.exporter import PAUSE_S, QuietExporter
from probe_engine.telemetry.tracing import RequestTracer

CONFIG = SchedulerConfig(num_blocks=200, block_size=4, max_num_batched_tokens=64, max_num_seqs=1, max_model_len=400)
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def ended(engine_of, clock, *, abort: bool = False, **options):
    """A generation and its last output: 1 s in the queue, 0.5 s per step, 3 tokens."""
    engine, runner = engine_of(CONFIG, clock=clock, record_tokens=True)

    def half_a_second():
        clock.now_s += 0.5

    runner.before_step = half_a_second
    generation = Generation("cmpl-7", list(b"hello"), 3, clock.now_s, SamplingParams(temperature=0.0), **options)
    engine.add(generation)
    clock.now_s += 1
    if abort:
        engine.step()
        return generation, engine.abort("cmpl-7")
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    return generation, outputs[-1]


@pytest.fixture
def spans_of():
    """Names to spans, for one ended request, with the engine's clock as wall clock."""
    memory = InMemorySpanExporter()
    tracer = RequestTracer("tiny", memory, offset_ns=lambda: 0)

    def spans(generation, output):
        tracer.finished(generation, output)
        tracer.flush()
        return {span.name: span for span in memory.get_finished_spans()}

    yield spans
    tracer.close()


def times(span) -> tuple[float, float]:
    return span.start_time / 1e9, span.end_time / 1e9


def test_a_request_is_one_server_span_with_queue_prefill_and_decode(engine_of, clock, spans_of):
    spans = spans_of(*ended(engine_of, clock))
    assert set(spans) == {"text_completion tiny", "queue", "prefill", "decode"}
    server = spans["text_completion tiny"]
    assert server.kind.name == "SERVER"
    assert times(server) == (100.0, 102.5)
    assert [times(spans[name]) for name in ("queue", "prefill", "decode")] == [
        (100.0, 101.0),
        (101.0, 101.5),
        (101.5, 102.5),
    ]
    assert {spans[name].parent.span_id for name in ("queue", "prefill", "decode")} == {server.context.span_id}
    assert server.resource.attributes["service.name"] == "loadline-engine"


def test_the_server_span_follows_the_genai_conventions(engine_of, clock, spans_of):
    attributes = spans_of(*ended(engine_of, clock))["text_completion tiny"].attributes
    expected = {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.max_tokens": 3,
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 5,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.latency.time_in_queue": 1.0,
        "gen_ai.latency.time_to_first_token": 1.5,
        "gen_ai.latency.e2e": 2.5,
    }
    assert {name: attributes[name] for name in expected} == expected


def test_the_decode_span_carries_every_token_gap(engine_of, clock, spans_of):
    spans = spans_of(*ended(engine_of, clock))
    assert spans["decode"].attributes["loadline.token_gaps_ms"] == (500.0, 500.0)


def test_the_callers_trace_goes_on(engine_of, clock, spans_of):
    server = spans_of(*ended(engine_of, clock, traceparent=PARENT))["text_completion tiny"]
    assert f"{server.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{server.parent.span_id:016x}" == "b7ad6b7169203331"


def test_a_broken_traceparent_begins_a_new_trace(engine_of, clock, spans_of):
    server = spans_of(*ended(engine_of, clock, traceparent="nonsense"))["text_completion tiny"]
    assert server.parent is None


def test_a_request_that_was_given_up_ends_where_it_was(engine_of, clock, spans_of):
    spans = spans_of(*ended(engine_of, clock, abort=True))
    assert times(spans["decode"]) == (101.5, 101.5)
    assert spans["text_completion tiny"].attributes["gen_ai.response.finish_reasons"] == ("abort",)


class Endpoint:
    """An OTLP endpoint that can be down."""

    def __init__(self) -> None:
        self.up = True
        self.asked = 0
        self.names: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if not self.up:
            raise httpx.ConnectError("connection refused")
        assert str(request.url) == "http://127.0.0.1:9190/v1/traces"
        body = ExportTraceServiceRequest.FromString(request.content)
        self.names += [
            span.name for resource in body.resource_spans for scope in resource.scope_spans for span in scope.spans
        ]
        return httpx.Response(200)


def test_an_endpoint_that_is_down_is_told_once_and_left_in_peace_for_a_while(engine_of, clock, spans_of, caplog):
    endpoint = Endpoint()
    exporter = QuietExporter("http://127.0.0.1:9190/", transport=httpx.MockTransport(endpoint), clock=clock)
    spans = list(spans_of(*ended(engine_of, clock)).values())
    assert exporter.export(spans) is SpanExportResult.SUCCESS
    endpoint.up = False
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            assert exporter.export(spans) is SpanExportResult.FAILURE
        assert endpoint.asked == 2
        clock.now_s += PAUSE_S
        exporter.export(spans)
        assert endpoint.asked == 3
        endpoint.up = True
        clock.now_s += PAUSE_S
        assert exporter.export(spans) is SpanExportResult.SUCCESS
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("probe_engine")]
    assert len(messages) == 2
    assert "takes no spans" in messages[0]
    assert "24 were dropped" in messages[1]
    assert len(endpoint.names) == 8
    exporter.shutdown()


def test_closing_while_the_endpoint_is_down_does_not_wait_for_it_and_is_no_warning(engine_of, clock, caplog):
    tracer = RequestTracer("tiny", QuietExporter("http://127.0.0.1:9"))  # nobody listens on the discard port
    tracer.finished(*ended(engine_of, clock))
    before = time.monotonic()
    tracer.close()
    assert time.monotonic() - before < 10
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
