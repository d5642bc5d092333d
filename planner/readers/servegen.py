"""ServeGen's clients: ``chunk-N-trace.csv`` tells rates and burstiness by windows of ten minutes, no single requests.

Requests are drawn (seeded) from what it tells: a renewal process in operational time, so that gaps have the window's
Gamma or Weibull shape and the mean rate is kept without an arrival lost at a window's end. Lengths come from
``chunk-N-dataset.json`` beside it, prompt and answer independently of each other, as the source gives no joint ones.
Every window is an accepted line. Format: https://github.com/alibaba/ServeGen.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from planner.errors import TraceError
from planner.readers.head import Head
from planner.readers.lines import BadRow
from planner.readers.row import Chunk
from planner.readers.source import Source
from planner.readers.stream import Format
from planner.traces.trace import MAX_TOKENS, IntArray, Quality

WINDOW_S = 600
MAX_RATE = 1e5
_LINE = re.compile(rb"\d{1,9}(\.\d+)?,[\d.eE+-]+,[\d.eE+-]*,(Gamma|Weibull)?,[\d.eE+-]*,[\d.eE+-]*")
Table = tuple[IntArray, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Window:
    """Ten minutes of one client: when it starts, requests per second, the shape of its gaps."""

    start_s: float
    rate_per_s: float
    pattern: str
    shape: float


def _chunks(source: Source) -> Iterator[Chunk]:
    generator = np.random.default_rng([source.seed, 0x5E26])
    tables = _tables(source)
    source.remark("requests are drawn from rates and lengths by window; --seed draws others")
    due, ledger = 0.0, source.ledger
    for line, offset, raw in source.records():
        try:
            window = _window(raw)
        except BadRow as bad:
            ledger.set_aside(line, offset, str(bad), raw)
            continue
        ledger.accepted += 1
        arrivals, due = _arrivals(window, due, generator)
        if len(arrivals):
            yield _chunk(source, line, arrivals, window, tables, generator)


def _window(raw: bytes) -> Window:
    """A line of the file. Raises BadRow."""
    fields = raw.decode("utf-8", "replace").strip().split(",")
    if len(fields) != 6:
        raise BadRow("missing_column" if len(fields) < 6 else "extra_column")
    try:
        start_s, rate, cv, shape = (float(fields[k] or 0) for k in (0, 1, 2, 4))
    except ValueError:
        raise BadRow("non_numeric_field") from None
    if not (0 <= start_s < 1e9 and 0 <= rate <= MAX_RATE and 0 <= cv < 1e6 and 0 <= shape < 1e6):
        raise BadRow("field_out_of_range")
    if fields[3] not in ("", "Gamma", "Weibull"):
        raise BadRow("unknown_pattern")
    pattern = fields[3] if shape else "Gamma"
    return Window(start_s, rate, pattern, max(shape or (1 / cv**2 if cv else 1.0), 1e-3))


def _arrivals(window: Window, due: float, generator: np.random.Generator) -> tuple[npt.NDArray[np.float64], float]:
    """Seconds of the arrivals in a window, and the operational time (expected requests) left over to the next one."""
    expected = window.rate_per_s * WINDOW_S
    if due >= expected:
        return np.zeros(0), due - expected
    at = [np.array([due])]
    while at[-1][-1] < expected:
        gaps = unit_gaps(window.pattern, window.shape, max(int(expected) // 4, 64), generator)
        at.append(at[-1][-1] + np.cumsum(gaps))
    every = np.concatenate(at)
    inside = every[every < expected]
    return window.start_s + inside / window.rate_per_s, float(every[len(inside)] - expected)


def unit_gaps(pattern: str, shape: float, count: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """(count,) gaps of mean 1 with the Gamma or Weibull shape."""
    if pattern == "Weibull":
        from scipy.special import gamma

        return generator.weibull(shape, count) / gamma(1 + 1 / max(shape, 0.05))
    return generator.gamma(shape, 1 / shape, count)


def _chunk(
    source: Source, line: int, arrivals_s: npt.NDArray[np.float64], window: Window, tables: "_Tables", generator: Any
) -> Chunk:
    rows = len(arrivals_s)
    drawn = {name: _draw(table, rows, generator) for name, table in tables.at(window.start_s).items()}
    nothing = np.zeros(rows, dtype=np.int64)
    tokens_in, tokens_out = drawn.get("input_tokens", nothing), drawn.get("output_tokens", nothing)
    chunk = Chunk.plain(np.full(rows, line), np.rint(arrivals_s * 1e9).astype(np.int64), tokens_in, tokens_out)
    chunk.quality[:] = Quality.SYNTHETIC
    chunk.columns["tenant"] = np.full(rows, source.path.name.split("-trace")[0], dtype=object)
    for name in ("input_tokens", "output_tokens"):
        if name not in drawn:
            chunk.missing[name] = np.ones(rows, dtype=np.bool_)
    return chunk


def _draw(table: Table, rows: int, generator: np.random.Generator) -> IntArray:
    values, weights = table
    found: IntArray = generator.choice(values, rows, p=weights)
    return found


@dataclass(frozen=True, slots=True)
class _Tables:
    """Lengths by their start, ascending; windows in which the client was idle have none."""

    starts_s: tuple[float, ...]
    lengths: tuple[Mapping[str, Table], ...]

    def at(self, second: float) -> Mapping[str, Table]:
        """Those in force at a time, or the nearest ones."""
        if not self.lengths:
            return {}
        before = int(np.searchsorted(self.starts_s, second, side="right")) - 1
        return self.lengths[max(before, 0)]


def _tables(source: Source) -> _Tables:
    beside = source.path.with_name(source.path.name.replace("-trace.csv", "-dataset.json"))
    if beside == source.path or not beside.is_file():
        source.remark(f"{beside.name} is not beside it: lengths are not known")
        return _Tables((), ())
    try:
        document = orjson.loads(beside.read_bytes())
        entries = sorted((float(start), fields) for start, fields in document.items())
        lengths = [(start, _lengths(beside, fields)) for start, fields in entries]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise TraceError(f"{beside}: is no ServeGen dataset: {error}") from error
    known = [(start, tables) for start, tables in lengths if len(tables) == 2]
    return _Tables(tuple(start for start, _ in known), tuple(tables for _, tables in known))


def _lengths(path: Path, fields: Mapping[str, str]) -> dict[str, Table]:
    """The distributions of one window. Raises TraceError when they are no token counts with probabilities."""
    tables: dict[str, Table] = {}
    for name in ("input_tokens", "output_tokens"):
        try:
            drawn = ast.literal_eval(fields.get(name, "{}"))
            values = np.array(list(drawn), dtype=np.float64)
            weights = np.array(list(drawn.values()), dtype=np.float64)
        except (ValueError, SyntaxError, TypeError, AttributeError, MemoryError, RecursionError) as error:
            raise TraceError(f"{path}: {name} is no table of value: probability: {error}") from error
        if not len(values):
            continue
        if not ((values >= 0) & (values <= MAX_TOKENS)).all() or not (weights >= 0).all() or not weights.sum() > 0:
            raise TraceError(f"{path}: {name} holds values below 0 or probabilities that do not add up")
        tables[name] = np.rint(values).astype(np.int64), weights / weights.sum()
    return tables


def _sniff(head: Head) -> bool:
    return bool(head.lines) and all(_LINE.fullmatch(line.strip()) for line in head.lines[:3])


FORMAT = Format(
    name="servegen",
    what="ServeGen client CSV (t,rate,cv,pattern,arg1,arg2 without header), lengths in -dataset.json beside it",
    sniff=_sniff,
    chunks=_chunks,
    draws=True,
)
