"""OTLP over gRPC, as exporters expect it on port 4317: the same receiver as over HTTP."""

import hmac
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc

from collector.ingest.otlp import PROTOBUF
from collector.ingest.otlp_receiver import OtlpReceiver
from collector.model.errors import ConfigError, IngestError, StoreError

SERVICES = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
}
WORKERS = 4
STOP_GRACE_S = 1.0


class OtlpGrpcServer:
    """Serves from ``start`` to ``stop``, in threads of its own; ``port`` is the one that was bound."""

    def __init__(
        self, receiver: OtlpReceiver, host: str, port: int, max_body_bytes: int, token: str | None = None
    ) -> None:
        self._receiver = receiver
        self._expected = f"Bearer {token}".encode() if token else None
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="otlp-grpc")
        options = [("grpc.max_receive_message_length", max_body_bytes), ("grpc.so_reuseport", 0)]
        self._server = grpc.server(self._threads, options=options)
        for signal, service in SERVICES.items():
            handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self._export(signal))
            handlers = {"Export": handler}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
        address = f"[{host}]" if ":" in host else host
        try:
            self.port: int = self._server.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            self.stop()
            raise ConfigError(f"cannot listen on {address}:{port}; choose another with --otlp-grpc-port") from error

    def start(self) -> None:
        """Begin to answer."""
        self._server.start()

    def stop(self) -> None:
        """Let running requests end, for a second."""
        self._server.stop(STOP_GRACE_S).wait()
        self._threads.shutdown()

    def _export(self, signal: str) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def export(request: bytes, context: grpc.ServicerContext) -> bytes:
            self._check_token(context)
            try:
                return self._receiver.take(signal, request, PROTOBUF).SerializeToString()
            except IngestError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            except StoreError as error:
                context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
            return b""

        return export

    def _check_token(self, context: grpc.ServicerContext) -> None:
        if self._expected is None:
            return
        given = dict(context.invocation_metadata()).get("authorization", "")
        raw = given if isinstance(given, bytes) else given.encode("utf-8", "replace")
        if not hmac.compare_digest(raw, self._expected):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid bearer token is needed")
