"""Search spans: ``GET /api/v1/spans``."""

from typing import cast, get_args

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import bad_parameter
from collector.api.parameters import Parameters, read_parameters
from collector.api.parts import Parts
from collector.model.span_json import span_to_json
from collector.model.spans import Span, SpanStatus

MAX_SPANS = 10_000
KNOWN = ("service", "name", "trace_id", "min_duration_ms", "status", "start", "end", "limit")


def routes(parts: Parts) -> APIRouter:
    """The one route."""
    router = APIRouter(prefix="/api/v1", tags=["spans"])

    @router.get("/spans")
    async def spans(request: Request) -> Response:
        """Spans that satisfy every filter, latest first.

        Filters: service, name, trace_id, min_duration_ms, status (unset, ok or error), start, end, attr.KEY=VALUE,
        limit.
        """
        parameters = await read_parameters(request)
        found = await run_in_threadpool(_search, parts, parameters)
        return answers.success_json([span_to_json(span) for span in found])

    return router


def _search(parts: Parts, parameters: Parameters) -> list[Span]:
    attributes = parameters.attributes(KNOWN)
    status = parameters.text("status").lower()
    if status and status not in get_args(SpanStatus):
        raise bad_parameter("status", f'"{status}"; it may be {", ".join(get_args(SpanStatus))}')
    return parts.spans.search(
        service=parameters.text("service") or None,
        name=parameters.text("name") or None,
        trace_id=parameters.hexadecimal("trace_id"),
        min_duration_ms=parameters.number("min_duration_ms"),
        status=cast(SpanStatus, status) if status else None,
        start_ns=parameters.time_ns("start"),
        end_ns=parameters.time_ns("end"),
        attributes=attributes,
        limit=parameters.count("limit", 100, MAX_SPANS),
    )
