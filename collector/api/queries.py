"""Prometheus's read API: queries, series, labels, metadata."""

import time
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import ApiError, bad_parameter
from collector.api.parameters import EARLIEST_MS, LATEST_MS, Parameters, read_parameters
from collector.api.parts import Parts
from collector.model.errors import QueryError
from collector.promql import Result

MAX_POINTS = 11_000
"""Steps of a range query, as in Prometheus."""


def routes(parts: Parts) -> APIRouter:
    """The routes, answering from ``parts``."""
    router = APIRouter(prefix="/api/v1", tags=["Prometheus"])

    @router.get("/query", operation_id="query")
    @router.post("/query", operation_id="query_by_form")
    async def query(request: Request) -> Response:
        """Evaluate an expression at one moment."""
        parameters = await read_parameters(request)
        moment_ms = parameters.time_ms("time", parts.now_ms())
        text, engine = parameters.text("query"), parts.engine(_timeout_s(parameters))
        limit = parameters.count("limit", 0)
        return await _answer(parts, "instant", limit, lambda: engine.instant(parts.store, text, moment_ms))

    @router.get("/query_range", operation_id="query_range")
    @router.post("/query_range", operation_id="query_range_by_form")
    async def query_range(request: Request) -> Response:
        """Evaluate an expression at every step of a range."""
        parameters = await read_parameters(request)
        start_ms, end_ms = parameters.time_ms("start"), parameters.time_ms("end")
        if end_ms < start_ms:
            raise bad_parameter("end", "end timestamp must not be before start time")
        step_ms = parameters.step_ms("step")
        if (end_ms - start_ms) // step_ms > MAX_POINTS:
            reason = f"exceeded maximum resolution of {MAX_POINTS:,} points per timeseries"
            raise ApiError(400, "bad_data", f"{reason}. Try decreasing the query resolution (?step=XX)")
        text, engine = parameters.text("query"), parts.engine(_timeout_s(parameters))
        limit = parameters.count("limit", 0)
        return await _answer(parts, "range", limit, lambda: engine.range(parts.store, text, start_ms, end_ms, step_ms))

    @router.get("/series", operation_id="series")
    @router.post("/series", operation_id="series_by_form")
    async def series(request: Request) -> Response:
        """Label sets that fit any of the selectors."""
        parameters = await read_parameters(request)
        selectors = parameters.selectors()
        if not selectors:
            raise ApiError(400, "bad_data", "no match[] parameter provided")
        start_ms, end_ms = _range_ms(parameters)

        def find() -> list[Any]:
            found = (parts.store.series(matchers, start_ms, end_ms) for matchers in selectors)
            return sorted({labels for several in found for labels in several})

        found, warnings = _limited(await run_in_threadpool(find), parameters)
        return answers.success(answers.label_sets(found), warnings)

    @router.get("/labels", operation_id="labels")
    @router.post("/labels", operation_id="labels_by_form")
    async def labels(request: Request) -> Response:
        """Names of the labels of the series that fit any of the selectors, or of all."""
        parameters = await read_parameters(request)
        start_ms, end_ms = _range_ms(parameters)
        selectors = parameters.selectors() or [()]

        def find() -> list[str]:
            found = (parts.store.label_names(matchers, start_ms, end_ms) for matchers in selectors)
            return sorted({name for several in found for name in several})

        names, warnings = _limited(await run_in_threadpool(find), parameters)
        return answers.success_json(names, warnings)

    @router.get("/label/{name}/values")
    async def label_values(name: str, request: Request) -> Response:
        """Values of one label."""
        parameters = await read_parameters(request)
        start_ms, end_ms = _range_ms(parameters)
        selectors = parameters.selectors() or [()]

        def find() -> list[str]:
            found = (parts.store.label_values(name, matchers, start_ms, end_ms) for matchers in selectors)
            return sorted({value for several in found for value in several})

        values, warnings = _limited(await run_in_threadpool(find), parameters)
        return answers.success_json(values, warnings)

    @router.get("/metadata")
    async def metadata(request: Request) -> Response:
        """Type, help and unit of metric families."""
        parameters = await read_parameters(request)
        wanted, limit = parameters.text("metric"), parameters.count("limit", 0)
        held = await run_in_threadpool(parts.store.metadata)
        families = {
            name: [{"type": family.type, "help": family.help, "unit": family.unit}]
            for name, family in sorted(held.items())
            if wanted in ("", name)
        }
        return answers.success_json(dict(list(families.items())[: limit or None]))

    return router


async def _answer(parts: Parts, kind: str, limit: int, evaluate: Callable[[], Result]) -> Response:
    def run() -> Response:
        result = evaluate()
        data, warnings = answers.query_data(result, limit)
        return answers.success(data, warnings, result.infos)

    parts.counts.queries[kind] += 1
    began_s = time.perf_counter()
    try:
        return await run_in_threadpool(run)
    except QueryError as error:
        parts.counts.query_failures += 1
        if error.kind == "bad_data":
            raise bad_parameter("query", str(error)) from error
        raise
    finally:
        parts.counts.query_seconds += time.perf_counter() - began_s


def _timeout_s(parameters: Parameters) -> float | None:
    return parameters.step_ms("timeout") / 1000 if parameters.text("timeout") else None


def _range_ms(parameters: Parameters) -> tuple[int, int]:
    return parameters.time_ms("start", EARLIEST_MS), parameters.time_ms("end", LATEST_MS)


def _limited(found: list[Any], parameters: Parameters) -> tuple[list[Any], list[str]]:
    limit = parameters.count("limit", 0)
    if limit and len(found) > limit:
        return found[:limit], ["results truncated due to limit"]
    return found, []
