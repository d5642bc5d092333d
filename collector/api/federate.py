"""Federation: ``/federate`` gives the latest sample of the selected series as a metrics page with timestamps.

Source: Prometheus ``web/federate.go``. Series whose latest sample is a stale marker are left out; the external labels
are added where a series lacks them, and an empty ``instance`` where it has none.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from collector.api.parameters import read_parameters
from collector.api.parts import Parts
from collector.model.labels import METRIC_NAME, Labels, get
from collector.model.matchers import Matcher
from collector.model.series import SeriesGroup, is_stale

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LEGACY_METRIC = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LEGACY_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

Latest = tuple[str, Labels, int, float]
"""Metric name, all labels, Unix milliseconds, value."""


def routes(parts: Parts) -> APIRouter:
    """The one route."""
    router = APIRouter(tags=["federation"])

    @router.get("/federate")
    async def federate(request: Request) -> Response:
        """The latest sample of each series that fits any of the selectors."""
        parameters = await read_parameters(request)
        selectors, now_ms = parameters.selectors(), parts.now_ms()
        external = parts.configuration.current.external_labels

        def render() -> str:
            found = latest(parts, selectors, now_ms - parts.lookback_ms, now_ms)
            return "".join(page(found, external))

        return Response(await run_in_threadpool(render), media_type=CONTENT_TYPE)

    return router


def latest(parts: Parts, selectors: Sequence[tuple[Matcher, ...]], start_ms: int, end_ms: int) -> list[Latest]:
    """The latest samples of the selected series within the range, by metric name, then labels."""
    found: dict[Labels, Latest] = {}
    for matchers in selectors:
        for group in parts.store.select(matchers, start_ms, end_ms):
            found.update((labels, (name, labels, time_ms, value)) for name, labels, time_ms, value in _latest(group))
    return sorted(found.values(), key=lambda one: one[:2])


def page(found: Iterable[Latest], external: Labels) -> Iterator[str]:
    """The lines of the page."""
    added = {"instance": ""} | dict(external)
    family = None
    for name, labels, time_ms, value in found:
        if name != family:
            family = name
            yield f"# TYPE {_metric(name)} untyped\n"
        own = dict(labels)
        pairs = [(key, text) for key, text in labels if key != METRIC_NAME]
        pairs += [(key, text) for key, text in sorted(added.items()) if key not in own]
        inside = ",".join(f'{_label(key)}="{_escape(text)}"' for key, text in pairs)
        series = f"{name}{{{inside}}}" if _LEGACY_METRIC.fullmatch(name) else f"{{{_metric(name)},{inside}}}"
        yield f"{series} {go_float(value)} {time_ms}\n"


def go_float(value: float) -> str:
    """A number as Go's ``strconv`` writes it in metrics pages: ``1.234567e+06``."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    digits, exponent = np.format_float_scientific(value, trim="-").split("e")
    power = int(exponent)
    if power < -4 or power >= 6:
        return f"{digits}e{power:+03d}"
    return np.format_float_positional(value, trim="-")


def _latest(group: SeriesGroup) -> Iterator[Latest]:
    if not len(group.timestamps_ms):
        return
    time_ms, values = int(group.timestamps_ms[-1]), group.values[-1]
    for labels, value, is_gone in zip(group.labels, values.tolist(), is_stale(values).tolist(), strict=True):
        name = get(labels, METRIC_NAME)
        if name and not is_gone:
            yield name, labels, time_ms, value


def _metric(name: str) -> str:
    return name if _LEGACY_METRIC.fullmatch(name) else f'"{_escape(name)}"'


def _label(name: str) -> str:
    return name if _LEGACY_LABEL.fullmatch(name) else f'"{_escape(name)}"'


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
