"""Feedback on answers: give it with ``POST /api/v1/feedback``, find it with ``GET``."""

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import ApiError
from collector.api.parameters import Parameters, read_body, read_parameters
from collector.api.parts import Parts
from collector.ingest.feedback import ID_KEYS, MARK, MODEL_KEYS, TENANT_KEYS, feedback_of, search_text
from collector.model.feedback import Feedback, feedback_to_json

MAX_FEEDBACK = 10_000
MAX_BODY_BYTES = 4 << 20
KNOWN = ("request_id", "trace_id", "rating", "model", "tenant", "start", "end", "limit")
TOLD = 5
"""How many refusals an answer names."""


def routes(parts: Parts) -> APIRouter:
    """Both routes."""
    router = APIRouter(prefix="/api/v1", tags=["feedback"])

    @router.post("/feedback")
    async def give(request: Request) -> Response:
        """Take what was said of one answer (a JSON object) or of several (a list).

        Fields: request_id or trace_id; rating (up, down, 1 to 5), hallucination_score (0 to 1), retried, truncated,
        comment; model, tenant, labels, time. Where some of a list are refused, the others are stored all the same.
        """
        body = await read_body(request, min(parts.max_body_bytes, MAX_BODY_BYTES))
        taken = await run_in_threadpool(parts.feedback.take, body)
        if taken.refused:
            more = f"; and {len(taken.refused) - TOLD} more" if len(taken.refused) > TOLD else ""
            stored = f"; {taken.stored} stored" if taken.stored else ""
            raise ApiError(400, "bad_data", "; ".join(taken.refused[:TOLD]) + more + stored)
        return answers.success_json({"stored": taken.stored, "joined": taken.joined})

    @router.get("/feedback")
    async def find(request: Request) -> Response:
        """Feedback that satisfies every filter, latest first.

        Filters: request_id, trace_id, rating, model, tenant, start, end, attr.KEY=VALUE of its labels, limit.
        """
        parameters = await read_parameters(request)
        found = await run_in_threadpool(_search, parts, parameters)
        return answers.success_json([feedback_to_json(one) for one in found])

    return router


def _search(parts: Parts, parameters: Parameters) -> list[Feedback]:
    labels = parameters.attributes(KNOWN)
    wanted = {
        "event.name": MARK,
        ID_KEYS[0]: parameters.text("request_id"),
        f"{MARK}.rating": parameters.text("rating"),
        MODEL_KEYS[1]: parameters.text("model"),
        TENANT_KEYS[0]: parameters.text("tenant"),
    } | {f"{MARK}.label.{key}": value for key, value in labels.items()}
    records = parts.logs.search(
        text=search_text(parameters.text("request_id")),
        trace_id=parameters.hexadecimal("trace_id"),
        start_ns=parameters.time_ns("start"),
        end_ns=parameters.time_ns("end"),
        attributes={key: value for key, value in wanted.items() if value},
        limit=parameters.count("limit", 100, MAX_FEEDBACK),
    )
    return [one for record in records if (one := feedback_of(record)) is not None]
