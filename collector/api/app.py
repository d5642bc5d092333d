"""Put the routes together into applications, behind one guard."""

import hmac
import logging
from collections.abc import Sequence

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api import (
    answers,
    batches,
    federate,
    feedback,
    logs,
    own_metrics,
    pushes,
    queries,
    rules,
    series,
    spans,
    status,
    targets,
)
from collector.api.direct import Direct
from collector.api.errors import ApiError, as_api_error
from collector.api.parts import Parts
from collector.model.errors import CollectorError

OPEN_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""What is answered without a token."""

PACKED_FROM_BYTES = 1000
PACKED_LEVEL = 1
"""Answers are JSON of numbers: higher levels take several times as long and save a tenth."""

_log = logging.getLogger(__name__)


def create_app(parts: Parts, token: str | None = None, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """The whole API; with ``token``, only for those who send it as a bearer token.

    Answers are packed for those who take gzip; pages of ``cors_origins`` may read them.
    """
    app = _application("Loadline collector")
    queried = (queries, batches, series, targets, rules, spans, logs, feedback)
    for kind in (*queried, pushes, federate, status, own_metrics):
        app.include_router(kind.routes(parts))
    direct = Direct(app, queries.direct(parts))
    return _wrapped(direct, token, cors_origins)


def create_otlp_app(parts: Parts, token: str | None = None, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """OTLP/HTTP alone, for the port that exporters expect; browsers send it too."""
    app = _application("Loadline collector, OTLP")
    app.include_router(pushes.otlp_routes(parts))
    return _wrapped(app, token, cors_origins)


def _wrapped(app: ASGIApp, token: str | None, cors_origins: Sequence[str]) -> ASGIApp:
    """Outermost is what answers a browser's question whether it may ask, which bears no token."""
    app = GZipMiddleware(app, minimum_size=PACKED_FROM_BYTES, compresslevel=PACKED_LEVEL)
    if token:
        app = Guard(app, token)
    if cors_origins:
        app = CORSMiddleware(app, cors_origins, allow_methods=("GET", "POST"), allow_headers=("*",))
    return app


class Guard:
    """Lets only requests with the bearer token through."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and scope["path"] not in OPEN_PATHS:
            given = Headers(scope=scope).get("authorization", "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, self._expected):
                refusal = answers.failure(ApiError(401, "unauthorized", "a valid bearer token is needed"))
                refusal.headers["WWW-Authenticate"] = "Bearer"
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _application(title: str) -> FastAPI:
    app = FastAPI(title=title, redoc_url=None)
    for kind in (ApiError, CollectorError):
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(Exception, _break)
    return app


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError | CollectorError)
    refusal = as_api_error(error)
    if refusal.status >= 500:
        _log.warning("%s %s: %s", request.method, request.url.path, refusal)
    return answers.failure(refusal)


async def _not_found(request: Request, error: Exception) -> Response:
    return answers.failure(ApiError(404, "not_found", f"nothing is served at {request.url.path}"))


async def _break(request: Request, error: Exception) -> Response:
    return answers.failure(ApiError(500, "internal", f"{type(error).__name__}: {error}"))
