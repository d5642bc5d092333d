"""The start-up as a trace, and one trace per request, built after it has ended from the times that the engine recorded.

A server span with children ``queue``, ``prefill`` and ``decode``; GenAI semantic conventions; the caller's W3C
``traceparent`` is its parent. Nothing of it runs on the engine's thread.
"""

import time
from collections.abc import Callable, Mapping
from threading import Thread

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.sched import Request, RequestTimeline
from probe_engine.telemetry.exporter import QuietExporter

EXPORT_EVERY_MS = 1000
CLOSE_TIMEOUT_S = 1.5
GAPS_ATTRIBUTE = "loadline.token_gaps_ms"  # attribute of the decode span: one float per gap, for the token strip


class RequestTracer:
    """Turns ended requests into spans.

    ``offset_ns`` gives wall clock minus the engine's clock, in ns.
    """

    def __init__(
        self,
        model_name: str,
        exporter: SpanExporter,
        *,
        service_name: str = "loadline-engine",
        offset_ns: Callable[[], int] = lambda: time.time_ns() - time.monotonic_ns(),
    ) -> None:
        self.model_name = model_name
        self._offset_ns = offset_ns
        self._exporter = exporter
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service_name}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=EXPORT_EVERY_MS))
        self._tracer = self._provider.get_tracer("loadline.probe_engine")
        self._propagator = TraceContextTextMapPropagator()

    def started(self, phases_s: Mapping[str, float]) -> None:
        """Emit the start-up as a span with a child per phase, the last of which ends now."""
        end_s = time.monotonic()
        begin_s = end_s - sum(phases_s.values())
        offset = self._offset_ns()
        whole = self._tracer.start_span(f"start {self.model_name}", start_time=_ns(begin_s, offset))
        inside = trace.set_span_in_context(whole)
        for name, took_s in phases_s.items():
            phase = self._tracer.start_span(name, context=inside, start_time=_ns(begin_s, offset))
            begin_s += took_s
            phase.end(_ns(begin_s, offset))
        whole.end(_ns(end_s, offset))

    def finished(self, generation: Generation, output: TokenOutput) -> str | None:
        """Emit the spans of a request that ended; the trace's id. One that never reached the scheduler has none."""
        request = output.request
        if request is None or request.timeline.finished_s is None:
            return None
        offset = self._offset_ns()
        carrier = {} if generation.traceparent is None else {"traceparent": generation.traceparent}
        span = self._tracer.start_span(
            f"{generation.operation} {self.model_name}",
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes=self._attributes(generation, request),
            start_time=_ns(request.arrival_s, offset),
        )
        if output.error is not None:
            span.set_status(Status(StatusCode.ERROR, output.error))
        inside = trace.set_span_in_context(span)
        for name, start_s, end_s in _stages(request.timeline):
            attributes: dict[str, AttributeValue] = {}
            if name == "decode":
                attributes[GAPS_ATTRIBUTE] = [round(gap * 1000, 3) for gap in request.timeline.gaps_s]
            child = self._tracer.start_span(
                name, context=inside, attributes=attributes, start_time=_ns(start_s, offset)
            )
            child.end(_ns(end_s, offset))
        span.end(_ns(request.timeline.finished_s, offset))
        return trace.format_trace_id(span.get_span_context().trace_id)

    def flush(self) -> None:
        """Export what has gathered, now."""
        self._provider.force_flush()

    def close(self) -> None:
        """Export what is left, for at most ``CLOSE_TIMEOUT_S``."""
        if isinstance(self._exporter, QuietExporter):
            self._exporter.closing = True
        closing = Thread(target=self._provider.shutdown, name="close-tracer", daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT_S)

    def _attributes(self, generation: Generation, request: Request) -> dict[str, AttributeValue]:
        sampling, timeline = generation.sampling, request.timeline
        reason = request.finish_reason
        attributes: dict[str, AttributeValue | None] = {
            "gen_ai.operation.name": generation.operation,
            "gen_ai.provider.name": "loadline",
            "gen_ai.request.model": self.model_name,
            "gen_ai.response.model": self.model_name,
            "gen_ai.response.id": generation.request_id,
            "gen_ai.request.max_tokens": generation.max_tokens,
            "gen_ai.request.temperature": sampling.temperature,
            "gen_ai.request.top_p": sampling.top_p,
            "gen_ai.request.top_k": sampling.top_k,
            "gen_ai.response.finish_reasons": None if reason is None else [reason.value],
            "gen_ai.usage.input_tokens": request.prompt_tokens,
            "gen_ai.usage.output_tokens": request.output_tokens,
            "gen_ai.usage.cache_read.input_tokens": request.cached_tokens,
            "gen_ai.latency.time_in_queue": timeline.queue_s,
            "gen_ai.latency.time_to_first_token": timeline.ttft_s,
            "gen_ai.latency.e2e": timeline.e2e_s,
            "gen_ai.latency.time_in_model_prefill": timeline.prefill_s,
            "gen_ai.latency.time_in_model_decode": timeline.decode_s,
            "loadline.request_id": generation.request_id,
            "loadline.tenant": request.tenant,
            "loadline.preemptions": request.preemptions,
        }
        return {name: value for name, value in attributes.items() if value is not None}


def _stages(timeline: RequestTimeline) -> list[tuple[str, float, float]]:
    """Name, start and end (s) of each stage that the request reached; the last one ends where the request did."""
    finished = timeline.finished_s or timeline.arrival_s
    borders = [timeline.arrival_s, timeline.scheduled_s, timeline.first_token_s]
    stages = []
    for name, start, end in zip(("queue", "prefill", "decode"), borders, [*borders[1:], finished], strict=True):
        if start is not None:
            stages.append((name, start, finished if end is None else end))
    return stages


def _ns(seconds: float, offset_ns: int) -> int:
    return round(seconds * 1e9) + offset_ns
