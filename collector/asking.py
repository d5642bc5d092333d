"""Servers and data directories as the command line names them: what is asked, exported from and imported into."""

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from collector.client import Client
from collector.importing import IntoServer, IntoStore, Sink
from collector.model.errors import ConfigError, QueryError
from collector.model.float_text import float_text
from collector.model.labels import Labels, render
from collector.model.moments import parse_moment_s
from collector.promql import Engine
from collector.promql.durations import parse_duration_ms
from collector.store import Store

HOUR_MS = 3_600_000
ANY_AGE_MS = 1 << 53
"""An out-of-order window that shuts nothing out."""

Source = Client | Store
Answer = list[dict[str, Any]]
"""Series as ``{"series": text, "labels": {…}, "values": [[unix seconds, text], …]}``."""


@contextlib.contextmanager
def source(url: str, data: Path | None) -> Iterator[Source]:
    """The data directory if one is named, the server at ``url`` otherwise."""
    if data is None:
        with Client(url, timeout_s=120.0) as client:
            yield client
    else:
        with Store.open(data_directory(data), read_only=True) as store:
            yield store


@contextlib.contextmanager
def sink(url: str, data: Path | None) -> Iterator[Sink]:
    """Where to import to: the data directory, which takes samples however old, or else the server at ``url``."""
    if data is None:
        with Client(url, timeout_s=120.0) as client:
            yield IntoServer(client)
    else:
        with Store.open(data, retention_ms=None, out_of_order_ms=ANY_AGE_MS) as store:
            yield IntoStore(store)
            store.cut(round(time.time() * 1000))


def time_range(start: str | None, end: str | None) -> tuple[int, int]:
    """Begin and end in Unix milliseconds, the last hour by default; ConfigError where the end comes first."""
    end_ms = round(_moment_s("end", end) * 1000)
    start_ms = end_ms - HOUR_MS if start is None else round(_moment_s("start", start) * 1000)
    if end_ms < start_ms:
        raise ConfigError(f"--end is {end}; it should not be before --start, {start}")
    return start_ms, end_ms


def data_directory(path: Path) -> Path:
    """``path`` if a store lies there; ConfigError otherwise."""
    if not (path / "loadline.db").is_file():
        raise ConfigError(f"{path}: no collector's data lie there (no loadline.db)")
    return path


def instant(asked: Source, expr: str, moment: str | None) -> Answer:
    """The answer at ``moment``, now by default."""
    moment_s = _moment_s("time", moment)
    if isinstance(asked, Client):
        samples = asked.query(expr, moment_s if moment else None)
        return [_entry(one.labels, [(one.timestamp_ms, one.value)]) for one in samples]
    result = Engine().instant(asked, expr, round(moment_s * 1000))
    if result.text is not None:
        raise QueryError(f'"{expr}" is a string: {result.text}')
    return [_entry(one.labels, zip(one.timestamps_ms, one.values, strict=True)) for one in result.series]


def over_range(asked: Source, expr: str, start: str, end: str | None, step: str) -> Answer:
    """The answer at every ``step`` from ``start`` to ``end``, now by default."""
    start_s, end_s = _moment_s("start", start), _moment_s("end", end)
    step_ms = _step_ms(step)
    if end_s < start_s:
        raise ConfigError(f"--end is {end}; it should not be before --start, {start}")
    if isinstance(asked, Client):
        series = asked.query_range(expr, start_s, end_s, step_ms / 1000)
    else:
        series = Engine().range(asked, expr, round(start_s * 1000), round(end_s * 1000), step_ms).series
    return [_entry(one.labels, zip(one.timestamps_ms, one.values, strict=True)) for one in series]


def _entry(labels: Labels, points: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    values = [[int(timestamp_ms) / 1000, float_text(float(value))] for timestamp_ms, value in points]
    return {"series": render(labels), "labels": dict(labels), "values": values}


def _moment_s(option: str, text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        return parse_moment_s(text)
    except ValueError as error:
        raise ConfigError(f"--{option}: {error}") from error


def _step_ms(text: str) -> int:
    try:
        step_ms = round(float(text) * 1000)
    except ValueError:
        step_ms = parse_duration_ms(text)
    if step_ms <= 0:
        raise ConfigError(f"--step is {text}; it should be longer than nothing")
    return step_ms
