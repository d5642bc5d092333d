"""Search log records: ``GET /api/v1/logs``."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import bad_parameter
from collector.api.parameters import Parameters, read_parameters
from collector.api.parts import Parts
from collector.model.log_json import log_to_json, parse_severity
from collector.model.logs import LogRecord

MAX_RECORDS = 10_000
KNOWN = ("service", "severity", "text", "trace_id", "start", "end", "limit")


def routes(parts: Parts) -> APIRouter:
    """The one route."""
    router = APIRouter(prefix="/api/v1", tags=["logs"])

    @router.get("/logs")
    async def logs(request: Request) -> Response:
        """Log records that satisfy every filter, latest first.

        Filters: service, severity (that or worse, by name or number), text (all words, the last may end in *),
        trace_id, start, end, attr.KEY=VALUE, limit.
        """
        parameters = await read_parameters(request)
        found = await run_in_threadpool(_search, parts, parameters)
        return answers.success_json([log_to_json(record) for record in found])

    return router


def _search(parts: Parts, parameters: Parameters) -> list[LogRecord]:
    attributes = parameters.attributes(KNOWN)
    severity = parameters.text("severity")
    try:
        min_severity = parse_severity(severity) if severity else None
    except ValueError as error:
        raise bad_parameter("severity", str(error)) from error
    return parts.logs.search(
        service=parameters.text("service") or None,
        min_severity=min_severity,
        text=parameters.text("text") or None,
        trace_id=parameters.hexadecimal("trace_id"),
        start_ns=parameters.time_ns("start"),
        end_ns=parameters.time_ns("end"),
        attributes=attributes,
        limit=parameters.count("limit", 100, MAX_RECORDS),
    )
