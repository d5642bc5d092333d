"""Where measurements are pushed: remote write and OTLP/HTTP."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api.errors import ApiError
from collector.api.parameters import read_body
from collector.api.parts import Parts
from collector.ingest import otlp
from collector.ingest.errors import PartialWrite, UnsupportedMedia, Written
from collector.ingest.otlp_receiver import SIGNALS
from collector.model.errors import IngestError, StoreError
from collector.model.remote_write_2 import MESSAGE as MESSAGE_2

RETRY_AFTER_S = 5
"""When to come back with what could not be stored."""


def routes(parts: Parts) -> APIRouter:
    """Remote write and, at its usual paths, OTLP."""
    router = APIRouter()

    @router.post("/api/v1/write", tags=["push"])
    async def write(request: Request) -> Response:
        """Take samples by Prometheus remote write 1.0 or 2.0."""
        content_type, encoding = request.headers.get("content-type", ""), request.headers.get("content-encoding", "")
        written = Written(0)
        status, text = 204, ""
        body = await read_body(request, parts.max_body_bytes)
        try:
            written = await run_in_threadpool(parts.receiver.take, body, content_type, encoding)
        except UnsupportedMedia as error:
            status, text = 415, str(error)
        except PartialWrite as error:
            status, text, written = 400, str(error), error.written
        except IngestError as error:
            status, text = 400, str(error)
        except StoreError as error:
            status, text = 503, str(error)
        headers = _written(written) if MESSAGE_2 in content_type else {}
        if status == 503:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        if status == 204:
            return Response(status_code=status, headers=headers)
        return Response(f"{text}\n", status_code=status, headers=headers, media_type="text/plain")

    router.include_router(otlp_routes(parts))
    router.include_router(otlp_routes(parts), prefix="/api/v1/otlp", include_in_schema=False)
    return router


def otlp_routes(parts: Parts) -> APIRouter:
    """OTLP/HTTP alone, as an exporter expects it on port 4318."""
    router = APIRouter(tags=["push"])
    for signal in SIGNALS:
        _add_otlp(router, parts, signal)
    return router


def _add_otlp(router: APIRouter, parts: Parts, signal: str) -> None:
    @router.post(f"/v1/{signal}", name=f"otlp_{signal}", description=f"Take {signal} by OTLP.")
    async def take(request: Request) -> Response:
        return await _take(request, parts, signal)


async def _take(request: Request, parts: Parts, signal: str) -> Response:
    media, limit_bytes = otlp.PROTOBUF, parts.max_body_bytes
    encoding = request.headers.get("content-encoding", "")
    try:
        media = otlp.media_type(request.headers.get("content-type", ""))
        body = await read_body(request, limit_bytes)
        response = await run_in_threadpool(
            lambda: parts.otlp.take(signal, otlp.unfold(body, encoding, limit_bytes), media)
        )
    except (IngestError, ApiError) as error:
        status = error.status if isinstance(error, ApiError) else 415 if isinstance(error, UnsupportedMedia) else 400
        return Response(otlp.encode_refusal(str(error), media), status_code=status, media_type=media)
    except StoreError as error:
        refusal = otlp.encode_refusal(str(error), media, otlp.UNAVAILABLE)
        return Response(refusal, status_code=503, media_type=media, headers={"Retry-After": str(RETRY_AFTER_S)})
    return Response(otlp.encode(response, media), media_type=media)


def _written(written: Written) -> dict[str, str]:
    """What a receiver of remote write 2.0 says of every request."""
    counts = {"Samples": written.samples, "Histograms": written.histograms, "Exemplars": written.exemplars}
    return {f"X-Prometheus-Remote-Write-{kind}-Written": str(count) for kind, count in counts.items()}
