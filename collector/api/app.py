"""Put the routes together into applications, behind one guard."""

import hmac
import logging

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api import (
    answers,
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

_log = logging.getLogger(__name__)


def create_app(parts: Parts, token: str | None = None) -> ASGIApp:
    """The whole API; with ``token``, only for those who send it as a bearer token."""
    app = _application("Loadline collector")
    for kind in (queries, series, targets, rules, spans, logs, feedback, pushes, federate, status, own_metrics):
        app.include_router(kind.routes(parts))
    direct = Direct(app, queries.direct(parts))
    return Guard(direct, token) if token else direct


def create_otlp_app(parts: Parts, token: str | None = None) -> ASGIApp:
    """OTLP/HTTP alone, for the port that exporters expect."""
    app = _application("Loadline collector, OTLP")
    app.include_router(pushes.otlp_routes(parts))
    return Guard(app, token) if token else app


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
