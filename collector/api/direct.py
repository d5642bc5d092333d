"""A short way to the queries: what is asked most goes past the framework's routing, which takes longer than an answer.

The same functions are routes of the framework as well, which describes them in the API's document.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api import answers
from collector.api.errors import ApiError, as_api_error
from collector.model.errors import CollectorError

Handler = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger(__name__)

_METHODS = ("GET", "POST")


class Direct:
    """Answers requests for some paths by functions, the others by an application."""

    def __init__(self, app: ASGIApp, handlers: Mapping[str, Handler]) -> None:
        self._app = app
        self._handlers = handlers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        handler = self._handlers.get(scope["path"]) if scope["type"] == "http" else None
        if handler is None or scope["method"] not in _METHODS:
            await self._app(scope, receive, send)
            return
        try:
            response = await handler(Request(scope, receive))
        except (ApiError, CollectorError) as error:
            refusal = as_api_error(error)
            if refusal.status >= 500:
                _log.warning("%s %s: %s", scope["method"], scope["path"], refusal)
            response = answers.failure(refusal)
        except Exception as error:
            _log.exception("%s %s", scope["method"], scope["path"])
            response = answers.failure(ApiError(500, "internal", f"{type(error).__name__}: {error}"))
        await response(scope, receive, send)
