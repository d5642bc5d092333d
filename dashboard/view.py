"""What a page shows: the time range and the filters, read from its address, which is the only truth.

``?range=6h`` or ``?from=1795206600&to=1795210200`` (Unix seconds), and ``pool``, ``engine``, ``replica``, ``tenant``
any number of times. What is left belongs to the page at hand, such as ``trace`` or ``expr``.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, parse_qsl, urlencode

from dashboard.errors import ViewError
from dashboard.words import say

RANGES = ("15m", "1h", "6h", "24h", "7d")
DEFAULT_RANGE = "1h"
YOUNG_RANGES = ("5m", "15m", DEFAULT_RANGE)
"""What a source is shown in that was not measured for longer yet."""

FILTERS = ("pool", "engine", "replica", "tenant")

MAX_POINTS = 240
LIVE_TICK_S = 15
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_SHORTEST_S = 60
_LONGEST_S = 366 * 86_400
_MIN_RATE_WINDOW_S = 60


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time on a grid of steps, Unix seconds; both ends are points, so (end - start) / step + 1 of them.

    ``live`` is whether the end moves on with the clock.
    """

    start_s: int
    end_s: int
    step_s: int
    live: bool = True

    @property
    def span_s(self) -> int:
        """Length in seconds."""
        return self.end_s - self.start_s

    @property
    def points(self) -> int:
        """How many steps a series has."""
        return self.span_s // self.step_s + 1

    @property
    def rate_window(self) -> str:
        """Range of a PromQL rate: at least a minute, and never less than a step, so that no sample falls between."""
        return promql_duration(max(_MIN_RATE_WINDOW_S, self.step_s))

    def times_s(self) -> range:
        """The grid."""
        return range(self.start_s, self.end_s + 1, self.step_s)


@dataclass(frozen=True, slots=True)
class View:
    """A range (``range_text`` and its length) or a fixed ``from_s`` to ``to_s``; an empty filter means all.

    ``chosen`` is whether the address names a range, or the default stands. ``trace`` is the request that is opened, if
    any; ``language`` is the one that the address names; ``own`` holds the parameters that only the page at hand reads.
    """

    range_text: str = DEFAULT_RANGE
    range_s: int = 3600
    from_s: int | None = None
    to_s: int | None = None
    pools: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()
    replicas: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    trace: str = ""
    language: str = ""
    own: Mapping[str, str] = field(default_factory=dict)
    chosen: bool = field(default=False, compare=False)

    @property
    def where(self) -> str:
        """The filters as PromQL matchers in canonical label names; engines have no label, they choose dialects."""
        filters = (("pool", self.pools), ("instance", self.replicas), ("tenant", self.tenants))
        return ",".join(matcher(label, values) for label, values in filters if values)

    def window(self, now_s: float) -> Window:
        """The grid of this view: at most 240 steps of a round length.

        A fixed range has both ends on multiples of the step; a live one ends at most 15 s ago, however long its steps,
        since what is judged is now.
        """
        live = self.from_s is None or self.to_s is None
        end = now_s if self.to_s is None else self.to_s
        start = end - self.range_s if self.from_s is None else self.from_s
        step = _step_s(end - start)
        tick = min(step, LIVE_TICK_S) if live else step
        end_s = int(end // tick * tick)
        start_s = end_s - self.range_s // step * step if live else int(start // step * step)
        return Window(start_s, max(end_s, start_s + step), step, live)

    def wants(self, pool: str) -> bool:
        """Whether ``pool`` is shown."""
        return not self.pools or pool in self.pools

    def search(self, **changes: str) -> str:
        """Query string of this view with further parameters, such as ``m``; only what is not the default."""
        pairs: list[tuple[str, str]] = []
        if self.from_s is not None and self.to_s is not None:
            pairs += [("from", str(self.from_s)), ("to", str(self.to_s))]
        elif self.chosen:
            pairs.append(("range", self.range_text))
        values = (self.pools, self.engines, self.replicas, self.tenants)
        for name, chosen in zip(FILTERS, values, strict=True):
            pairs += [(name, value) for value in ((changes.pop(name),) if name in changes else chosen)]
        pairs += [("lang", self.language)] if self.language else []
        pairs += list(changes.items())
        return f"?{urlencode(pairs)}" if pairs else ""


def replaced(search: str, **changes: str) -> str:
    """A query string with parameters replaced."""
    kept = [(name, value) for name, value in parse_qsl(search.lstrip("?")) if name not in changes]
    return "?" + urlencode([*kept, *changes.items()])


def matcher(label: str, values: Sequence[str]) -> str:
    """PromQL matcher for any of ``values``."""
    if len(values) == 1:
        return f'{label}="{_quoted(values[0])}"'
    return f'{label}=~"{_quoted("|".join(map(_literal, values)))}"'


def _literal(text: str) -> str:
    """``text`` as RE2 and Python both read it back: no needless backslashes."""
    return re.sub(r"([.+*?()\[\]{}^$|\\])", r"\\\1", text)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def parse(search: str | None) -> View:
    """Read a query string; parameters that it does not know become the page's own. Raises ViewError."""
    given = parse_qs((search or "").lstrip("?"), keep_blank_values=True)
    pools, engines, replicas, tenants = (_values(given, name) for name in FILTERS)
    rest = {
        name: values[-1]
        for name, values in given.items()
        if name not in (*FILTERS, "range", "from", "to", "trace", "lang")
    }
    view = View(
        pools=pools, engines=engines, replicas=replicas, tenants=tenants, trace=_trace(given),
        language=given.get("lang", [""])[-1], own=rest, chosen=False,
    )  # fmt: skip
    if "from" in given or "to" in given:
        from_s, to_s = _moment(given, "from"), _moment(given, "to")
        if not _SHORTEST_S <= to_s - from_s <= _LONGEST_S:
            told = say(
                "from={start}, to={end}: a range is at least 60 s and at most 366 d long", start=from_s, end=to_s
            )
            raise ViewError(told)
        return replace(view, range_text="", range_s=to_s - from_s, from_s=from_s, to_s=to_s, chosen=True)
    if "range" not in given:
        return view
    text = given["range"][-1]
    return replace(view, range_text=text, range_s=_range_s(text), chosen=True)


def fitting(view: View, since_s: float | None, now_s: float) -> View:
    """``view`` with the shortest range that holds all there is since ``since_s``, where the address names no range."""
    if view.chosen or since_s is None:
        return view
    known_s = now_s - since_s
    text = next((text for text in YOUNG_RANGES if _range_s(text) >= known_s), DEFAULT_RANGE)
    shorter = _range_s(text) < _range_s(DEFAULT_RANGE)
    return replace(view, range_text=text, range_s=_range_s(text)) if shorter else view


def _values(given: Mapping[str, Sequence[str]], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in given.get(name, ()) if value))


def _trace(given: dict[str, list[str]]) -> str:
    text = given.get("trace", [""])[-1]
    if not re.fullmatch(r"(?:[0-9a-f]{32})?", text):
        raise ViewError(say("trace={value}: a trace is named by 32 hexadecimal digits", value=text[:40]))
    return text


def _range_s(text: str) -> int:
    match = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    seconds = int(match[1]) * _UNITS_S[match[2]] if match else 0
    if not _SHORTEST_S <= seconds <= _LONGEST_S:
        raise ViewError(say("range={value}: a range looks like 15m, 1h or 7d, from 1m to 366d", value=text))
    return seconds


def _moment(given: dict[str, list[str]], name: str) -> int:
    text = given.get(name, [""])[-1]
    if not re.fullmatch(r"\d{1,10}", text):
        told = "{given}: from and to come together, in Unix seconds such as 1795210200"
        raise ViewError(say(told, given=f"{name}={text}"))
    return int(text)


def _step_s(span_s: float) -> int:
    for step in _STEPS_S:
        if span_s / step <= MAX_POINTS:
            return step
    return int(-(-span_s // MAX_POINTS // 86_400) * 86_400)


def promql_duration(seconds: int) -> str:
    """Seconds as PromQL writes them, in the largest unit that divides them: ``90s``, ``5m``, ``2h``."""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % size == 0 and seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
