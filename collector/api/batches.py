"""Several instant queries in one request, ``POST /api/v1/query_batch``: for rules, which ask hundreds at one moment.

    {"time": 1767323045.5, "queries": ["up == 0", "sum(x"]}
    {"status": "success", "data": [{"status": "success", "data": {...}, "seconds": 0.001},
                                   {"status": "error", "errorType": "bad_data", "error": "...", "seconds": 0.0}]}

Answers stand in the order of the queries. There may be fewer, at least one: the rest is to be asked again.
"""

import asyncio
import time

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import ApiError, as_api_error, bad_parameter
from collector.api.parameters import EARLIEST_MS, LATEST_MS, MAX_FORM_BYTES, read_body
from collector.api.parts import Parts
from collector.api.running import QueryClock, run_query
from collector.model.errors import CollectorError
from collector.promql import Engine

LONG_ENOUGH_S = 2.0
"""Once a request has taken this long, what is answered goes out."""


def routes(parts: Parts, long_enough_s: float = LONG_ENOUGH_S) -> APIRouter:
    """The one route. Batches are answered one after the other: threads that compute at once only hold each other up."""
    turn = asyncio.Lock()
    router = APIRouter(prefix="/api/v1", tags=["Prometheus"])

    @router.post("/query_batch")
    async def query_batch(request: Request) -> Response:
        """Evaluate several expressions at one moment; each is answered or refused by itself."""
        texts, moment_ms = _read(await read_body(request, MAX_FORM_BYTES))

        def work(clock: QueryClock) -> Response:
            return _answered(parts, texts, moment_ms, clock, long_enough_s)

        async with turn:
            return await run_query(parts, request, parts.limits.timeout_s, work)

    return router


def _read(body: bytes) -> tuple[list[str], int]:
    try:
        asked = orjson.loads(body)
        texts, time_s = asked["queries"], float(asked["time"])
    except (ValueError, TypeError, KeyError) as error:
        reason = 'a body looks like {"time": 1767323045.5, "queries": ["up == 0"]}'
        raise ApiError(400, "bad_data", f"the body cannot be read: {error!r}; {reason}") from error
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise bad_parameter("queries", "it must be a list of expressions that is not empty")
    if not EARLIEST_MS < time_s * 1000 < LATEST_MS:
        raise bad_parameter("time", f'"{time_s}" is beyond what is kept')
    return texts, round(time_s * 1000)


def _answered(parts: Parts, texts: list[str], moment_ms: int, clock: QueryClock, long_enough_s: float) -> Response:
    delayed = parts.delayed_name_removal
    engine = Engine(parts.limits, parts.lookback_ms, parts.left_open, clock=clock, delayed_name_removal=delayed)
    began_s = previous_s = time.perf_counter()
    found = []
    for text in texts:
        try:
            result = engine.instant(parts.store, text, moment_ms)
            data, warnings = answers.query_data(result)
            answer = answers.success(data, warnings, result.infos)
        except CollectorError as error:
            answer = answers.failure(as_api_error(error))
            parts.counts.query_failures += 1
        ended_s = time.perf_counter()
        found.append(b'%b,"seconds":%.6f}' % (bytes(answer.body)[:-1], ended_s - previous_s))
        previous_s = ended_s
        if ended_s - began_s >= long_enough_s:
            break
    parts.counts.queries["instant"] += len(found)
    parts.counts.query_seconds += previous_s - began_s
    return answers.success(b"[%b]" % b",".join(found))
