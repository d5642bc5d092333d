"""OpenTelemetry's own exporters against the collector, over gRPC and HTTP, every signal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from starlette.types import ASGIApp

from collector.api.app import create_otlp_app
from collector.api.parts import Parts
from collector.ingest.otlp_grpc import OtlpGrpcServer
from collector.ingest.otlp_receiver import OtlpReceiver
from collector.ingest.span_metrics import SpanMetrics
from collector.model.errors import ConfigError
from collector.model.labels import Labels
from collector.model.logs import LogRecord
from collector.model.matchers import Matcher

grpc = pytest.importorskip("grpc")
pytest.importorskip("opentelemetry.exporter.otlp.proto.grpc")

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics  # noqa: E402
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans  # noqa: E402
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (  # noqa: E402
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider  # noqa: E402
from opentelemetry.sdk.metrics.export import (  # noqa: E402
    AggregationTemporality,
    MetricExporter,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter  # noqa: E402

RESOURCE = Resource({"service.name": "engine", "service.instance.id": "i1", "zone": "a"})
DELTA = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
LAST_MS = 1 << 50


class Logs:
    """Keeps log records."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []

    def append(self, records) -> int:
        self.records += records
        return len(records)


@contextmanager
def grpc_served(receiver: OtlpReceiver, token: str | None = None) -> Iterator[str]:
    server = OtlpGrpcServer(receiver, "127.0.0.1", 0, 1 << 20, token)
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()


@pytest.fixture(params=["grpc", "http"])
def exporters(
    request: pytest.FixtureRequest, parts: Parts, serve_app: Callable[[ASGIApp], str]
) -> Iterator[tuple[Callable[[], SpanExporter], Callable[..., MetricExporter]]]:
    """Exporters of both signals over one transport."""
    if request.param == "http":
        url = serve_app(create_otlp_app(parts))
        yield (
            lambda: HttpSpans(endpoint=f"{url}/v1/traces"),
            lambda **more: HttpMetrics(endpoint=f"{url}/v1/metrics", **more),
        )
    else:
        with grpc_served(parts.otlp) as address:
            yield (
                lambda: GrpcSpans(endpoint=address, insecure=True),
                lambda **more: GrpcMetrics(endpoint=address, insecure=True, **more),
            )


def found(parts: Parts, name: str) -> dict[Labels, list[float]]:
    groups = parts.store.select([Matcher("__name__", "=", name)], 0, LAST_MS)
    return {labels: group.values[:, column].tolist() for group in groups for column, labels in enumerate(group.labels)}


def test_spans_of_the_real_exporter_arrive(exporters, parts: Parts) -> None:
    provider = TracerProvider(resource=RESOURCE)
    provider.add_span_processor(SimpleSpanProcessor(exporters[0]()))
    with provider.get_tracer("test").start_as_current_span("request", attributes={"n": 7}):
        pass
    provider.shutdown()
    (span,) = parts.spans.search(service="engine")
    assert (span.name, span.attributes, span.resource["zone"]) == ("request", {"n": 7}, "a")


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
def test_metrics_of_the_real_exporter_arrive(exporters, parts: Parts, temporality) -> None:
    exporter = exporters[1](**({"preferred_temporality": temporality} if temporality else {}))
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    view = View(instrument_name="spread", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], resource=RESOURCE, views=[view], shutdown_on_exit=False)
    meter = provider.get_meter("test")
    counter, histogram = meter.create_counter("tokens", unit="{token}"), meter.create_histogram("ttft", unit="s")
    spread, gauge = meter.create_histogram("spread", unit="ms"), meter.create_gauge("depth")
    for _ in range(2):
        counter.add(3, {"model": "m"})
        histogram.record(0.3)
        gauge.set(5)
        for value in (1.0, 3.0, 100.0):
            spread.record(value)
        assert provider.force_flush()
    provider.shutdown()

    (counted,) = found(parts, "tokens_total").values()
    assert counted[:2] == [3.0, 6.0]
    (labels,) = found(parts, "tokens_total")
    assert dict(labels) == {"__name__": "tokens_total", "job": "engine", "instance": "i1", "model": "m"}
    buckets = {dict(labels)["le"]: values[1] for labels, values in found(parts, "ttft_seconds_bucket").items()}
    assert (buckets["0"], buckets["5"], buckets["+Inf"]) == (0.0, 2.0, 2.0)
    spreads = {
        float(dict(labels)["le"]): values[1] for labels, values in found(parts, "spread_milliseconds_bucket").items()
    }
    for bound, count in spreads.items():
        expected = 2.0 * sum(value <= bound for value in (1.0, 3.0, 100.0))
        assert count == expected or bound == 1.0, bound
    assert next(iter(found(parts, "depth").values()))[0] == 5.0
    assert next(iter(found(parts, "target_info")))[-1] == ("zone", "a")


def call(address: str, method: str, body: bytes, token: str = "") -> bytes:
    with grpc.insecure_channel(address) as channel:
        metadata = (("authorization", f"Bearer {token}"),) if token else ()
        return channel.unary_unary(f"/opentelemetry.proto.collector.{method}/Export")(
            body, metadata=metadata, timeout=5
        )


def log_request() -> bytes:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5, severity_number=9)
    record.body.string_value = "said"
    return request.SerializeToString()


def test_logs_are_taken_where_there_is_a_store_of_them_and_refused_where_not(parts: Parts) -> None:
    logs = Logs()
    for receiver, refused in ((OtlpReceiver(parts.store, parts.spans), 1), (_with_logs(parts, logs), 0)):
        with grpc_served(receiver) as address:
            answer = ExportLogsServiceResponse.FromString(call(address, "logs.v1.LogsService", log_request()))
        assert answer.partial_success.rejected_log_records == refused
    assert [(one.body, one.severity) for one in logs.records] == [("said", 9)]


def _with_logs(parts: Parts, logs: Logs) -> OtlpReceiver:
    return OtlpReceiver(parts.store, parts.spans, logs)


def test_what_is_no_request_is_an_invalid_argument(parts: Parts) -> None:
    with grpc_served(parts.otlp) as address, pytest.raises(grpc.RpcError) as caught:
        call(address, "trace.v1.TraceService", b"\xff\xff")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "is no ExportTraceServiceRequest" in caught.value.details()


def test_without_the_token_nothing_is_taken(parts: Parts) -> None:
    with grpc_served(parts.otlp, "s3cret") as address:
        for token in ("", "wrong"):
            with pytest.raises(grpc.RpcError) as caught:
                call(address, "trace.v1.TraceService", b"", token)
            assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert call(address, "trace.v1.TraceService", b"", "s3cret") == b""


def test_a_port_in_use_is_told_in_one_line(parts: Parts) -> None:
    with grpc_served(parts.otlp) as address, pytest.raises(ConfigError, match="choose another with --otlp-grpc-port"):
        OtlpGrpcServer(parts.otlp, "127.0.0.1", int(address.rpartition(":")[2]), 1 << 20)


def test_spans_that_arrive_are_counted_by_hop(parts: Parts) -> None:
    counted = SpanMetrics(parts.store)
    with grpc_served(OtlpReceiver(parts.store, parts.spans, span_metrics=counted)) as address:
        provider = TracerProvider(resource=RESOURCE)
        provider.add_span_processor(SimpleSpanProcessor(GrpcSpans(endpoint=address, insecure=True)))
        for _ in range(3):
            provider.get_tracer("test").start_span("request").end()
        provider.shutdown()
    counted.write(1000)
    assert list(found(parts, "loadline_span_calls_total").values()) == [[3.0]]
