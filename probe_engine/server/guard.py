"""What every request passes first: token, size of the body, and the id that it is known by."""

import hmac
import re
from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

import orjson
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from probe_engine.server.answers import error_body
from probe_engine.telemetry.metrics import EngineMetrics

OPEN_PATHS = frozenset({"/health", "/ready"})  # probes carry no token
MAX_BODY_BYTES = 16 * 1024 * 1024
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Guard:
    """ASGI middleware. ``token``: what ``Authorization: Bearer`` must carry; None lets everybody in.

    Puts ``request_id`` (the caller's ``x-request-id``, else a new one) into the request's state and the answer's
    headers.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: EngineMetrics,
        token: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 400, 401 or 413, or pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id") or uuid4().hex
        refused = self._refuse(scope["path"], headers, request_id)
        if refused is not None:
            await _answer(send, *refused, request_id)
            return
        scope.setdefault("state", {})["request_id"] = request_id
        named = (b"x-request-id", request_id.encode("latin-1"))

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        if "content-length" not in headers:
            receive = self._limited(receive)
        await self._app(scope, receive, send_named)

    def _refuse(self, path: str, headers: Headers, request_id: str) -> tuple[int, str] | None:
        if self._authorization is not None and path not in OPEN_PATHS:
            given = headers.get("authorization", "").encode("latin-1")
            if not hmac.compare_digest(given, self._authorization):
                self._metrics.rejected("unauthorized")
                return 401, "a valid token is needed: Authorization: Bearer TOKEN"
        if not REQUEST_ID.fullmatch(request_id):
            return 400, "x-request-id has 1 to 128 printable ASCII characters"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return 400, "content-length is not a number"
        if int(length) > self._max_body_bytes:
            return 413, self._too_large()
        return None

    def _limited(self, receive: Receive) -> Receive:
        """``receive`` that counts a body of unknown length."""
        read = 0

        async def counted() -> MutableMapping[str, Any]:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body_bytes:
                raise HTTPException(413, self._too_large())
            return message

        return counted

    def _too_large(self) -> str:
        return f"the body has more than {self._max_body_bytes} bytes, the limit"


async def _answer(send: Send, status: int, message: str, request_id: str) -> None:
    body = orjson.dumps(error_body(message, "invalid_request_error", None, None))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if REQUEST_ID.fullmatch(request_id):
        headers.append((b"x-request-id", request_id.encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
