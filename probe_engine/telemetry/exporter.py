"""Send spans over OTLP/HTTP without ever being a burden: no retries, a pause while the endpoint is down, one warning.

The SDK's own exporter retries with back-off inside the export thread, logs every failed batch, and can hold up
shutdown; this one only encodes with it.
"""

import logging
import time
from collections.abc import Callable, Sequence

import httpx
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
PAUSE_S = 5.0


class QuietExporter(SpanExporter):
    """Posts to ``endpoint`` + ``/v1/traces``.

    After a failure batches are dropped, untried, for ``PAUSE_S``; ``dropped`` counts the spans. Going down and coming
    back are logged once each. Once ``closing`` is set a failure is no warning: whatever takes the spans may have been
    stopped as well.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = f"{endpoint.rstrip('/')}/v1/traces"
        self.dropped = 0
        self.closing = False
        self._client = httpx.Client(timeout=TIMEOUT_S, transport=transport, trust_env=False)
        self._clock = clock
        self._retry_s: float | None = None  # while the endpoint is down: when to try again

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one batch; a failure is remembered, not raised."""
        if self._retry_s is not None and self._clock() < self._retry_s:
            self.dropped += len(spans)
            return SpanExportResult.FAILURE
        try:
            body = encode_spans(spans).SerializeToString()
            answer = self._client.post(self.url, content=body, headers={"content-type": "application/x-protobuf"})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            self.dropped += len(spans)
            if self._retry_s is None:
                level = logging.INFO if self.closing else logging.WARNING
                log.log(level, "traces: %s takes no spans (%s); they are dropped until it does", self.url, error)
            self._retry_s = self._clock() + PAUSE_S
            return SpanExportResult.FAILURE
        if self._retry_s is not None:
            log.info("traces: %s takes spans again; %d were dropped", self.url, self.dropped)
            self._retry_s = None
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the connection."""
        self._client.close()
