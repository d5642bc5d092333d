"""Take remote-write requests, 1.0 and 2.0, into the store."""

import threading

import numpy as np

from collector.ingest.errors import PartialWrite, UnsupportedMedia, Written
from collector.ingest.sink import MetricSink
from collector.model.errors import IngestError
from collector.model.remote_write import MAX_BODY_BYTES, WriteReader
from collector.model.remote_write_2 import MESSAGE as MESSAGE_2
from collector.model.remote_write_2 import WriteReader2
from collector.model.write_shape import WriteRequest
from collector.store import AppendResult

MAX_MS = 1 << 53
"""Timestamps beyond are not kept by any store."""

MEDIA_TYPE = "application/x-protobuf"
MESSAGE_1 = "prometheus.WriteRequest"


def message_of(content_type: str) -> str:
    """Which message a request holds, by its Content-Type; UnsupportedMedia for one that is not read.

    Without a ``proto`` parameter, or without any Content-Type, it is that of version 1.0.
    """
    media, *parameters = (part.strip() for part in content_type.split(";"))
    if media.lower() not in ("", MEDIA_TYPE):
        raise UnsupportedMedia(f'remote write: content type "{media}"; {MEDIA_TYPE} is read')
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "proto":
            message = value.strip().strip('"')
            if message not in (MESSAGE_1, MESSAGE_2):
                raise UnsupportedMedia(f'remote write: message "{message}"; {MESSAGE_1} and {MESSAGE_2} are read')
            return message
    return MESSAGE_1


class RemoteWriteReceiver:
    """One reader for all senders; ``take`` may be called by many threads.

    Read by others, counted since the start: ``samples``, ``out_of_order``, ``duplicate``, ``native_histograms``,
    ``exemplars``, and ``requests`` by message.
    """

    def __init__(self, store: MetricSink, max_body_bytes: int = MAX_BODY_BYTES) -> None:
        self.samples = self.out_of_order = self.duplicate = self.native_histograms = self.exemplars = 0
        self.requests = {MESSAGE_1: 0, MESSAGE_2: 0}
        self._store = store
        self._readers: dict[str, WriteReader | WriteReader2] = {
            MESSAGE_1: WriteReader(max_body_bytes),
            MESSAGE_2: WriteReader2(max_body_bytes),
        }
        self._lock = threading.Lock()

    def take(self, body: bytes, content_type: str, content_encoding: str) -> Written:
        """Store one request and return what was written.

        Raises IngestError where it cannot be read, PartialWrite where samples came out of order or were native
        histograms, StoreError.
        """
        message = message_of(content_type)
        if content_encoding.lower() not in ("snappy", ""):
            raise UnsupportedMedia(f'remote write: content encoding "{content_encoding}"; snappy is read')
        with self._lock:
            request = self._readers[message].read(body)
            _check_times(request)
            self.requests[message] += 1
            result = self._append(request)
            for one in request.metadata:
                self._store.set_metadata(one.family, one.type, one.help, one.unit)
            exemplars = self._store.append_exemplars(request.exemplars) if request.exemplars else 0
            self.samples += result.accepted
            self.out_of_order += result.out_of_order
            self.duplicate += result.duplicate
            self.native_histograms += request.native_histograms
            self.exemplars += exemplars
        written = Written(result.accepted + result.duplicate, exemplars)
        refused = _refused(request, result)
        if refused:
            raise PartialWrite(f"remote write: {'; '.join(refused)}; the rest was stored", written)
        return written

    def _append(self, request: WriteRequest) -> AppendResult:
        rows, series = request.rows, len(request.labels)
        if not rows:
            return self._store.append_series(request.series)
        times, values = request.timestamps_ms.reshape(series, rows).T, request.values.reshape(series, rows).T
        return self._store.append_batch(request.labels, times, values)


def _check_times(request: WriteRequest) -> None:
    if request.samples and not np.abs(request.timestamps_ms.astype(np.float64)).max() <= MAX_MS:
        raise IngestError("remote write: a timestamp is beyond ±2**53 ms")


def _refused(request: WriteRequest, result: AppendResult) -> list[str]:
    refused = []
    if result.out_of_order:
        refused.append(f"{result.out_of_order} of {request.samples} samples are out of order")
    if result.conflict:
        refused.append(f"{result.conflict} of {request.samples} samples have other values than those of the same time")
    if request.native_histograms:
        refused.append(f"{request.native_histograms} native histograms are not kept; send classic ones")
    return refused
