"""Read metrics pages: Prometheus text format 0.0.4 and OpenMetrics 1.0, quoted UTF-8 names included.

Responsible for turning the bytes of one scrape into a column of values under a layout of label sets. A page differs
from the last one in little but its numbers, so the bytes before the value are kept as the key to the series and
labels are parsed only when a key is new. A line that cannot be read becomes an error with its number; the rest goes on.

Sources: Prometheus ``model/textparse``; OpenMetrics 1.0, section 5.2.
"""

import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from collector.model.errors import ExpositionError
from collector.model.label_text import BRACES, ESCAPE, QUOTED, parse_labels, read_pairs, to_text, unescaped, unquote
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import Float64Array

ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"
)
"""What a scraper asks for."""

MAX_ERRORS = 100
"""Errors kept of one page; further bad lines are only counted."""

MAX_SHOWN = 200
"""Characters of a bad line, and of what is said of it."""

DROPPED = -1
"""Stands for a series that is not kept."""

_LATEST = 2.0**53
_SERIES = re.compile(rb"[ \t]*([a-zA-Z_:][a-zA-Z0-9_:]*+)?(?:[ \t]*" + BRACES + rb")?", re.DOTALL)
_COMMENT = re.compile(rb"#[ \t]+(HELP|TYPE|UNIT)[ \t]+(" + QUOTED + rb"|[^ \t]++)(?:[ \t](.*))?", re.DOTALL)
_EXEMPLAR = re.compile(BRACES + rb"[ \t]+([^ \t]++)(?:[ \t]+([^ \t]++))?", re.DOTALL)
_HELP_ESCAPE = re.compile(r"\\([\\n])")
_TYPES = frozenset(
    ("counter", "gauge", "histogram", "summary", "info", "stateset", "gaugehistogram", "unknown", "untyped")
)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a page says about one metric family; ``type`` is as in Prometheus's API, ``unknown`` where untyped."""

    name: str
    type: str = "unknown"
    help: str = ""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class PageExemplar:
    """What a page tells of one observation behind a sample; ``time_ms`` is None where it does not say when."""

    labels: Labels
    value: float
    time_ms: int | None


@dataclass(frozen=True, slots=True)
class Scrape:
    """One page read.

    ``layout``         (series,) label sets, no two alike; the same object as last time while the series are the same
    ``values``         (series,) float64
    ``metadata``       families whose metadata are new or changed
    ``errors``         the first bad lines; ``bad_lines`` counts all
    ``dropped``        samples whose series ``finish`` dropped
    ``timestamps_ms``  by place in the layout, for the samples to which the page gives a time of their own
    ``exemplars``      by place in the layout, for the samples that have one
    """

    layout: tuple[Labels, ...]
    values: Float64Array
    metadata: tuple[Metadata, ...] = ()
    errors: tuple[ExpositionError, ...] = ()
    bad_lines: int = 0
    dropped: int = 0
    timestamps_ms: dict[int, int] = field(default_factory=dict)
    exemplars: dict[int, PageExemplar] = field(default_factory=dict)


def _without_empty(labels: Labels) -> Labels | None:
    return from_mapping(dict(labels))


class ScrapeParser:
    """Reads the pages of one target, remembering its layout from one to the next.

    ``finish`` is applied once to each new label set, such as to attach the target's labels; None drops the series.
    It is given labels with empty values as well, as the page has them, and answers without such.
    """

    def __init__(self, finish: Callable[[Labels], Labels | None] = _without_empty) -> None:
        self._finish = finish
        self._drops = False
        self._ids: dict[bytes, int] = {}
        self._labels: list[Labels] = []
        self._comments: set[bytes] = set()
        self._metadata: dict[str, Metadata] = {}
        self._last_ids: list[int] = []
        self._layout: tuple[Labels, ...] = ()
        self._first_seen: np.ndarray[tuple[int], np.dtype[np.intp]] | None = None
        self._twins: dict[int, Labels] = {}
        self._exemplars: dict[bytes, PageExemplar] = {}  # of the last page, by what stood after the brace

    def parse(self, body: bytes, content_type: str = "text/plain") -> Scrape:
        """Read one page; ``content_type`` decides between OpenMetrics and the text format."""
        page = _Page(openmetrics=content_type.split(";", maxsplit=1)[0].strip() == "application/openmetrics-text")
        ids: list[int] = []
        texts: list[bytes] = []
        numbers: list[int] = []
        find, comments = self._ids.get, self._comments
        for number, line in enumerate(body.split(b"\n"), 1):
            key, _, text = line.rpartition(b" ")
            series = find(key)
            if series is None:
                if line in comments:
                    continue
                key, _, value = key.rpartition(b" ")
                series = find(key)
                if series is not None and text.isdigit() and len(text) < 16:
                    page.stamps[number] = text
                    text = value
                elif (read := self._read_line(line, number, page)) is None:
                    continue
                else:
                    series, text = read
            ids.append(series)
            texts.append(text)
            numbers.append(number)
        self._exemplars = page.raw_exemplars
        _check_end(ids, texts, numbers, page)
        dropped = _leave_out(ids, texts, numbers) if self._drops else 0
        if dropped and len(self._ids) > 4 * (len(ids) + dropped) + 1000:
            self._ids = {raw: series for raw, series in self._ids.items() if series != DROPPED}
        values = _floats(ids, texts, numbers, page)
        if ids != self._last_ids:
            self._lay_out(ids)
        if self._first_seen is not None:
            self._report_twins(ids, numbers, page)
            values = values[self._first_seen]
            numbers = [numbers[place] for place in self._first_seen.tolist()]
        return Scrape(
            self._layout,
            values,
            self._changed(page),
            tuple(sorted(page.errors, key=lambda error: error.line)),  # a value is looked at after the lines
            page.bad_lines,
            dropped,
            _times_ms(numbers, page) if page.stamps else {},
            {place: page.exemplars[number] for place, number in enumerate(numbers) if number in page.exemplars}
            if page.exemplars
            else {},
        )

    def _read_line(self, line: bytes, number: int, page: "_Page") -> tuple[int, bytes] | None:
        stripped = line.strip(b" \t\r")
        if not stripped:
            return None
        if stripped[:1] == b"#":
            self._read_comment(stripped, number, page)
            return None
        try:
            return self._read_known(line, number, page) or self._read_sample(line, number, page)
        except ValueError as error:
            page.refuse(number, line, str(error))
            return None

    def _read_known(self, line: bytes, number: int, page: "_Page") -> tuple[int, bytes] | None:
        """A line with an exemplar, where the series is known: its labels need no second look."""
        head, mark, raw = line.rpartition(b" # {")
        key, _, text = head.rpartition(b" ")
        series = self._ids.get(key) if mark and page.openmetrics else None
        if series is None:
            return None
        exemplar = self._exemplars.get(raw) or _read_exemplar(b"{" + raw)
        page.exemplars[number] = page.raw_exemplars[raw] = exemplar
        return series, text

    def _read_sample(self, line: bytes, number: int, page: "_Page") -> tuple[int, bytes]:
        match = _SERIES.match(line)
        if match is None or match.end() == 0:
            raise ValueError("expected a metric name or {")
        rest = line[match.end() :]
        if match[2] is None and rest[:1] not in (b" ", b"\t"):
            raise ValueError("expected a metric name, perhaps {labels}, then a space and a value")
        text, stamp, exemplar = _value_text(rest, page.openmetrics)
        if stamp is not None:
            page.stamps[number] = stamp
        if exemplar is not None:
            page.exemplars[number] = exemplar
        raw = match[0]
        series = self._ids.get(raw)
        if series is None:
            labels = self._finish(parse_labels(match[1], match[2]))
            if labels is None:
                series, self._drops = DROPPED, True
            else:
                series = len(self._labels)
                self._labels.append(labels)
            self._ids[raw] = series
        if rest.lstrip(b" \t") == text and rest.endswith(b" " + text):
            self._ids[line[: -len(text) - 1]] = series
        return series, text

    def _read_comment(self, line: bytes, number: int, page: "_Page") -> None:
        if line == b"# EOF" and page.openmetrics:
            page.end = number
            return
        match = _COMMENT.fullmatch(line)
        if match is None:
            return
        try:
            name = to_text(match[2]) if match[2][:1] != b'"' else unquote(match[2])
            self._describe(match[1], name, to_text(match[3] or b""), page)
            self._comments.add(line)
        except ValueError as error:
            page.refuse(number, line, str(error))

    def _describe(self, keyword: bytes, name: str, text: str, page: "_Page") -> None:
        known = self._metadata.get(name, Metadata(name))
        if keyword == b"TYPE":
            kind = text.strip()
            if kind not in _TYPES:
                raise ValueError(f"type {kind!r}: known types are {', '.join(sorted(_TYPES))}")
            changed = Metadata(name, "unknown" if kind == "untyped" else kind, known.help, known.unit)
        elif keyword == b"HELP":
            escapes = ESCAPE if page.openmetrics else _HELP_ESCAPE
            changed = Metadata(name, known.type, escapes.sub(unescaped, text), known.unit)
        else:
            changed = Metadata(name, known.type, known.help, text.strip())
        if changed != known or name not in self._metadata:
            self._metadata[name] = changed
            page.described.add(name)

    def _lay_out(self, ids: list[int]) -> None:
        """A new layout: label sets in the page's order, the first of each where several keys give the same."""
        first: dict[Labels, int] = {}
        self._twins = {}
        for position, series in enumerate(ids):
            labels = self._labels[series]
            if first.setdefault(labels, position) != position:
                self._twins[position] = labels
        if len(self._labels) > 2 * len(ids) + 1000:
            ids = self._forget_absent(ids)
        self._layout = tuple(first)
        self._first_seen = np.fromiter(first.values(), np.intp, len(first)) if self._twins else None
        self._last_ids = ids

    def _forget_absent(self, ids: list[int]) -> list[int]:
        renumbered = {old: new for new, old in enumerate(dict.fromkeys(ids))}
        self._labels = [self._labels[old] for old in renumbered]
        self._drops = False
        self._ids = {raw: renumbered[old] for raw, old in self._ids.items() if old in renumbered}
        return [renumbered[old] for old in ids]

    def _report_twins(self, ids: list[int], numbers: list[int], page: "_Page") -> None:
        for position, labels in self._twins.items():
            if position < len(ids):
                page.refuse(numbers[position], dict(labels).get(METRIC_NAME, "").encode(), "series given twice")

    def _changed(self, page: "_Page") -> tuple[Metadata, ...]:
        if len(self._comments) > 3 * len(self._metadata) + 1000:
            self._comments.clear()
        return tuple(self._metadata[name] for name in sorted(page.described))


def parse_text(body: bytes, content_type: str = "text/plain") -> list[tuple[Labels, float]]:
    """Every series of one page with its value; raises ExpositionError at the first bad line."""
    scrape = ScrapeParser().parse(body, content_type)
    if scrape.errors:
        raise scrape.errors[0]
    return list(zip(scrape.layout, scrape.values.tolist(), strict=True))


def read_sample_line(line: bytes) -> tuple[Labels, float, int | None]:
    """Labels, value and Unix milliseconds (None where it has none) of one OpenMetrics line; ValueError otherwise."""
    match = _SERIES.match(line)
    if match is None or match.end() == 0:
        raise ValueError("expected a metric name or {")
    text, stamp, _ = _value_text(line[match.end() :], openmetrics=True)
    labels = from_mapping(dict(parse_labels(match[1], match[2])))
    return labels, _number(text), None if stamp is None else round(_number(stamp) * 1000)


class _Page:
    """What is found out while one page is read."""

    def __init__(self, openmetrics: bool) -> None:
        self.openmetrics = openmetrics
        self.end: int | None = None
        self.errors: list[ExpositionError] = []
        self.bad_lines = 0
        self.described: set[str] = set()
        self.stamps: dict[int, bytes] = {}  # by line number
        self.exemplars: dict[int, PageExemplar] = {}  # by line number
        self.raw_exemplars: dict[bytes, PageExemplar] = {}

    def refuse(self, number: int, line: bytes, reason: str) -> None:
        self.bad_lines += 1
        if len(self.errors) < MAX_ERRORS:
            text = line[:MAX_SHOWN].decode(errors="replace")
            self.errors.append(ExpositionError(number, text, reason[:MAX_SHOWN]))


def _check_end(ids: list[int], texts: list[bytes], numbers: list[int], page: _Page) -> None:
    if not page.openmetrics:
        return
    if page.end is None:
        page.refuse(numbers[-1] if numbers else 1, b"", "an OpenMetrics page ends with # EOF: this one was cut short")
        return
    kept = bisect_left(numbers, page.end)
    for number in numbers[kept:]:
        page.refuse(number, b"", "nothing may follow # EOF")
    del ids[kept:], texts[kept:], numbers[kept:]


def _leave_out(ids: list[int], texts: list[bytes], numbers: list[int]) -> int:
    """Take samples of dropped series out of the three lists; how many there were."""
    kept = [place for place, series in enumerate(ids) if series != DROPPED]
    dropped = len(ids) - len(kept)
    if dropped:
        ids[:] = [ids[place] for place in kept]
        texts[:] = [texts[place] for place in kept]
        numbers[:] = [numbers[place] for place in kept]
    return dropped


def _times_ms(numbers: list[int], page: "_Page") -> dict[int, int]:
    """Milliseconds by place, of the samples that bear a time: milliseconds in text, seconds in OpenMetrics."""
    scale = 1000 if page.openmetrics else 1
    stamps = page.stamps
    return {place: round(float(stamps[number]) * scale) for place, number in enumerate(numbers) if number in stamps}


def _floats(ids: list[int], texts: list[bytes], numbers: list[int], page: _Page) -> Float64Array:
    """Values of all lines; a line whose value is no number is refused and taken out of the three lists."""
    try:
        if b"_" not in b" ".join(texts):
            return np.fromiter(map(float, texts), np.float64, len(texts))
    except ValueError:
        pass
    values: list[float] = []
    for position in range(len(texts)):
        text = texts[position]
        try:
            value = _number(text)
        except ValueError as error:
            page.refuse(numbers[position], text, str(error))
            continue
        kept = len(values)
        ids[kept], numbers[kept] = ids[position], numbers[position]
        values.append(value)
    del ids[len(values) :], numbers[len(values) :]
    return np.array(values, dtype=np.float64)


def _number(text: bytes) -> float:
    try:
        if b"_" not in text:
            return float(text)
    except ValueError:
        pass
    raise ValueError(f"value {text.decode(errors='replace')!r} is not a number")


def _value_text(rest: bytes, openmetrics: bool) -> tuple[bytes, bytes | None, PageExemplar | None]:
    """What follows a series: the text of its value, perhaps that of a timestamp, perhaps an exemplar."""
    fields, mark, exemplar = rest.partition(b"#")
    words = fields.split()
    if not words:
        raise ValueError("expected a value after the series")
    if len(words) > 2:
        raise ValueError("expected a value and at most a timestamp")
    if len(words) == 2 and not abs(_number(words[1])) < _LATEST:
        raise ValueError(f"timestamp {words[1].decode(errors='replace')!r} is beyond what is kept")
    if mark and not openmetrics:
        raise ValueError("only OpenMetrics pages may carry exemplars")
    return words[0], words[1] if len(words) == 2 else None, _read_exemplar(exemplar) if mark else None


def _read_exemplar(raw: bytes) -> PageExemplar:
    match = _EXEMPLAR.fullmatch(raw.strip(b" \t\r"))
    if match is None:
        raise ValueError('an exemplar looks like # {trace_id="..."} 0.5')
    stamp = None if match[3] is None else _number(match[3])
    if stamp is not None and not abs(stamp) < _LATEST:
        raise ValueError(f"timestamp {match[3].decode(errors='replace')!r} of an exemplar is beyond what is kept")
    labels = from_mapping(read_pairs(match[1], {}))
    return PageExemplar(labels, _number(match[2]), None if stamp is None else round(stamp * 1000))
