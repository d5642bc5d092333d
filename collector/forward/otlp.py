"""OTLP, going out: every signal passed on as it was received."""

import gzip
import zlib

from google.protobuf.message import Message

from collector.forward.queue import Batch, DiskQueue
from collector.forward.sender import Post
from collector.model.errors import StoreError

MAX_ITEMS = 10_000
MAX_BYTES = 4 << 20
"""Of one request, uncompressed, unless one that was received is larger."""

HEADERS = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}

_PATHS = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
}


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


def enqueue(queue: DiskQueue, signal: str, request: Message) -> None:
    """Put one request into the queue, unless there is nothing in it; items are spans, metrics or log records."""
    items = _items(signal, request)
    if items:
        queue.append(signal, gzip.compress(request.SerializeToString(), compresslevel=1), items)


def _items(signal: str, request: Message) -> int:
    resources, scopes, items = _PATHS[signal]
    return sum(
        len(getattr(scope, items)) for resource in getattr(request, resources) for scope in getattr(resource, scopes)
    )
