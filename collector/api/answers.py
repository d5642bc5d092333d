"""Answers in Prometheus's JSON, built from bytes: values are texts, times are seconds.

A range query's answer is mostly numbers, so they are rendered in bulk and joined, never one object each.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import orjson
from starlette.responses import Response

from collector.api.errors import ApiError
from collector.model.exemplars import Exemplar
from collector.model.float_text import float_text, float_texts
from collector.model.labels import Labels
from collector.model.series import Int64Array, Series
from collector.promql import Effort, Result

MEDIA_TYPE = "application/json"
SAMPLES_AT_ONCE = 8192
"""Samples whose values are made text in one go."""


def success(data: bytes, warnings: Sequence[str] = (), infos: Sequence[str] = ()) -> Response:
    """``{"status":"success","data":…}`` with what was remarked."""
    body = b'{"status":"success","data":' + data
    if warnings:
        body += b',"warnings":' + orjson.dumps(list(warnings))
    if infos:
        body += b',"infos":' + orjson.dumps(list(infos))
    return Response(body + b"}", media_type=MEDIA_TYPE)


def success_json(data: Any, warnings: Sequence[str] = ()) -> Response:
    """``success`` of plain values."""
    return success(orjson.dumps(data), warnings)


def failure(error: ApiError) -> Response:
    """``{"status":"error",…}`` with the error's HTTP status."""
    body = orjson.dumps({"status": "error", "errorType": error.kind, "error": str(error)})
    headers = {"Retry-After": "5"} if error.status == 503 else None
    return Response(body, status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


def query_data(result: Result, limit: int = 0) -> tuple[bytes, tuple[str, ...]]:
    """The ``data`` of a query's answer, at most ``limit`` series (0: all), and its warnings."""
    if result.kind in ("scalar", "string"):
        (only,) = result.series
        text = orjson.dumps(result.text or "") if result.kind == "string" else b'"%b"' % float_texts(only.values)[0]
        value = b"[%b,%b]" % (time_texts(only.timestamps_ms)[0], text)
        return b'{"resultType":"%b","result":%b}' % (result.kind.encode(), value), result.warnings
    series, warnings = result.series, result.warnings
    if limit and len(series) > limit:
        series, warnings = series[:limit], (*warnings, "results truncated due to limit")
    render = _vector if result.kind == "vector" else _matrix
    return b'{"resultType":"%b","result":[%b]}' % (result.kind.encode(), b",".join(render(series))), warnings


def with_stats(data: bytes, effort: Effort, waited_s: float, evaluated_s: float, each_step: bool) -> bytes:
    """A query's ``data`` with what the query took, whose steps were counted, in Prometheus's shape."""
    timings = {
        "evalTotalTime": evaluated_s,
        "resultSortTime": 0.0,
        "queryPreparationTime": 0.0,
        "innerEvalTime": evaluated_s,
        "execQueueTime": waited_s,
        "execTotalTime": waited_s + evaluated_s,
    }
    looked_at = [] if effort.looked_at is None else effort.looked_at.tolist()
    counts: dict[str, Any] = {"totalQueryableSamples": sum(looked_at), "peakSamples": effort.most_held}
    if each_step:
        times_s = (effort.times_ms / 1000).tolist()
        counts["totalQueryableSamplesPerStep"] = list(zip(times_s, looked_at, strict=True))
    return data[:-1] + b',"stats":' + orjson.dumps({"timings": timings, "samples": counts}) + b"}"


def label_sets(found: Iterable[Labels]) -> bytes:
    """A list of label sets."""
    return b"[%b]" % b",".join(orjson.dumps(dict(labels)) for labels in found)


def exemplar_data(found: Iterable[Exemplar]) -> bytes:
    """Exemplars by series, each series' in the order of time."""
    ordered = sorted(found, key=lambda one: (one.series, one.timestamp_ms, one.labels))
    entries = []
    for series, several in groupby(ordered, key=lambda one: one.series):
        kept = list(several)
        times = time_texts(np.array([one.timestamp_ms for one in kept], dtype=np.int64))
        values = [float_text(one.value).encode() for one in kept]
        inside = b",".join(
            b'{"labels":%b,"value":"%b","timestamp":%b}' % (orjson.dumps(dict(one.labels)), value, time)
            for one, value, time in zip(kept, values, times, strict=True)
        )
        entries.append(b'{"seriesLabels":%b,"exemplars":[%b]}' % (orjson.dumps(dict(series)), inside))
    return b"[%b]" % b",".join(entries)


def time_texts(timestamps_ms: Int64Array) -> list[bytes]:
    """Unix seconds, with three digits after the point where they are not whole."""
    return _joined_times(timestamps_ms).split(b",") if len(timestamps_ms) else []


def _joined_times(timestamps_ms: Int64Array) -> bytes:
    """The same with commas between them, of at least one."""
    whole_s, rest_ms = np.divmod(timestamps_ms, 1000)
    if timestamps_ms[0] >= 0 and (rest_ms == rest_ms[0]).all():
        seconds = orjson.dumps(whole_s, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
        rest = b".%03d" % rest_ms[0] if rest_ms[0] else b""
        return seconds.replace(b",", rest + b",") + rest if rest else seconds
    texts = []
    for time_ms in timestamps_ms.tolist():
        sign = b"-" if time_ms < 0 else b""
        whole, rest = divmod(abs(time_ms), 1000)
        texts.append(b"%b%d.%03d" % (sign, whole, rest) if rest else b"%b%d" % (sign, whole))
    return b",".join(texts)


def _vector(series: Sequence[Series]) -> Iterable[bytes]:
    if not series:
        return
    values = float_texts(np.concatenate([one.values[:1] for one in series]))
    times = time_texts(np.concatenate([one.timestamps_ms[:1] for one in series]))
    for one, time, value in zip(series, times, values, strict=True):
        yield b'{"metric":%b,"value":[%b,"%b"]}' % (orjson.dumps(dict(one.labels)), time, value)


def _matrix(series: Sequence[Series]) -> Iterable[bytes]:
    texts_of: dict[bytes, list[bytes]] = {}  # of series with equal timestamps; each puts its own values in
    for batch in _batches(series):
        values = float_texts(np.concatenate([one.values for one in batch]))
        first = 0
        for one in batch:
            key = one.timestamps_ms.tobytes()
            texts = texts_of.get(key)
            if texts is None:
                texts = texts_of[key] = _around_values(one.timestamps_ms)
            last = first + len(one.values)
            texts[1::2] = values[first:last]
            first = last
            yield b'{"metric":%b,"values":[%b"]]}' % (orjson.dumps(dict(one.labels)), b"".join(texts))


def _batches(series: Sequence[Series]) -> Iterator[list[Series]]:
    """Series that have samples, some thousand samples at a time."""
    batch: list[Series] = []
    samples = 0
    for one in series:
        if len(one.values):
            batch.append(one)
            samples += len(one.values)
        if samples >= SAMPLES_AT_ONCE:
            yield batch
            batch, samples = [], 0
    if batch:
        yield batch


def _around_values(timestamps_ms: Int64Array) -> list[bytes]:
    """Texts of the moments, with room for a value after each."""
    joined = b'[%b,"' % _joined_times(timestamps_ms).replace(b",", b',"\0"],[')
    around = [b""] * (2 * len(timestamps_ms))
    around[::2] = joined.split(b"\0")
    return around
