"""Series over time as OpenMetrics text, the form in which samples move from one store to another.

    # TYPE loadline_generation_tokens counter
    # HELP loadline_generation_tokens Tokens generated.
    loadline_generation_tokens_total{model_name="tiny"} 12 1700000000.5
    # EOF

Every sample bears its time. What belongs together, such as the buckets of a histogram, stands together at each moment.
A stale marker cannot be written.
Source: OpenMetrics 1.0; names beyond letters, digits, ``_`` and ``:`` are quoted as in Prometheus 3.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from collector.model.exposition import read_sample_line
from collector.model.float_text import float_texts
from collector.model.labels import METRIC_NAME, Labels, get
from collector.model.series import Series

END = b"# EOF\n"
MAX_KEYS = 200_000
"""Series remembered by the text of their labels while a file is read."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "counter": ("_total", "_created"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
}
"""What the metrics of a family are called beyond its name; the first is what makes it one."""

LINES_AT_ONCE = 10_000

_PLACES = {"histogram": "le", "summary": "quantile"}
"""The label that tells the series of one histogram or summary apart."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_LATEST_MS = 1 << 53


def families(metrics: Iterable[str], kinds: Mapping[str, str]) -> dict[tuple[str, str], list[str]]:
    """Metrics by the family that they are written under, and its type; ``kinds`` are types by metric or family.

    A metric that is no part of a counter, histogram or summary is a family of its own, a gauge or of no type.
    """
    names = sorted(metrics)
    taken = frozenset(names)
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        found.setdefault(_family(name, taken, kinds), []).append(name)
    return found


def _family(metric: str, taken: frozenset[str], kinds: Mapping[str, str]) -> tuple[str, str]:
    own = kinds.get(metric)
    for kind, suffixes in PARTS.items():
        for suffix in suffixes if own in (None, "unknown", kind) or metric.endswith("_created") else ():
            family = metric.removesuffix(suffix)
            if not metric.endswith(suffix) or kinds.get(family, kinds.get(f"{family}_total")) != kind:
                continue
            if kind == "summary" or (f"{family}{suffixes[0]}" in taken and family not in taken):
                return family, kind
    return metric, "gauge" if own == "gauge" else "unknown"


def describe(family: str, kind: str, help: str) -> bytes:
    """The comments before a family's series."""
    name = family if _NAME.fullmatch(family) else _quoted(family)
    text = help.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f"# TYPE {name} {kind}\n".encode() + (f"# HELP {name} {text}\n".encode() if help else b"")


def family_lines(kind: str, several: Iterable[Series]) -> Iterator[bytes]:
    """The series of a family, in pieces: those of one histogram, summary or counter by time, one after the other."""
    place = _PLACES.get(kind)
    alike: dict[Labels, list[Series]] = {}
    for one in several:
        alike.setdefault(tuple(pair for pair in one.labels if pair[0] not in (METRIC_NAME, place)), []).append(one)
    for labels in sorted(alike):
        yield from _by_time(sorted(alike[labels], key=lambda one: _rank(one.labels, place)))


def _rank(labels: Labels, place: str | None) -> tuple[str, float, Labels]:
    """Where a series stands among those of one histogram: buckets by their bounds, then the count, then the sum."""
    try:
        bound = float(get(labels, place)) if place else 0.0
    except ValueError:
        bound = np.inf
    return get(labels, METRIC_NAME), bound, labels


def _by_time(several: Sequence[Series]) -> Iterator[bytes]:
    """Lines by time, at each moment in the given order of the series."""
    if len(several) == 1:
        yield sample_lines(several[0])
        return
    starts = [series_text(one.labels) + b" " for one in several]
    which = np.repeat(np.arange(len(several)), [len(one.values) for one in several])
    times_ms = np.concatenate([one.timestamps_ms for one in several])
    values = np.concatenate([one.values for one in several])
    order = np.lexsort((which, times_ms))
    for first in range(0, len(order), LINES_AT_ONCE):
        some = order[first : first + LINES_AT_ONCE]
        parts = zip(which[some].tolist(), float_texts(values[some]), times_ms[some].tolist(), strict=True)
        yield b"".join(starts[one] + value + b" " + time_text(time_ms) + b"\n" for one, value, time_ms in parts)


def sample_lines(series: Series) -> bytes:
    """One line for each sample of a series."""
    start = series_text(series.labels) + b" "
    times_ms = series.timestamps_ms.tolist()
    return b"".join(
        start + value + b" " + time_text(time_ms) + b"\n"
        for value, time_ms in zip(float_texts(series.values), times_ms, strict=True)
    )


def series_text(labels: Labels) -> bytes:
    """``name{a="1",b="2"}``; a name that needs it stands quoted inside the braces."""
    name = get(labels, METRIC_NAME)
    pairs = [
        f"{key if _LABEL.fullmatch(key) else _quoted(key)}={_quoted(value)}"
        for key, value in labels
        if key != METRIC_NAME
    ]
    if not _NAME.fullmatch(name):
        pairs.insert(0, _quoted(name))
        name = ""
    return f"{name}{{{','.join(pairs)}}}".encode() if pairs else name.encode()


def time_text(time_ms: int) -> bytes:
    """Unix seconds, with three digits after the point where they are not whole."""
    sign = b"-" if time_ms < 0 else b""
    whole, rest = divmod(abs(time_ms), 1000)
    return b"%b%d.%03d" % (sign, whole, rest) if rest else b"%b%d" % (sign, whole)


class LineReader:
    """Reads the sample lines of one file, remembering the series that it has seen."""

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self._known: dict[bytes, Labels] = {}
        self._max_keys = max_keys

    def read(self, line: bytes) -> tuple[Labels, int, float]:
        """Labels, Unix milliseconds and value; ValueError says why a line cannot be taken."""
        parts = line.rsplit(b" ", 2)
        if len(parts) == 3 and (known := self._known.get(parts[0])) is not None:
            try:
                return known, _kept_ms(round(float(parts[2]) * 1000)), _plain(parts[1])
            except (ValueError, OverflowError):
                pass  # an exemplar, perhaps, or what is told below
        labels, value, time_ms = read_sample_line(line)
        if time_ms is None:
            raise ValueError("a sample without a time cannot be imported")
        if len(parts) == 3 and series_text(labels) == parts[0]:
            if len(self._known) >= self._max_keys:
                self._known.clear()
            self._known[parts[0]] = labels
        return labels, _kept_ms(time_ms), value


def _kept_ms(time_ms: int) -> int:
    if abs(time_ms) >= _LATEST_MS:
        raise ValueError("the time is beyond what is kept")
    return time_ms


def _plain(text: bytes) -> float:
    if b"_" in text:
        raise ValueError
    return float(text)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") + '"'
