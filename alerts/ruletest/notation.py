"""promtool's notation of label sets (``up{job="a"}``) and of series (``1+2x10 _ stale -4x3``)."""

import re

from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import STALE_NAN

MAX_POINTS = 1_000_000
"""How many points one series may have, so that a slip (``1x999999999``) is an error and not all of the memory."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_PAIR = re.compile(
    r"""\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)\s*(,|(?=\}))"""
)
_NUMBER = r"(?:[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9]+\.|0[xX][0-9a-fA-F]+|[nN][aA][nN]|[iI][nN][fF])"
_ITEM = re.compile(rf"(?P<start>[-+]?{_NUMBER})(?:(?P<growth>[-+]{_NUMBER}))?(?:x(?P<times>[0-9]+))?")
_BLANK = re.compile(r"_(?:x(?P<times>[0-9]+))?")
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}


def read_labels(text: str) -> Labels:
    """A metric with its labels, or labels alone; ``{}`` and nothing are no labels. Raises ValueError."""
    stripped = text.strip()
    name = _NAME.match(stripped)
    labels = {METRIC_NAME: name[0]} if name else {}
    rest = stripped[name.end() :].strip() if name else stripped
    if not rest:
        return from_mapping(labels)
    if not (rest.startswith("{") and rest.endswith("}")):
        raise ValueError(f'"{text}" is no series; one looks like up{{job="a"}}')
    position = 1
    while rest[position:].strip() != "}":
        pair = _PAIR.match(rest, position)
        if pair is None:
            raise ValueError(f'"{text}" is no series; one looks like up{{job="a"}}')
        if pair[1] in labels:
            raise ValueError(f'"{text}" has the label {pair[1]} twice')
        labels[pair[1]] = _unquoted(pair[2])
        position = pair.end()
    return from_mapping(labels)


def read_values(text: str) -> list[float | None]:
    """Points of a series, one for each interval; None where there is none. Raises ValueError.

    ``a+bxn`` is ``a``, then n times ``b`` more; ``axn`` is ``a`` n times more; ``_`` is no point; ``stale`` ends the
    series.
    """
    if "{{" in text:
        raise ValueError("native histograms ({{...}}) are not read")
    points: list[float | None] = []
    for word in text.split():
        points += _points(word)
        if len(points) > MAX_POINTS:
            raise ValueError(f"more than {MAX_POINTS} points")
    return points


def _points(word: str) -> list[float | None]:
    if word == "stale":
        return [STALE_NAN]
    if blank := _BLANK.fullmatch(word):
        return [None] * _times(blank["times"] or "1", word)
    item = _ITEM.fullmatch(word)
    if item is None or (item["growth"] and item["times"] is None):
        raise ValueError(f'"{word}" is no point; points look like 1, -2.5, 1+2x10, 3x5, _, _x4, stale')
    value = _number(item["start"])
    growth = _number(item["growth"]) if item["growth"] else 0.0
    points: list[float | None] = [value]
    for _ in range(_times(item["times"] or "0", word)):
        value += growth  # added up as promtool does, so that rounding is the same
        points.append(value)
    return points


def _times(text: str, word: str) -> int:
    times = int(text)
    if times > MAX_POINTS:
        raise ValueError(f'"{word}" stands for more than {MAX_POINTS} points')
    return times


def _number(text: str) -> float:
    return float(int(text, 16)) if "x" in text.lower() else float(text)


def _unquoted(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    return _ESCAPE.sub(_unescaped, text[1:-1])


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    if code[0] in "xuU" and len(code) > 1:
        return chr(int(code[1:], 16))
    return chr(int(code, 8)) if len(code) == 3 else _ESCAPES.get(code, code)
