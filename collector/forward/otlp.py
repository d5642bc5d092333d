"""OTLP, going out: every signal passed on as it was received, in protobuf over HTTP."""

import gzip
import zlib

import httpx
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.forward.queue import Batch, DiskQueue
from collector.forward.sender import Heard, Post
from collector.model.errors import IngestError, StoreError
from collector.model.protobuf_wire import texts

MAX_ITEMS = 10_000
MAX_BYTES = 4 << 20
"""Of one request, uncompressed, unless one that was received is larger."""

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}

PROTOBUF = HEADERS["Content-Type"]

_PATHS = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}
_Answer = type[ExportTraceServiceResponse] | type[ExportMetricsServiceResponse] | type[ExportLogsServiceResponse]
_ANSWERS: dict[str, tuple[_Answer, str]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
}
_STATUS_MESSAGE = 0x12
"""Tag of the text of a google.rpc.Status."""


class OtlpOut:
    """How a batch of one signal becomes a request; ``url`` is the base, such as ``http://127.0.0.1:4318``."""

    def __init__(self, url: str) -> None:
        self.max_items = MAX_ITEMS
        self.max_bytes = MAX_BYTES
        self._url = url.rstrip("/")

    def post(self, batch: Batch) -> Post:
        """Requests are lists of resources: one after the other they are one. StoreError where one is damaged."""
        try:
            body = gzip.compress(b"".join(map(gzip.decompress, batch.payloads)), compresslevel=1)
        except (OSError, EOFError, zlib.error) as error:
            raise StoreError(f"queued {batch.kind} are damaged: {error}") from error
        return Post(f"{self._url}/v1/{batch.kind}", body, HEADERS)

    def heard(self, batch: Batch, answer: httpx.Response) -> Heard:
        """Partial success, which is not sent again, or why a request was refused."""
        protobuf = answer.headers.get("content-type", "").split(";")[0].strip() == PROTOBUF
        if not answer.is_success:
            return Heard(_refusal(answer.content) if protobuf else answer.text)
        return _partial(batch, answer.content) if protobuf else Heard()


def _partial(batch: Batch, body: bytes) -> Heard:
    kind, rejected = _ANSWERS[batch.kind]
    try:
        partial = kind.FromString(body).partial_success
    except DecodeError as error:
        return Heard(f"the answer is no {kind.__name__}: {error}")
    left_out = max(0, getattr(partial, rejected))
    if not left_out:
        return Heard(partial.error_message)
    return Heard(f"left out {left_out} of {batch.items} {batch.kind}: {partial.error_message}", left_out)


def _refusal(body: bytes) -> str:
    try:
        return texts(body, 0, len(body)).get(_STATUS_MESSAGE, "")
    except (IngestError, IndexError):
        return ""


def enqueue(queue: DiskQueue, signal: str, request: Message) -> None:
    """Put one request into the queue, unless there is nothing in it; items are spans, data points or log records."""
    items = _items(signal, request)
    if items:
        queue.append(signal, gzip.compress(request.SerializeToString(), compresslevel=1), items)


def _items(signal: str, request: Message) -> int:
    resources, scopes, items = _PATHS[signal]
    found = [
        one
        for resource in getattr(request, resources)
        for scope in getattr(resource, scopes)
        for one in getattr(scope, items)
    ]
    if signal != "metrics":
        return len(found)
    kinds = [(metric, metric.WhichOneof("data")) for metric in found]
    return sum(len(getattr(metric, kind).data_points) for metric, kind in kinds if kind is not None)
