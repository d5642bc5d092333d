"""Read a request trace: when requests came, how long they were, and which prefixes they shared.

Three formats, told apart by the first line: Azure's CSV (``TIMESTAMP,ContextTokens,GeneratedTokens``), Mooncake's JSON
lines (``timestamp`` in ms, ``input_length``, ``output_length``, ``hash_ids``) and plain JSON lines (``arrival_s``,
``prompt_tokens``, ``output_tokens``). The planner's readers know more formats and every doubt about a row; an
experiment wants lengths, arrivals and shared prefixes, and no import of the planner.
"""

import csv
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from probe_engine.errors import ExperimentError

PREFIX_BLOCK_TOKENS = 512  # of one of Mooncake's hash ids


@dataclass(frozen=True, slots=True)
class TraceRequest:
    """One request: when it came (s after the first), its lengths, and the ids of its prompt's 512-token blocks.

    ``prefix`` is chained from the first block on: equal ids mean equal tokens up to there; empty where unknown.
    """

    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    prefix: tuple[int, ...] = ()


def read_trace(path: Path) -> tuple[TraceRequest, ...]:
    """Every request of ``path`` in the order of arrival, the first at 0 s.

    Requests without a prompt or an output are left out. Raises ``ExperimentError`` with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ExperimentError(f"{path}: the trace cannot be read: {error}") from error
    first = text.lstrip()[:1]
    rows = _json_lines(path, text) if first == "{" else _azure(path, text)
    found = sorted((row for row in rows if row.prompt_tokens and row.output_tokens), key=lambda row: row.arrival_s)
    if not found:
        raise ExperimentError(f"{path}: no request with a prompt and an output")
    start_s = found[0].arrival_s
    return tuple(replace(row, arrival_s=row.arrival_s - start_s) for row in found)


def spread_ticks(requests: Sequence[TraceRequest], seed: int) -> tuple[TraceRequest, ...]:
    """Arrivals that a coarse clock put on one tick, spread evenly at random until the next tick.

    Mooncake's clock ticks every 3 s: taken literally, ten requests come at once and then none.
    """
    rng = random.Random(seed)
    ticks = [(tick_s, list(rows)) for tick_s, rows in groupby(requests, key=lambda row: row.arrival_s)]
    spread: list[TraceRequest] = []
    for (tick_s, rows), following in zip(ticks, [tick_s for tick_s, _ in ticks[1:]] + [None], strict=True):
        room_s = 0.0 if following is None else following - tick_s
        moments = sorted(tick_s + room_s * rng.random() for _ in rows) if len(rows) > 1 else [tick_s]
        spread += [replace(row, arrival_s=moment) for row, moment in zip(rows, moments, strict=True)]
    return tuple(spread)


def fitting(requests: Sequence[TraceRequest], max_model_len: int, most: int) -> tuple[TraceRequest, ...]:
    """The first ``most`` requests of at most ``max_model_len`` tokens in all."""
    short = [row for row in requests if row.prompt_tokens + row.output_tokens <= max_model_len]
    return tuple(short[:most])


def paced(requests: Sequence[TraceRequest], factor: float) -> tuple[TraceRequest, ...]:
    """The same requests ``factor`` times as fast; a ``factor`` of 0 lets all come at once."""
    return tuple(replace(row, arrival_s=row.arrival_s / factor if factor else 0.0) for row in requests)


def _azure(path: Path, text: str) -> Iterator[TraceRequest]:
    rows = csv.DictReader(text.splitlines())
    wanted = {"TIMESTAMP", "ContextTokens", "GeneratedTokens"}
    if not wanted <= set(rows.fieldnames or ()):
        raise ExperimentError(
            f"{path}: neither JSON lines nor a CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens"
        )
    epoch = datetime(1970, 1, 1)
    for line, row in enumerate(rows, 2):
        yield _checked(path, line, partial(_from_azure, row, epoch))


def _from_azure(row: Mapping[str, str], epoch: datetime) -> TraceRequest:
    whole, _, fraction = row["TIMESTAMP"].partition(".")  # 7 digits: more than strptime reads
    moment = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S")
    arrival_s = (moment - epoch) / timedelta(seconds=1) + float(f"0.{fraction or 0}")
    return TraceRequest(arrival_s, _count(row["ContextTokens"]), _count(row["GeneratedTokens"]))


def _json_lines(path: Path, text: str) -> Iterator[TraceRequest]:
    for line, raw in enumerate(text.splitlines(), 1):
        if raw.strip():
            yield _checked(path, line, partial(_parsed, raw))


def _parsed(raw: str) -> TraceRequest:
    return _from_json(json.loads(raw))


def _from_json(row: Mapping[str, Any]) -> TraceRequest:
    if "input_length" in row:
        prefix = tuple(_count(one) for one in row.get("hash_ids", ()))
        arrival_s = float(row["timestamp"]) / 1000
        return TraceRequest(arrival_s, _count(row["input_length"]), _count(row["output_length"]), prefix)
    return TraceRequest(float(row["arrival_s"]), _count(row["prompt_tokens"]), _count(row["output_tokens"]))


def _checked(path: Path, line: int, read: Callable[[], TraceRequest]) -> TraceRequest:
    try:
        return read()
    except KeyError as error:
        raise ExperimentError(f"{path}:{line}: has no {error.args[0]!r}") from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ExperimentError(f"{path}:{line}: {error}") from error


def _count(value: object) -> int:
    number = int(str(value))
    if number < 0:
        raise ValueError(f"{number} is less than 0")
    return number
