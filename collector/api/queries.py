"""Prometheus's query API: instant and range queries, formatting, exemplars."""

import time
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.direct import Handler
from collector.api.errors import ApiError, bad_parameter
from collector.api.parameters import EARLIEST_MS, LATEST_MS, Parameters, read_parameters
from collector.api.parts import Parts
from collector.api.running import QueryClock, run_query
from collector.model.errors import QueryError
from collector.model.exemplars import Exemplar
from collector.promql import Engine, Result, format, parse, selectors

MAX_POINTS = 11_000
"""Steps of a range query, as in Prometheus."""


def routes(parts: Parts) -> APIRouter:
    """The routes, answering from ``parts``."""
    router = APIRouter(prefix="/api/v1", tags=["Prometheus"])

    @router.get("/query", operation_id="query")
    @router.post("/query", operation_id="query_by_form")
    async def query(request: Request) -> Response:
        """Evaluate an expression at one moment."""
        return await _instant(parts, request)

    @router.get("/query_range", operation_id="query_range")
    @router.post("/query_range", operation_id="query_range_by_form")
    async def query_range(request: Request) -> Response:
        """Evaluate an expression at every step of a range."""
        return await _range(parts, request)

    @router.get("/format_query", operation_id="format_query")
    @router.post("/format_query", operation_id="format_query_by_form")
    async def format_query(request: Request) -> Response:
        """The expression in canonical form."""
        parameters = await read_parameters(request)
        try:
            return answers.success_json(format(parse(parameters.text("query"))))
        except QueryError as error:
            raise bad_parameter("query", str(error)) from error

    @router.get("/query_exemplars", operation_id="query_exemplars")
    @router.post("/query_exemplars", operation_id="query_exemplars_by_form")
    async def query_exemplars(request: Request) -> Response:
        """Exemplars of the series that an expression names."""
        parameters = await read_parameters(request)
        start_ms, end_ms = parameters.time_ms("start", EARLIEST_MS), parameters.time_ms("end", LATEST_MS)
        if end_ms < start_ms:
            raise bad_parameter("end", "end timestamp must not be before start timestamp")
        try:
            chosen = selectors(parse(parameters.text("query")))
        except QueryError as error:
            raise bad_parameter("query", str(error)) from error

        def find() -> set[Exemplar]:
            return {one for each in chosen for one in parts.store.exemplars(each.matchers, start_ms, end_ms)}

        return answers.success(answers.exemplar_data(await run_in_threadpool(find)))

    return router


def direct(parts: Parts) -> dict[str, Handler]:
    """The queries by path, to be called without a way through the framework."""
    return {"/api/v1/query": partial(_instant, parts), "/api/v1/query_range": partial(_range, parts)}


async def _instant(parts: Parts, request: Request) -> Response:
    parameters = await read_parameters(request)
    moment_ms = parameters.time_ms("time", parts.now_ms())
    text = parameters.text("query")

    def evaluate(engine: Engine) -> Result:
        return engine.instant(parts.store, text, moment_ms)

    return await _answer(parts, request, parameters, "instant", (text,), evaluate)


async def _range(parts: Parts, request: Request) -> Response:
    parameters = await read_parameters(request)
    start_ms, end_ms = parameters.time_ms("start"), parameters.time_ms("end")
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    step_ms = parameters.step_ms("step")
    if (end_ms - start_ms) // step_ms > MAX_POINTS:
        reason = f"exceeded maximum resolution of {MAX_POINTS:,} points per timeseries"
        raise ApiError(400, "bad_data", f"{reason}. Try decreasing the query resolution (?step=XX)")
    text = parameters.text("query")

    def evaluate(engine: Engine) -> Result:
        return engine.range(parts.store, text, start_ms, end_ms, step_ms)

    return await _answer(parts, request, parameters, "range", (text, end_ms - start_ms, step_ms), evaluate)


async def _answer(
    parts: Parts,
    request: Request,
    parameters: Parameters,
    kind: str,
    asked: Hashable,
    evaluate: Callable[[Engine], Result],
) -> Response:
    """``asked``: what the time that the query takes depends on."""
    limit = parameters.count("limit", 0)
    limits, lookback_ms = parts.limits, parts.lookback_ms
    if parameters.text("timeout"):
        limits = replace(limits, timeout_s=min(limits.timeout_s, parameters.step_ms("timeout") / 1000))
    if parameters.text("lookback_delta"):
        lookback_ms = parameters.step_ms("lookback_delta")
    asked_for = parameters.text("stats")
    began_s = time.perf_counter()

    def work(clock: QueryClock) -> Response:
        delayed = parts.delayed_name_removal
        engine = Engine(
            limits,
            lookback_ms,
            parts.left_open,
            clock=clock,
            delayed_name_removal=delayed,
            count_steps=bool(asked_for),
        )
        prepared_s = time.perf_counter()
        result = evaluate(engine)
        evaluated_s = time.perf_counter()
        data, warnings = answers.query_data(result, limit)
        if asked_for and engine.effort is not None:
            times = prepared_s - began_s, evaluated_s - prepared_s
            data = answers.with_stats(data, engine.effort, *times, each_step=asked_for == "all")
        return answers.success(data, warnings, result.infos)

    parts.counts.queries[kind] += 1
    try:
        return await run_query(parts, request, limits.timeout_s, work, asked)
    except QueryError as error:
        parts.counts.query_failures += 1
        if error.kind == "bad_data":
            raise bad_parameter("query", str(error)) from error
        raise
    except ApiError:
        parts.counts.query_failures += 1
        raise
    finally:
        parts.counts.query_seconds += time.perf_counter() - began_s
