"""Take OTLP requests into the store, however they came: read, keep, count, pass on, and say what was refused."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector.ingest import otlp
from collector.ingest.feedback import Requests
from collector.ingest.otlp_logs import read_logs
from collector.ingest.otlp_metrics import MetricsReader
from collector.ingest.otlp_traces import read_spans
from collector.ingest.sink import LogSink, MetricSink
from collector.ingest.span_metrics import SpanMetrics
from collector.model.spans import Span

SIGNALS = ("traces", "metrics", "logs")

PassOn = Callable[[str, Message], None]
"""Told the signal and the request once it is stored."""


class SpanSink(Protocol):
    """Takes spans."""

    def append(self, spans: Sequence[Span]) -> int:
        """Store spans and return how many were new. Raises StoreError."""
        ...


@dataclass(slots=True)
class Count:
    """Of one signal, since the start."""

    taken: int = 0
    refused: int = 0


class OtlpReceiver:
    """All signals of all senders; ``take`` may be called by many threads.

    Without ``logs`` every log record is refused. Read by others: ``counts`` by signal (spans, data points, records),
    ``exemplars``.
    """

    def __init__(
        self,
        metrics: MetricSink,
        spans: SpanSink,
        logs: LogSink | None = None,
        span_metrics: SpanMetrics | None = None,
        pass_on: PassOn | None = None,
        requests: Requests | None = None,
    ) -> None:
        self.counts = {signal: Count() for signal in SIGNALS}
        self.exemplars = 0
        self._metrics, self._spans, self._logs = metrics, spans, logs
        self._span_metrics, self._pass_on, self._requests = span_metrics, pass_on, requests
        self._reader = MetricsReader()
        self._lock = threading.Lock()
        self._signals: Mapping[str, tuple[type[Message], Callable[[Any], Message]]] = {
            "traces": (ExportTraceServiceRequest, self._take_traces),
            "metrics": (ExportMetricsServiceRequest, self._take_metrics),
            "logs": (ExportLogsServiceRequest, self._take_logs),
        }

    def take(self, signal: str, body: bytes, media: str) -> Message:
        """Store one request; the response says what was refused.

        Raises IngestError where it cannot be read, StoreError where it cannot be kept.
        """
        kind, take = self._signals[signal]
        request = otlp.decode(kind(), body, media)
        response = take(request)
        if self._pass_on is not None:
            self._pass_on(signal, request)
        return response

    def _take_traces(self, request: ExportTraceServiceRequest) -> Message:
        spans, refused = read_spans(request)
        new = self._spans.append(spans)
        if self._span_metrics is not None and new:
            self._span_metrics.observe(spans)
        if self._requests is not None and new:
            self._requests.observe(spans)
        self._count("traces", len(spans), refused)
        response = ExportTraceServiceResponse()
        if refused:
            response.partial_success.rejected_spans = len(refused)
            response.partial_success.error_message = told(refused)
        return response

    def _take_metrics(self, request: ExportMetricsServiceRequest) -> Message:
        with self._lock:
            read = self._reader.read(request)
            if read.distinct:
                result = self._metrics.append_batch(read.layout, read.timestamps_ms, read.values)
            else:
                result = self._metrics.append_series(read.series)
            for one in read.metadata.values():
                self._metrics.set_metadata(one.family, one.type, one.help, one.unit)
            if read.exemplars:
                self.exemplars += self._metrics.append_exemplars(read.exemplars)
        refused = read.refused + ["samples out of order"] * result.out_of_order
        refused += ["samples with other values than those of the same time"] * result.conflict
        self._count("metrics", result.accepted, refused)
        response = ExportMetricsServiceResponse()
        if refused:
            response.partial_success.rejected_data_points = len(refused)
            response.partial_success.error_message = told(refused)
        return response

    def _take_logs(self, request: ExportLogsServiceRequest) -> Message:
        records, refused = read_logs(request)
        if self._logs is None:
            refused += ["this collector keeps no logs"] * len(records)
            records = []
        else:
            self._logs.append(records)
        self._count("logs", len(records), refused)
        response = ExportLogsServiceResponse()
        if refused:
            response.partial_success.rejected_log_records = len(refused)
            response.partial_success.error_message = told(refused)
        return response

    def _count(self, signal: str, taken: int, refused: Sequence[str]) -> None:
        with self._lock:
            self.counts[signal].taken += taken
            self.counts[signal].refused += len(refused)


def told(refused: Sequence[str]) -> str:
    """The different reasons, at most five."""
    reasons = list(dict.fromkeys(refused))
    more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    return "; ".join(reasons[:5]) + more
