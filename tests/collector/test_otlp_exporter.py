"""OpenTelemetry's own exporter against the collector."""

from collections.abc import Callable

import pytest
from starlette.types import ASGIApp

from collector.api.app import create_otlp_app
from collector.api.parts import Parts


def test_spans_of_the_real_exporter_arrive_whole(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> None:
    exporters = pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    http = pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    export = pytest.importorskip("opentelemetry.sdk.trace.export")
    resources = pytest.importorskip("opentelemetry.sdk.resources")

    exporter = exporters.OTLPSpanExporter(
        endpoint=f"{serve_app(create_otlp_app(parts))}/v1/traces", compression=http.Compression.Gzip
    )
    provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": "engine", "zone": "a"}))
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("request", attributes={"gen_ai.usage.input_tokens": 7}) as request:
        request.add_event("queued", {"place": 3})
        with tracer.start_as_current_span("prefill"):
            pass
    provider.shutdown()

    root, child = sorted(parts.spans.search(service="engine"), key=lambda span: span.start_ns)
    assert (root.name, child.name) == ("request", "prefill")
    assert child.parent_id == root.span_id
    assert root.trace_id == child.trace_id == f"{request.get_span_context().trace_id:032x}"
    assert root.attributes == {"gen_ai.usage.input_tokens": 7}
    assert root.resource["zone"] == "a"
    assert (root.events[0].name, root.events[0].attributes) == ("queued", {"place": 3})
