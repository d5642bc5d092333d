"""The HTTP answers about silences, in Alertmanager's v2 shape, so that amtool and its like speak to us."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from alerts.errors import SilenceError
from alerts.muting import Silences
from alerts.silence import read_silence

MAX_BODY_BYTES = 1_000_000

Answer = Callable[[Request], Awaitable[Response]]

_FILTER = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"?([^"]*)"?\s*')


def silence_routes(silences: Silences) -> Sequence[tuple[str, list[str], Answer]]:
    """(path, methods, answer) of each."""

    async def every(request: Request) -> Response:
        if request.method == "POST":
            return await add(request)
        wanted = []
        for text in request.query_params.getlist("filter"):
            found = _FILTER.fullmatch(text)
            if found is None:
                return _json(f"bad matcher format: {text}", 400)
            wanted.append(found.groups())
        shown = [
            one.as_json(silences.now())
            for one in silences.all()
            if all(any((matcher.name, matcher.value) == pair for matcher in one.matchers) for pair in wanted)
        ]
        return _json(shown, 200)

    async def add(request: Request) -> Response:
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return _json("the body is too large", 413)
        try:
            silence = read_silence(orjson.loads(body), silences.now())
            silences.put(silence)
        except orjson.JSONDecodeError as error:
            return _json(f"the body is no JSON: {error}", 400)
        except SilenceError as error:
            return _json(str(error), 400)
        return _json({"silenceID": silence.id}, 200)

    async def single(request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "DELETE":
            return _json({}, 200) if silences.expire(name) else _json(f"no silence has the id {name}", 404)
        silence = silences.get(name)
        return (
            _json(f"no silence has the id {name}", 404)
            if silence is None
            else _json(silence.as_json(silences.now()), 200)
        )

    return (
        ("/api/v2/silences", ["GET", "POST"], every),
        ("/api/v2/silence/{name}", ["GET", "DELETE"], single),
    )


def _json(body: Any, status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
