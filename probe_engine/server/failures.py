"""Every refusal and failure in OpenAI's error shape."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from probe_engine.errors import ApiError
from probe_engine.server.answers import error_body
from probe_engine.telemetry.metrics import EngineMetrics

UNION_TAG = re.compile(r"(str|int|float|bool|list\[.*|constrained.*|nullable.*|TextPart|function.*)")
# What a field of several types may be; pydantic would list every branch.
EXPECTED: Mapping[str, str] = {
    "prompt": "a string, a list of strings, a list of token ids, or a list of lists of token ids",
    "stop": "a non-empty string or a list of them",
    "content": 'a string or a list of text parts ({"type": "text", "text": ...})',
}


class JsonAnswer(Response):
    """A JSON body, encoded with orjson."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode ``content``."""
        return orjson.dumps(content)


def add_failures(app: FastAPI, metrics: EngineMetrics) -> None:
    """Teach ``app`` to answer errors as OpenAI does, and count what it refuses."""

    @app.exception_handler(ApiError)
    async def refused(request: Request, error: ApiError) -> Response:
        metrics.rejected(error.reason)
        return _answer(error)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        metrics.rejected("invalid")
        return _answer(validation_error(error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return JsonAnswer(
            error_body(f"{request.method} {request.url.path}: {error.detail}", "invalid_request_error", None, None),
            error.status_code,
            headers=error.headers,
        )

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return JsonAnswer(error_body("the server failed; its log says why", "server_error", None, None), 500)


def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first of pydantic's complaints, with the field's path as clients write it."""
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"the body is not JSON: {first.get('ctx', {}).get('error', first['msg'])}")
    names = [part for part in first["loc"][1:] if not (isinstance(part, str) and UNION_TAG.fullmatch(part))]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in names).lstrip(".")
    union = len(names) < len(first["loc"]) - 1
    field = next((part for part in reversed(names) if isinstance(part, str)), "")
    what = f"must be {EXPECTED[field]}" if union and field in EXPECTED else _sentence(first)
    return ApiError(400, f"{path or 'the body'}: {what}", param=path or None)


def _sentence(error: Mapping[str, Any]) -> str:
    message = str(error["msg"])
    message = message[0].lower() + message[1:]
    if error["type"] == "missing":
        return message
    shown = repr(error.get("input"))
    return f"{message}, not {shown if len(shown) <= 60 else shown[:57] + '...'}"


def _answer(error: ApiError) -> Response:
    headers = None if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return JsonAnswer(error_body(str(error), error.kind, error.param, error.code), error.status, headers=headers)
