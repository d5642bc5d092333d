"""OTLP on its way to a backend that is not ours: a server that reads and answers with the official protos."""

import asyncio
import gzip
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

from collector.forward.forwarding import Forwarding
from collector.forward.sender import Sender
from collector.forward.settings import Destination, ForwardSettings

PROTOBUF = "application/x-protobuf"
KINDS: dict[str, tuple[type[Message], type[Message]]] = {
    "/v1/traces": (trace_pb.ExportTraceServiceRequest, trace_pb.ExportTraceServiceResponse),
    "/v1/metrics": (metrics_pb.ExportMetricsServiceRequest, metrics_pb.ExportMetricsServiceResponse),
    "/v1/logs": (logs_pb.ExportLogsServiceRequest, logs_pb.ExportLogsServiceResponse),
}

Answer = tuple[int, dict[str, str], Message | None]
"""Status, headers and message; without one the plain success of the signal."""


class Backend:
    """Reads what comes as the specification says; gives the answers that it was given, then success."""

    def __init__(self, *answers: Answer, port: int = 0) -> None:
        self.taken: list[Message] = []
        self.asked = 0
        self._answers = list(answers)
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                backend.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        body = handler.rfile.read(int(handler.headers["content-length"]))
        assert (handler.headers["content-type"], handler.headers["content-encoding"]) == (PROTOBUF, "gzip")
        asked, answered = KINDS[handler.path]
        request = asked.FromString(gzip.decompress(body))
        status, headers, said = self._answers.pop(0) if self._answers else (200, {}, None)
        if status == 200:
            self.taken.append(request)
        told = (said if said is not None else answered()).SerializeToString()
        handler.send_response(status)
        for name, value in (headers | {"Content-Type": PROTOBUF, "Content-Length": str(len(told))}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(told)

    def __enter__(self) -> "Backend":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def trace(*names: str) -> Message:
    request = trace_pb.ExportTraceServiceRequest()
    for name in names:
        span = request.resource_spans.add().scope_spans.add().spans.add(name=name, trace_id=b"\1" * 16)
        span.attributes.add(key="gen_ai.request.model").value.string_value = "é"
    return request


def metrics() -> Message:
    request = metrics_pb.ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="ttft", unit="s")
    metric.histogram.aggregation_temporality = 1
    metric.histogram.data_points.add(count=3, sum=0.5, explicit_bounds=[0.1], bucket_counts=[1, 2])
    metric.histogram.data_points.add(count=1)
    return request


def logs() -> Message:
    request = logs_pb.ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add(severity_number=9).body.string_value = "queue is long"
    return request


def sent(folder: Path, url: str, steps: int, *requests: tuple[str, Message]) -> tuple[list[float], Sender]:
    """Queue requests, take some steps, and give the waits in seconds that the sender asked for."""

    async def run() -> tuple[list[float], Sender]:
        async with httpx.AsyncClient(trust_env=False) as http:
            with Forwarding(folder, lambda access: http) as forwarding:
                forwarding.apply(ForwardSettings(otlp=(Destination(url),)))
                for signal, request in requests:
                    forwarding.pass_on(signal, request)
                (sender,) = forwarding.senders
                return [await sender.step() for _ in range(steps)], sender

    return asyncio.run(run())


def test_every_signal_is_read_by_the_official_protos(tmp_path: Path) -> None:
    requests = [("traces", trace("a")), ("metrics", metrics()), ("logs", logs())]
    with Backend() as backend:
        waits, sender = sent(tmp_path, backend.url, 3, *requests)
    assert backend.taken == [request for _, request in requests]
    assert waits == [0.0, 0.0, 1.0]
    assert (sender.sent, sender.refused, sender.trouble) == (1 + 2 + 1, 0, "")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_succeed_later_is_sent_again_when_the_backend_says(tmp_path: Path, status: int) -> None:
    said = Status(code=14, message="the disk is full")
    with Backend((status, {"Retry-After": "7"}, said), (status, {}, said)) as backend:
        waits, sender = sent(tmp_path, backend.url, 3, ("traces", trace("a")))
    assert waits == [7.0, 0.2, 1.0]
    assert backend.taken == [trace("a")]
    assert (sender.sent, sender.refused, sender.retries) == (1, 0, 2)


@pytest.mark.parametrize("status", [400, 401, 413, 500, 501])
def test_what_is_refused_is_dropped_counted_and_told(tmp_path: Path, status: int) -> None:
    with Backend((status, {}, Status(code=3, message="no such tenant"))) as backend:
        waits, sender = sent(tmp_path, backend.url, 2, ("traces", trace("a", "b")))
    assert (backend.asked, backend.taken, waits) == (1, [], [1.0, 1.0])
    assert (sender.sent, sender.refused, sender.retries) == (0, 2, 0)
    assert sender.trouble == f"answers {status}: no such tenant"


@pytest.mark.parametrize(
    ("signal", "request_", "answer"),
    [
        ("traces", trace("a", "b"), trace_pb.ExportTraceServiceResponse()),
        ("metrics", metrics(), metrics_pb.ExportMetricsServiceResponse()),
    ],
)
def test_of_a_partial_success_the_rest_is_counted_told_and_not_sent_again(
    tmp_path: Path, signal: str, request_: Message, answer: Message
) -> None:
    field = {"traces": "rejected_spans", "metrics": "rejected_data_points"}[signal]
    setattr(answer.partial_success, field, 1)
    answer.partial_success.error_message = "too old"
    with Backend((200, {}, answer)) as backend:
        _, sender = sent(tmp_path, backend.url, 2, (signal, request_))
    assert (backend.asked, sender.sent, sender.refused, sender.retries) == (1, 1, 1, 0)
    assert sender.trouble == f"left out 1 of 2 {signal}: too old"


def test_a_backend_may_warn_of_what_it_took_whole(tmp_path: Path) -> None:
    answer = trace_pb.ExportTraceServiceResponse()
    answer.partial_success.error_message = "use shorter names"
    with Backend((200, {}, answer)) as backend:
        _, sender = sent(tmp_path, backend.url, 1, ("traces", trace("a")))
    assert (sender.sent, sender.refused, sender.trouble) == (1, 0, "use shorter names")


def test_what_waited_on_disk_arrives_after_a_restart_of_both(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    url = f"http://127.0.0.1:{port}"
    _, sender = sent(tmp_path, url, 2, ("traces", trace("a")), ("logs", logs()))
    assert (sender.sent, sender.retries) == (0, 2)
    assert sender.trouble.startswith("cannot be reached")
    with Backend(port=port) as backend:
        _, sender = sent(tmp_path, url, 3, ("traces", trace("b")))
    assert backend.taken == [trace("a"), logs(), trace("b")]
    assert sender.sent == 3
