"""JSON answers in Prometheus's envelope."""

from typing import Any

import orjson
from starlette.responses import Response


def success(data: Any) -> Response:
    """200 with ``data``."""
    return answer({"status": "success", "data": data}, 200)


def wrong(reason: str) -> Response:
    """400: the request cannot be served as it is."""
    return _error(reason, "bad_data", 400)


def not_found(reason: str) -> Response:
    """404."""
    return _error(reason, "not_found", 404)


def conflict(reason: str) -> Response:
    """409: not in the present state."""
    return _error(reason, "conflict", 409)


def unauthorized() -> Response:
    """401."""
    body = {"status": "error", "errorType": "unauthorized", "error": "a bearer token is needed"}
    return answer(body, 401, {"WWW-Authenticate": "Bearer"})


def answer(body: Any, status: int, headers: dict[str, str] | None = None) -> Response:
    """``body`` as JSON."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def _error(reason: str, kind: str, status: int) -> Response:
    return answer({"status": "error", "errorType": kind, "error": reason}, status)
