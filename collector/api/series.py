"""What series there are: label sets, label names and values, and what the metric families mean."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api import answers
from collector.api.errors import ApiError, bad_parameter
from collector.api.parameters import EARLIEST_MS, LATEST_MS, Parameters, read_parameters
from collector.api.parts import Parts
from collector.model.labels import Labels
from collector.model.matchers import Matcher

T = TypeVar("T", str, Labels)

_ESCAPED = re.compile(r"_(_|[0-9a-fA-F]{1,8}_)")


def routes(parts: Parts) -> APIRouter:
    """The routes, answering from ``parts``."""
    router = APIRouter(prefix="/api/v1", tags=["Prometheus"])

    @router.get("/series", operation_id="series")
    @router.post("/series", operation_id="series_by_form")
    async def series(request: Request) -> Response:
        """Label sets that fit any of the selectors."""
        parameters = await read_parameters(request)
        selectors = parameters.selectors()
        if not selectors:
            raise ApiError(400, "bad_data", "no match[] parameter provided")
        found, warnings = await _union(parameters, selectors, parts.store.series)
        return answers.success(answers.label_sets(found), warnings)

    @router.get("/labels", operation_id="labels")
    @router.post("/labels", operation_id="labels_by_form")
    async def labels(request: Request) -> Response:
        """Names of the labels of the series that fit any of the selectors, or of all."""
        parameters = await read_parameters(request)
        names, warnings = await _union(parameters, parameters.selectors() or [()], parts.store.label_names)
        return answers.success_json(names, warnings)

    @router.get("/label/{name}/values")
    async def label_values(name: str, request: Request) -> Response:
        """Values of one label."""
        parameters = await read_parameters(request)
        label = unescape_name(name)

        def find(matchers: tuple[Matcher, ...], start_ms: int, end_ms: int) -> tuple[str, ...]:
            return parts.store.label_values(label, matchers, start_ms, end_ms)

        values, warnings = await _union(parameters, parameters.selectors() or [()], find)
        return answers.success_json(values, warnings)

    @router.get("/metadata")
    async def metadata(request: Request) -> Response:
        """Type, help and unit of metric families."""
        parameters = await read_parameters(request)
        wanted, limit = parameters.text("metric"), parameters.whole("limit", -1)
        per_metric = parameters.whole("limit_per_metric", -1)
        held = await run_in_threadpool(parts.store.metadata)
        families = {
            name: [{"type": family.type, "help": family.help, "unit": family.unit}][
                : None if per_metric < 1 else per_metric
            ]
            for name, family in sorted(held.items())
            if wanted in ("", name)
        }
        return answers.success_json(families if limit < 0 else dict(list(families.items())[:limit]))

    return router


def unescape_name(name: str) -> str:
    """A label's name as it stands in an address, ``U__service_2e_name`` being ``service.name``; ApiError 400.

    Source: Prometheus 3, ``model.UnescapeName`` with value encoding.
    """
    if not name.startswith("U__"):
        return name
    text, position = "", 3
    while position < len(name):
        if name[position] != "_":
            text += name[position]
            position += 1
            continue
        match = _ESCAPED.match(name, position)
        code = 0 if match is None or match[1] == "_" else int(match[1][:-1], 16)
        if match is None or code > 0x10FFFF:
            raise bad_parameter("name", f'"{name}" is no escaped label name; one looks like U__service_2e_name')
        text += "_" if match[1] == "_" else chr(code)
        position = match.end()
    return text


async def _union(
    parameters: Parameters,
    selectors: list[tuple[Matcher, ...]],
    find: Callable[[tuple[Matcher, ...], int, int], Iterable[T]],
) -> tuple[list[T], list[str]]:
    """What is found for any of the selectors in the time asked for, sorted, at most ``limit``; and warnings."""
    start_ms, end_ms = parameters.time_ms("start", EARLIEST_MS), parameters.time_ms("end", LATEST_MS)
    if end_ms < start_ms:
        raise bad_parameter("end", "end timestamp must not be before start time")
    limit = parameters.count("limit", 0)

    def look() -> list[T]:
        return sorted({one for matchers in selectors for one in find(matchers, start_ms, end_ms)})

    found = await run_in_threadpool(look)
    if limit and len(found) > limit:
        return found[:limit], ["results truncated due to limit"]
    return found, []
