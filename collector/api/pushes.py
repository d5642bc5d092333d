"""Where samples and spans are pushed: remote write and OTLP/HTTP."""

from collections.abc import Callable, Sequence

from fastapi import APIRouter
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api.errors import ApiError
from collector.api.parameters import read_body
from collector.api.parts import Parts
from collector.ingest import otlp
from collector.ingest.otlp_metrics import read_metrics
from collector.ingest.otlp_traces import read_spans
from collector.model.errors import IngestError, StoreError


def routes(parts: Parts) -> APIRouter:
    """Remote write and, at its usual paths, OTLP."""
    router = APIRouter()

    @router.post("/api/v1/write", tags=["push"])
    async def write(request: Request) -> Response:
        """Take samples by Prometheus remote write 1.0."""
        body = await read_body(request, parts.max_body_bytes)
        content_type, encoding = request.headers.get("content-type", ""), request.headers.get("content-encoding", "")
        try:
            await run_in_threadpool(parts.receiver.take, body, content_type, encoding)
        except IngestError as error:
            return Response(f"{error}\n", status_code=400, media_type="text/plain")
        except StoreError as error:
            return Response(f"{error}\n", status_code=503, media_type="text/plain")
        return Response(status_code=204)

    router.include_router(otlp_routes(parts))
    router.include_router(otlp_routes(parts), prefix="/api/v1/otlp", include_in_schema=False)
    return router


def otlp_routes(parts: Parts) -> APIRouter:
    """OTLP/HTTP alone, as an exporter expects it on port 4318."""
    router = APIRouter(tags=["push"])

    @router.post("/v1/traces")
    async def traces(request: Request) -> Response:
        """Take spans by OTLP."""
        return await _take(request, parts.max_body_bytes, lambda body, media: take_spans(parts, body, media))

    @router.post("/v1/metrics")
    async def metrics(request: Request) -> Response:
        """Take metrics by OTLP."""
        return await _take(request, parts.max_body_bytes, lambda body, media: take_metrics(parts, body, media))

    return router


def take_spans(parts: Parts, body: bytes, media: str) -> Message:
    """Store the spans of one request; the response says which were refused."""
    spans, refused = read_spans(body, media)
    parts.spans.append(spans)
    parts.counts.spans += len(spans)
    parts.counts.spans_refused += len(refused)
    response = ExportTraceServiceResponse()
    if refused:
        response.partial_success.rejected_spans = len(refused)
        response.partial_success.error_message = _first(refused)
    return response


def take_metrics(parts: Parts, body: bytes, media: str) -> Message:
    """Store the points of one request; the response says which were refused."""
    series, refused = read_metrics(body, media)
    result = parts.store.append_series(series)
    if result.out_of_order:
        refused += ["samples out of order"] * result.out_of_order
    parts.counts.points += result.accepted
    parts.counts.points_refused += len(refused)
    response = ExportMetricsServiceResponse()
    if refused:
        response.partial_success.rejected_data_points = len(refused)
        response.partial_success.error_message = _first(refused)
    return response


async def _take(request: Request, limit_bytes: int, take: Callable[[bytes, str], Message]) -> Response:
    media = otlp.PROTOBUF
    try:
        media = otlp.media_type(request.headers.get("content-type", ""))
        body = await read_body(request, limit_bytes)
        encoding = request.headers.get("content-encoding", "")
        response = await run_in_threadpool(lambda: take(otlp.unfold(body, encoding, limit_bytes), media))
    except (IngestError, ApiError) as error:
        status = error.status if isinstance(error, ApiError) else 400
        return Response(otlp.encode_refusal(str(error), media), status_code=status, media_type=media)
    except StoreError as error:
        headers = {"Retry-After": "5"}
        return Response(otlp.encode_refusal(str(error), media), status_code=503, media_type=media, headers=headers)
    return Response(otlp.encode(response, media), media_type=media)


def _first(refused: Sequence[str]) -> str:
    """The different reasons, at most five."""
    reasons = list(dict.fromkeys(refused))
    more = f"; and {len(reasons) - 5} more" if len(reasons) > 5 else ""
    return "; ".join(reasons[:5]) + more
