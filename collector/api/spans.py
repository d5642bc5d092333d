"""Search spans: ``GET /api/v1/spans``."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import ApiError
from collector.api.parameters import Parameters, read_parameters
from collector.api.parts import Parts
from collector.model.errors import StoreError
from collector.model.span_json import span_to_json
from collector.model.spans import Span

MAX_SPANS = 10_000
KNOWN = ("service", "name", "trace_id", "min_duration_ms", "start", "end", "limit")


def routes(parts: Parts) -> APIRouter:
    """The one route."""
    router = APIRouter(prefix="/api/v1", tags=["spans"])

    @router.get("/spans")
    async def spans(request: Request) -> Response:
        """Spans that satisfy every filter, latest first.

        Filters: service, name, trace_id, min_duration_ms, start, end, attr.KEY=VALUE, limit.
        """
        parameters = await read_parameters(request)
        found = await run_in_threadpool(_search, parts, parameters)
        return answers.success_json([span_to_json(span) for span in found])

    return router


def _search(parts: Parts, parameters: Parameters) -> list[Span]:
    attributes = {}
    for name, value in parameters.pairs:
        if name.startswith("attr."):
            attributes[name.removeprefix("attr.")] = value
        elif name not in KNOWN:
            raise ApiError(400, "bad_data", f'no filter "{name}"; filters are {", ".join(KNOWN)} and attr.KEY')
    trace_id = parameters.text("trace_id")
    try:
        return parts.spans.search(
            service=parameters.text("service") or None,
            name=parameters.text("name") or None,
            trace_id=trace_id or None,
            min_duration_ms=parameters.number("min_duration_ms"),
            start_ns=_nanoseconds(parameters, "start"),
            end_ns=_nanoseconds(parameters, "end"),
            attributes=attributes,
            limit=parameters.count("limit", 100, MAX_SPANS),
        )
    except StoreError as error:
        if trace_id and "trace id" in str(error):
            raise ApiError(400, "bad_data", str(error)) from error
        raise


def _nanoseconds(parameters: Parameters, name: str) -> int | None:
    return parameters.time_ms(name) * 1_000_000 if parameters.text(name) else None
