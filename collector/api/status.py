"""How the collector is: health, readiness, configuration and its reload, build, flags, figures of the store."""

import os
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from collector.api import answers
from collector.api.errors import bad_parameter
from collector.api.parameters import EARLIEST_MS, LATEST_MS, read_parameters
from collector.api.parts import Parts
from collector.model.errors import ConfigError
from collector.model.labels import METRIC_NAME, Labels

API_VERSION = "3.0.0"
"""The Prometheus whose API and PromQL this is; Grafana chooses by it what it asks for."""

TOP = 10


def routes(parts: Parts) -> APIRouter:
    """The routes, answering from ``parts``."""
    router = APIRouter(tags=["status"])

    @router.get("/-/healthy")
    async def healthy() -> Response:
        """The process lives."""
        return PlainTextResponse("Loadline collector is healthy.\n")

    @router.get("/-/ready")
    async def ready() -> Response:
        """The store is open and queries are answered."""
        if parts.stopping.is_set():
            return PlainTextResponse("Loadline collector is stopping.\n", status_code=503)
        return PlainTextResponse("Loadline collector is ready.\n")

    @router.post("/-/reload")
    @router.put("/-/reload", include_in_schema=False)
    async def reload() -> Response:
        """Read the configuration file again; where it cannot be used, the old one stays in force."""
        try:
            await parts.configuration.reload()
        except ConfigError as error:
            return PlainTextResponse(f"failed to reload config: {error}\n", status_code=500)
        return PlainTextResponse("")

    router.include_router(_api_routes(parts), prefix="/api/v1/status")
    return router


def _api_routes(parts: Parts) -> APIRouter:
    router = APIRouter()

    @router.get("/buildinfo")
    async def buildinfo() -> Response:
        """Which program and version answers, and which Prometheus it answers like."""
        program = f"loadline {metadata.version('loadline')}"
        return answers.success_json(
            {"application": "Loadline", "version": API_VERSION, "revision": program}
            | dict.fromkeys(("branch", "buildUser", "buildDate", "goVersion"), "")
        )

    @router.get("/config")
    async def config() -> Response:
        """The configuration in force, without its secrets."""
        return answers.success_json({"yaml": parts.configuration.current.text})

    @router.get("/flags")
    async def flags() -> Response:
        """The settings that the process runs with."""
        return answers.success_json(dict(parts.flags))

    @router.get("/runtimeinfo")
    async def runtimeinfo() -> Response:
        """What the process is doing."""
        return answers.success_json(await run_in_threadpool(_runtime, parts))

    @router.get("/tsdb")
    async def tsdb(request: Request) -> Response:
        """How many series there are, and which names and labels have most of them."""
        limit = (await read_parameters(request)).whole("limit", TOP)
        if limit < 1:
            raise bad_parameter("limit", "limit must be a positive number")
        return answers.success_json(await run_in_threadpool(_tsdb, parts, limit))

    return router


def _runtime(parts: Parts) -> dict[str, Any]:
    configuration, recovered = parts.configuration, parts.store.stats().recovered
    loaded_s = parts.started_s if configuration.loaded_s is None else configuration.loaded_s
    return {
        "startTime": _moment(parts.started_s),
        "CWD": str(Path.cwd()),
        "reloadConfigSuccess": not configuration.failure,
        "lastConfigTime": _moment(loaded_s),
        "corruptionCount": recovered.damaged,
        "goroutineCount": threading.active_count(),
        "GOMAXPROCS": os.cpu_count() or 1,
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": parts.flags.get("retention", ""),
    }


def _tsdb(parts: Parts, limit: int) -> dict[str, Any]:
    stats = parts.store.stats()
    names, pairs, sizes, values = count_labels(parts.store.series((), EARLIEST_MS, LATEST_MS))
    return {
        "headStats": {
            "numSeries": stats.series,
            "numLabelPairs": len(pairs),
            "chunkCount": stats.chunks + stats.groups,
            "minTime": stats.oldest_ms or 0,
            "maxTime": stats.newest_ms or 0,
        },
        "seriesCountByMetricName": _top(names, limit),
        "labelValueCountByLabelName": _top(values, limit),
        "memoryInBytesByLabelName": _top(sizes, limit),
        "seriesCountByLabelValuePair": _top(pairs, limit),
    }


def count_labels(series: Iterable[Labels]) -> tuple[Counter[str], Counter[str], Counter[str], Counter[str]]:
    """Series by metric name and by ``name=value``; bytes of values and number of values by label name."""
    names, pairs, sizes = Counter[str](), Counter[str](), Counter[str]()
    values: defaultdict[str, set[str]] = defaultdict(set)
    for labels in series:
        for name, value in labels:
            pairs[f"{name}={value}"] += 1
            sizes[name] += len(value.encode())
            values[name].add(value)
            if name == METRIC_NAME:
                names[value] += 1
    return names, pairs, sizes, Counter({name: len(found) for name, found in values.items()})


def _top(counts: Mapping[str, int], limit: int) -> list[dict[str, Any]]:
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"name": name, "value": count} for name, count in ordered[:limit]]


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat().replace("+00:00", "Z")
