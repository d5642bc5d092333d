"""Take remote-write requests into the store."""

import threading

from collector.model.errors import IngestError
from collector.model.remote_write import MAX_BODY_BYTES, WriteReader
from collector.store import Store

VERSION_2 = "io.prometheus.write.v2.Request"


class RemoteWriteReceiver:
    """One reader for all senders; ``take`` may be called by many threads.

    Read by others: ``samples``, ``out_of_order``, ``duplicate``, ``native_histograms``, counted since the start.
    """

    def __init__(self, store: Store, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.samples = self.out_of_order = self.duplicate = self.native_histograms = 0
        self._store = store
        self._reader = WriteReader(max_body_bytes)
        self._lock = threading.Lock()

    def take(self, body: bytes, content_type: str, content_encoding: str) -> None:
        """Store one request; IngestError where it cannot be read or where samples came out of order."""
        if VERSION_2 in content_type:
            raise IngestError(
                f"remote write: {VERSION_2} is not taken; set the sender's protobuf_message to version 1.0"
            )
        if content_encoding not in ("snappy", ""):
            raise IngestError(f'remote write: content encoding "{content_encoding}"; snappy is read')
        with self._lock:
            request = self._reader.read(body)
            result = self._store.append_series(request.series)
            self.samples += result.accepted
            self.out_of_order += result.out_of_order
            self.duplicate += result.duplicate
            self.native_histograms += request.native_histograms
        if result.out_of_order:
            late = f"{result.out_of_order} of {request.samples} samples"
            raise IngestError(f"remote write: {late} are out of order; the rest was stored")
