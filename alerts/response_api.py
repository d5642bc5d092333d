"""The HTTP answers about responses: what there is, and what people want of it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response as Answered

from alerts.answers import conflict, not_found, success, wrong
from alerts.errors import NotAllowed
from alerts.responses.catalogue import Entry
from alerts.responses.responder import Responder
from alerts.responses.response import Wish

MAX_BODY_BYTES = 100_000
DEFAULT_LIMIT = 200
STATES = ("told", "waiting", "held", "acting", "acted", "failed", "undone", "dismissed", "over")
WISHES: Mapping[str, Wish] = {"confirm": "confirm", "dismiss": "dismiss", "undo": "undo"}

Answer = Callable[[Request], Awaitable[Answered]]


def reading_routes(responder: Responder) -> Sequence[tuple[str, list[str], Answer]]:
    """(path, methods, answer) of what may be read."""

    async def every(request: Request) -> Answered:
        wanted = request.query_params.getlist("state")
        unknown = [state for state in wanted if state not in STATES]
        limit = request.query_params.get("limit", str(DEFAULT_LIMIT))
        if unknown:
            return wrong(f'state is "{unknown[0]}"; allowed are {", ".join(STATES)}')
        if not limit.isdecimal() or not int(limit):
            return wrong(f'limit is "{limit}"; a whole number from 1 is allowed')
        found = [one.as_json() for one in responder.all() if not wanted or one.state in wanted]
        return success(
            {
                "responses": found[: int(limit)],
                "catalogue": [_entry(name, entry) for name, entry in responder.catalogue.items()],
                "gateway": responder.gateway.url if responder.gateway else None,
            }
        )

    async def single(request: Request) -> Answered:
        name = request.path_params["name"]
        found = responder.get(name)
        return not_found(f"no response has the id {name}") if found is None else success(found.as_json())

    return (("/api/v1/responses", ["GET"], every), ("/api/v1/responses/{name}", ["GET"], single))


def acting_routes(responder: Responder) -> Sequence[tuple[str, list[str], Answer]]:
    """(path, methods, answer) of what an operator may ask for."""

    def asking(wish: Wish) -> Answer:
        async def ask(request: Request) -> Answered:
            if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return wrong("send Content-Type: application/json")  # a foreign page's form cannot
            body = await request.body()
            if len(body) > MAX_BODY_BYTES:
                return wrong("the body is too large")
            try:
                by, comment = _said(body)
            except ValueError as error:
                return wrong(str(error))
            name = request.path_params["name"]
            try:
                after = await run_in_threadpool(responder.wish, name, wish, by, comment)
            except NotAllowed as error:
                return conflict(str(error))
            return not_found(f"no response has the id {name}") if after is None else success(after.as_json())

        return ask

    return tuple((f"/api/v1/responses/{{name}}/{path}", ["POST"], asking(wish)) for path, wish in WISHES.items())


def _said(body: bytes) -> tuple[str, str]:
    """Who asks, and what they say of it. Raises ValueError."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"the body is no JSON: {error}") from error
    if not isinstance(fields, dict) or set(fields) - {"by", "comment"}:
        raise ValueError('the body looks like {"by": "ada", "comment": "seen in the log too"}')
    by, comment = fields.get("by"), fields.get("comment", "")
    if not isinstance(by, str) or not by.strip():
        raise ValueError("by must say who asks: who comes next wants to know")
    if not isinstance(comment, str):
        raise ValueError("comment must be a text")
    return by.strip()[:100], comment.strip()[:1000]


def _entry(name: str, entry: Entry) -> dict[str, Any]:
    return {
        "name": name,
        "action": entry.action,
        "mode": entry.mode,
        "coolDown": entry.cool_down,
        "mostPerHour": entry.most_per_hour,
        "undoOnResolve": entry.undo_on_resolve,
    }
