"""Prometheus's ``.test`` scripts as cases, and a Querier in memory to run them on.

Format: github.com/prometheus/prometheus, promql/promqltest/README.md. Native histograms and start timestamps are read
over: a case that touches a metric which has them is marked ``floats_only=False``.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from collector.model.labels import Labels, from_mapping, get
from collector.model.matchers import Matcher, all_match
from collector.model.series import STALE_NAN, Series, SeriesGroup
from collector.promql import format, parse
from collector.promql.ast import (
    Aggregation,
    Binary,
    Call,
    Expr,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    Text,
    VectorSelector,
    walk,
)

CLOCKS = frozenset({"timestamp", "predict_linear", "info", "absent_over_time"})
"""Functions whose answer depends on more than what their selectors find."""

UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000, "y": 31_536_000_000}
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
STRING = r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|`[^`]*`'
PAIR = re.compile(rf"\s*({STRING}|[a-zA-Z_][\w.]*)\s*(?:=\s*({STRING}))?\s*,?")
NUMBER = r"[-+]?(?:inf|nan|[0-9]*\.?[0-9]+(?:e[-+]?[0-9]+)?|[0-9]+\.)"
VALUE = re.compile(rf"({NUMBER})(?:([-+])({NUMBER}))?(?:x([0-9]+))?", re.IGNORECASE)
INSTANT = re.compile(r"eval(?:_(\w+))?\s+instant\s+(?:at\s+(\S+))?\s+(.+)")
RANGE = re.compile(r"eval(?:_(\w+))?\s+range\s+from\s+(\S+)\s+to\s+(\S+)\s+step\s+(\S+)\s+(.+)")
HISTOGRAM = "histogram"

Points = dict[int, float]


class MemoryQuerier:
    """Series in a dictionary; those with the same sample times are answered as one group."""

    def __init__(self, series: Mapping[Labels, Points] | None = None) -> None:
        self.series: dict[Labels, Points] = dict(series or {})

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> Sequence[SeriesGroup]:
        groups: dict[tuple[int, ...], list[Labels]] = {}
        for labels, points in self.series.items():
            if all_match(matchers, labels):
                groups.setdefault(tuple(sorted(t for t in points if start_ms <= t <= end_ms)), []).append(labels)
        return [
            SeriesGroup(
                tuple(members),
                np.array(times, dtype=np.int64),
                np.array([[self.series[one][time] for one in members] for time in times]).reshape(-1, len(members)),
            )
            for times, members in groups.items()
        ]


@dataclass
class Case:
    """One evaluation and what it should give; ``values`` per label set, None where there is no point."""

    line: int
    text: str
    times_ms: tuple[int, int, int] | int
    loaded: Mapping[Labels, Points]
    floats_only: bool = True
    reads_bounds: bool = False
    fails: bool = False
    ordered: bool = False
    scalar: float | None = None
    string: str | None = None
    grid_ms: tuple[int, int, int] | None = None
    values: dict[Labels, list[float | None]] = field(default_factory=dict)
    remarks: set[str] = field(default_factory=set)
    messages: list[tuple[str, str, str]] = field(default_factory=list)


def duration_ms(text: str) -> int:
    if re.fullmatch(r"-?[0-9.]+", text):
        return round(float(text) * 1000)
    parts = re.findall(r"([0-9]+)(ms|[smhdwy])", text)
    return (-1 if text.startswith("-") else 1) * sum(int(number) * UNITS_MS[unit] for number, unit in parts)


def unquote(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    return re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[0]), text[1:-1])


def read_series(line: str) -> tuple[Labels, str]:
    """Label set at the start of a line, and the rest."""
    match = re.match(r"[a-zA-Z_:][\w:]*", line)
    labels = {"__name__": match[0]} if match else {}
    rest = line[match.end() :].lstrip() if match else line
    if rest.startswith("{") and not rest.startswith("{{"):
        position = 1
        while rest[position:].lstrip()[0] != "}":
            pair = PAIR.match(rest, position)
            assert pair, line
            name = unquote(pair[1]) if pair[1][0] in "\"'`" else pair[1]
            labels |= {"__name__": name} if pair[2] is None else {name: unquote(pair[2])}
            position = pair.end()
        rest = rest[rest.index("}", position) + 1 :]
    return from_mapping(labels), rest.strip()


def read_values(text: str) -> list[float | str | None]:
    """Points of a series; None for a gap, ``HISTOGRAM`` for a native histogram."""
    out: list[float | str | None] = []
    for word in re.findall(r"\{\{.*?\}\}(?:[+-]\{\{.*?\}\})?(?:x[0-9]+)?|\S+", text):
        repeat = re.search(r"x([0-9]+)$", word)
        count = int(repeat[1]) if repeat else 0
        if word.startswith("{{"):
            out += [HISTOGRAM] * (count + 1)
        elif word.startswith("_"):
            out += [None] * (count or 1)
        elif word.startswith("stale"):
            out += [STALE_NAN] * (count + 1)
        else:
            match = VALUE.fullmatch(word)
            assert match, word
            value = float(match[1])
            for _ in range(count + 1):
                out.append(value)
                value += float((match[2] or "+") + (match[3] or "0").lstrip("+")) if match[3] else 0.0
    return out


def read_cases(text: str) -> Iterator[Case]:
    """All evaluations of one script, each with the samples that are loaded when it runs."""
    lines = ["" if line.strip().startswith("#") else line.strip() for line in text.split("\n")]
    loaded: dict[Labels, Points] = {}
    tainted: set[str] = set()
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        block = []
        while line and line != "clear" and position < len(lines) and lines[position]:
            block.append(lines[position])
            position += 1
        if line == "clear":
            loaded, tainted = {}, set()
        elif line.startswith("load"):
            loaded = {**loaded, **_load(line, block, loaded, tainted)}
        elif line.startswith("eval"):
            yield _case(position, line, block, loaded, tainted)


def _load(line: str, block: Sequence[str], before: Mapping[Labels, Points], tainted: set[str]) -> dict[Labels, Points]:
    step_ms = duration_ms(line.split()[1])
    converts = line.startswith("load_with_nhcb")
    loaded: dict[Labels, Points] = {}
    rows = [(labels, read_values(rest)) for labels, rest in map(read_series, block) if "@st" not in rest]
    for labels, values in rows:
        name = get(labels, "__name__")
        if HISTOGRAM in values:
            tainted.add(name)
        if converts:
            tainted.add(re.sub("_(bucket|sum|count)$", "", name))
    for labels, values in rows:
        if get(labels, "__name__") not in tainted:
            points = {number * step_ms: float(value) for number, value in enumerate(values) if value is not None}
            loaded[labels] = {**before.get(labels, {}), **points}
    return loaded


def _case(number: int, line: str, block: Sequence[str], loaded: Mapping[Labels, Points], tainted: set[str]) -> Case:
    times: tuple[int, int, int] | int
    if match := INSTANT.fullmatch(line):
        mode, text, times = match[1], match[3], duration_ms(match[2] or "0")
    else:
        match = RANGE.fullmatch(line)
        assert match, line
        mode, text, times = match[1], match[5], (duration_ms(match[2]), duration_ms(match[3]), duration_ms(match[4]))
    case = Case(number - len(block), text, times, loaded, fails=mode == "fail", ordered=mode == "ordered")
    case.reads_bounds = any(word in text for word in ("step()", "range()", "start()", "end()"))
    words = set(re.findall(r"[a-zA-Z_:][\w:]*", text))
    nameless = "__name__" in text or re.search(r"(^|[^\w:\s])\s*\{", text)
    case.floats_only = not tainted or not (words & tainted or nameless)
    for row in block:
        _expect(case, row)
    return case


def _expect(case: Case, row: str) -> None:
    if row.startswith("expect range vector"):
        start, end, step = re.findall(r"(?:from|to|step)\s+(\S+)", row)
        case.grid_ms = (duration_ms(start), duration_ms(end), duration_ms(step))
    elif row.startswith("expect string"):
        case.string = unquote(row.removeprefix("expect string").strip())
    elif row.startswith("expect"):
        word = row.split()[1]
        case.fails |= word == "fail"
        case.ordered |= word == "ordered"
        case.remarks |= {word} & {"warn", "info", "no_warn", "no_info"}
        if match := re.match(r"expect (fail|warn|info)\s+(msg|regex):\s*(.*)", row):
            case.messages.append((match[1], match[2], match[3]))
    elif row.startswith("expected_fail"):
        case.fails = True
    elif re.fullmatch(rf"{NUMBER}|0x[0-9a-f]+", row, re.IGNORECASE):
        case.scalar = float(int(row, 16)) if row.startswith("0x") else float(row)
    else:
        labels, rest = read_series(row)
        values = read_values(rest)
        case.floats_only &= HISTOGRAM not in values
        case.values[labels] = [value if not isinstance(value, str) else None for value in values]


def is_close(left: float, right: float, tolerance: float = 1e-6) -> bool:
    if math.isnan(left) or math.isnan(right) or math.isinf(left) or math.isinf(right):
        return left == right or (math.isnan(left) and math.isnan(right))
    size = abs(left) + abs(right)
    return left == right or (left != 0 and right != 0 and abs(left - right) / size < tolerance)


def expected_points(case: Case) -> dict[Labels, dict[int, float]]:
    """What a vector or matrix should hold, by label set and time."""
    start, step = (case.times_ms, 1) if isinstance(case.times_ms, int) else (case.times_ms[0], case.times_ms[2])
    if case.grid_ms:
        start, _, step = case.grid_ms
    return {
        labels: {start + number * step: value for number, value in enumerate(values) if value is not None}
        for labels, values in case.values.items()
    }


def difference(case: Case, kind: str, series: Sequence[Series], text: str | None) -> str | None:
    """Why an answer is not the one expected, or None."""
    if case.string is not None:
        return None if text == case.string else f"string {text!r}"
    if case.scalar is not None:
        return None if kind == "scalar" and is_close(case.scalar, float(series[0].values[0])) else f"{kind} {series}"
    if kind == "scalar":
        return "a scalar was not expected"
    want = expected_points(case)
    if {one.labels for one in series} != set(want):
        return f"series {[one.labels for one in series]}"
    if case.ordered and [one.labels for one in series] != list(want):
        return "order"
    for one in series:
        got = dict(zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True))
        if set(got) != set(want[one.labels]):
            return f"times {sorted(got)} of {one.labels}"
        for time, value in want[one.labels].items():
            if not is_close(value, got[time]):
                return f"{got[time]} at {time} of {one.labels}, expected {value}"
    return None


def wrong_message(case: Case, told: Mapping[str, Sequence[str]]) -> str | None:
    """Which expected message was not told, or None; ``told`` are the messages by ``fail``, ``warn`` and ``info``."""
    for kind, how, text in case.messages:
        found = told.get(kind, ())
        if not any(text in one if how == "msg" else re.search(text, one) for one in found):
            return f"expected {kind} {text!r}, got {list(found)}"
    return None


def pinned(text: str, time_ms: int) -> str | None:
    """``text`` with ``@`` on its selectors, or None where that would mean something else."""
    expr = parse(text)
    if any(one.at is not None or getattr(one, "step_ms", 0) == 0 for one in walk(expr) if isinstance(one, Subquery)):
        return None
    changed = _pin(expr, time_ms)
    return None if changed is None else format(changed)


def _pin(expr: Expr, time_ms: int) -> Expr | None:
    """What reads the clock cannot be pinned: those functions, and selectors that are pinned already."""
    match expr:
        case Number() | Text():
            return expr
        case VectorSelector():
            return replace(expr, at=time_ms) if expr.at is None else None
        case MatrixSelector(selector):
            inner = _pin(selector, time_ms)
            return replace(expr, selector=inner) if isinstance(inner, VectorSelector) else None
        case Subquery():
            return replace(expr, at=time_ms)
        case Negate(inner):
            changed = _pin(inner, time_ms)
            return None if changed is None else replace(expr, expr=changed)
        case Binary(_, left, right):
            sides = _pin(left, time_ms), _pin(right, time_ms)
            return None if sides[0] is None or sides[1] is None else replace(expr, left=sides[0], right=sides[1])
        case Aggregation(_, inner, param):
            changed = _pin(inner, time_ms)
            other = None if param is None else _pin(param, time_ms)
            return (
                None
                if changed is None or (other is None) != (param is None)
                else replace(expr, expr=changed, param=other)
            )
        case Call(function, args) if function not in CLOCKS and (args or function == "pi"):
            changed_args = [_pin(one, time_ms) for one in args]
            return None if None in changed_args else replace(expr, args=tuple(one for one in changed_args if one))
    return None
