"""The measurements that pages show: asks a Prometheus-compatible server through one cache for all viewers.

Queries never carry the viewer's pools, so that everybody who looks at one range shares its answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING, Any

import numpy as np

from collector.client import Client, Target
from collector.model.errors import SourceError
from collector.model.labels import Labels
from collector.model.series import Sample, Series
from collector.signals import Vocabulary, detect
from dashboard.cache import Cache, Held, Wanted
from dashboard.scope import Scope, engines_of, read_scope
from dashboard.view import Window
from dashboard.words import said_error
from dashboard.workers import Workers
from planner.slo import Slo

if TYPE_CHECKING:
    from planner.room.headroom import PoolHeadroom

WORKERS = 8
LIVE_TTL_S = 4.0
FIXED_TTL_S = 300.0
VOCABULARY_TTL_S = 30.0
TARGETS_TTL_S = 4.0
ALERTS_TTL_S = 4.0
ALERTS_PATH = "/api/v1/alerts"
SCOPE_TTL_S = 10.0
HEADROOM_TTL_S = 30.0
HEADROOM_PATIENCE_S = 0.2
"""A page does not wait for the twin; its browser asks again soon."""


class Warnings(dict[str, str]):
    """The last warning beside an answer, by expression or path; only those of the paths that are asked about are kept,
    so that it stays small."""

    def __setitem__(self, asked: str, warning: str) -> None:
        if asked == ALERTS_PATH:
            super().__setitem__(asked, warning)


Headroom = Callable[[Slo, float], "tuple[PoolHeadroom, ...]"]


@dataclass(frozen=True, slots=True)
class Question:
    """A PromQL ``text``, or why it cannot be asked (``absent``), for want of which ``signal``."""

    text: str = ""
    absent: str = ""
    signal: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One series on the grid of a window: ``values`` has one entry per step, None where there is no sample."""

    labels: Labels
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a question.

    ``lines`` on the window's grid; ``error`` says what failed; ``fetched_s`` beside an error is the age of stale
    lines. ``absent`` says why the question could not be asked, for want of which ``signal``.
    """

    text: str = ""
    lines: tuple[Line, ...] = ()
    fetched_s: float | None = None
    error: str = ""
    absent: str = ""
    signal: str = ""

    @property
    def stale(self) -> bool:
        """Whether the lines are those of an earlier refresh."""
        return bool(self.error) and self.fetched_s is not None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a query answered, on the grid of the ``window`` that it was asked for."""

    series: tuple[Series, ...]
    window: Window
    lines: tuple[Line, ...]

    def on(self, window: Window) -> tuple[Line, ...]:
        """Its lines on the grid of ``window``, which is another where an older answer stands in for a late one."""
        return self.lines if window == self.window else lines_on(window, self.series)


class Source:
    """One server, its cache and the threads that fetch.

    ``warnings`` holds what the client was warned of beside its last answers, by expression or path.
    ``headroom(slo, at_s)`` works out the load lines; by default the planner does, in one of the threads.
    """

    def __init__(
        self,
        client: Client,
        headroom: Headroom | None = None,
        *,
        clock: Callable[[], float] = time,
        deadline_s: float = 8.0,
        warnings: Warnings | None = None,
    ) -> None:
        self.client = client
        self.clock = clock
        self._headroom = headroom or self._compute_headroom
        self._executor = Workers(WORKERS)
        self._warnings = Warnings() if warnings is None else warnings
        self._cache = Cache(self._executor, clock, deadline_s=deadline_s)

    @property
    def address(self) -> str:
        """Where the measurements come from."""
        return self.client.base_url

    def vocabulary(self) -> Vocabulary:
        """The signals that the server holds now. Raises SourceError where it has never answered."""
        held = self._one(
            Wanted("vocabulary", "vocabulary", lambda: detect(self.client.metric_names()), VOCABULARY_TTL_S)
        )
        if held.value is None:
            raise as_source_error(held.error)
        vocabulary: Vocabulary = held.value
        return vocabulary

    def names(self) -> tuple[str, ...]:
        """Every metric name that the server holds; empty where it does not say."""
        held = self._one(Wanted("names", "names", self.client.metric_names, VOCABULARY_TTL_S))
        names: tuple[str, ...] = held.value or ()
        return names

    def vocabulary_of(self, engines: Sequence[str]) -> Vocabulary:
        """The vocabulary with no engines but these; exporters and the scraper's signals stay. Raises SourceError."""
        whole = self.vocabulary()
        if not engines:
            return whole
        kept = [one for one in whole.dialects if one.engine in engines or one.engine not in engines_of(whole)]
        return detect(self.names(), kept)

    def since(self) -> float | None:
        """When the oldest scrape of the last hour was taken, Unix seconds, at most 15 s too early; None where the
        server does not say."""
        text = "min(min_over_time(timestamp(up)[1h:15s])) - 15"
        held = self._one(Wanted("since", "since", lambda: _first(self.client.query(text)), VOCABULARY_TTL_S))
        value: float | None = held.value
        return value

    def scope(self, vocabulary: Vocabulary, window: Window) -> "Scope":
        """What the filters can choose among, as of the end of ``window``; empty where the server does not say."""
        at_s = None if window.live else window.end_s
        key = f"scope {at_s} {','.join(engines_of(vocabulary))}"
        held = self.kept(key, lambda: read_scope(self.client, vocabulary, at_s), SCOPE_TTL_S)
        return held.value or Scope((), (), engines_of(vocabulary), ())

    def ranges(self, questions: Mapping[str, Question], window: Window) -> dict[str, Answer]:
        """Ask all range questions at once; never raises."""
        ttl_s = LIVE_TTL_S if window.live else FIXED_TTL_S
        wanted = {name: self._range(one.text, window, ttl_s) for name, one in questions.items() if not one.absent}
        held = self._cache.get(wanted)
        return {name: _answer(one, held.get(name), window) for name, one in questions.items()}

    def instants(self, questions: Mapping[str, Question], at_s: int) -> dict[str, Answer]:
        """Ask all instant questions at one moment; each line has one value; never raises."""
        moment = Window(at_s, at_s, 1)
        wanted = {
            name: Wanted(
                ("instant", one.text, at_s),
                ("instant", one.text),
                lambda text=one.text: _fetched(_as_series(self.client.query(text, at_s)), moment),  # type: ignore[misc]
                LIVE_TTL_S,
            )
            for name, one in questions.items()
            if not one.absent
        }
        held = self._cache.get(wanted)
        return {name: _answer(one, held.get(name), moment) for name, one in questions.items()}

    def newest(self) -> Held:
        """When the newest scrape that the server knows was taken, Unix seconds or None; an error beside it means that
        the server does not answer now."""
        return self._one(Wanted("newest", "newest", lambda: _first(self.client.query("max(timestamp(up))")), 1.0))

    def targets(self) -> tuple[Target, ...]:
        """What the server scrapes; empty where it does not say."""
        held = self._one(Wanted("targets", "targets", self.client.targets, TARGETS_TTL_S))
        targets: tuple[Target, ...] = held.value or ()
        return targets

    def alerts(self) -> Held:
        """Active alerts as the server lists them, or why there is no list."""
        return self._one(Wanted("alerts", "alerts", self._read_alerts, ALERTS_TTL_S))

    def _read_alerts(self) -> list[dict[str, Any]]:
        """A collector whose alerts process is away answers an empty list and a warning: that is no all-clear."""
        self._warnings.pop(ALERTS_PATH, None)
        found = self.client.alerts()
        if not found and (warning := self._warnings.get(ALERTS_PATH)):
            raise SourceError(warning, "no_alerts")
        return found

    def headroom(self, slo: Slo, window: Window) -> Held:
        """Load lines of every pool now, or at the end of a fixed window; Late while they are being worked out."""
        at_s, name = (self.clock(), "headroom") if window.live else (float(window.end_s), f"headroom {window.end_s}")
        return self.kept(name, lambda: self._headroom(slo, at_s), HEADROOM_TTL_S, HEADROOM_PATIENCE_S)

    def _compute_headroom(self, slo: Slo, at_s: float) -> "tuple[PoolHeadroom, ...]":
        from planner.room.headroom import live_headroom

        return live_headroom(self.client, self.vocabulary(), slo, at_s)

    def kept(
        self, name: str, load: Callable[[], Any], ttl_s: float, deadline_s: float | None = None, *, kin: str = ""
    ) -> Held:
        """Any other answer through the same cache, such as the planner's; ``kin`` as the cache has it."""
        return self._one(Wanted(name, kin or name, load, ttl_s), deadline_s)

    def kept_all(self, loads: Mapping[str, Callable[[], Any]], ttl_s: float) -> dict[str, Held]:
        """Several such answers at once, by name."""
        return self._cache.get({name: Wanted(name, name, load, ttl_s) for name, load in loads.items()})

    def close(self) -> None:
        """Stop fetching and close the connections."""
        self._executor.shutdown()
        self.client.close()

    def _one(self, wanted: Wanted, deadline_s: float | None = None) -> Held:
        return self._cache.get({"": wanted}, deadline_s)[""]

    def _range(self, text: str, window: Window, ttl_s: float) -> Wanted:
        return Wanted(
            ("range", text, window.start_s, window.end_s, window.step_s),
            ("range", text, window.span_s, window.step_s, None if window.live else window.end_s),
            lambda: _fetched(self.client.query_range(text, window.start_s, window.end_s, window.step_s), window),
            ttl_s,
        )


def as_source_error(error: Exception | None) -> SourceError:
    """Whatever kept an answer away, as the error that says so."""
    return error if isinstance(error, SourceError) else SourceError(str(error) or repr(error), "timeout")


def on_grid(series: Series, window: Window) -> list[float | None]:
    """Values of ``series`` at each step of ``window``; None for steps without a sample and for NaN and infinity."""
    grid = np.full(window.points, np.nan)
    steps = np.rint((series.timestamps_ms / 1000 - window.start_s) / window.step_s).astype(np.int64)
    usable = np.isfinite(series.values) & (steps >= 0) & (steps < window.points)
    grid[steps[usable]] = series.values[usable]
    values: list[float | None] = grid.tolist()
    for step in np.flatnonzero(np.isnan(grid)).tolist():
        values[step] = None
    return values


def lines_on(window: Window, several: Sequence[Series]) -> tuple[Line, ...]:
    """Every series on the grid of ``window``."""
    return tuple(Line(one.labels, on_grid(one, window)) for one in several)


def _fetched(several: tuple[Series, ...], window: Window) -> Fetched:
    return Fetched(several, window, lines_on(window, several))


def _answer(question: Question, held: Held | None, window: Window) -> Answer:
    if held is None:
        return Answer(question.text, absent=question.absent, signal=question.signal)
    lines = held.value.on(window) if held.value is not None else ()
    return Answer(question.text, lines, held.fetched_s, said_error(held.error) if held.error else "")


def _first(samples: tuple[Sample, ...]) -> float | None:
    return samples[0].value if samples else None


def _as_series(samples: tuple[Sample, ...]) -> tuple[Series, ...]:
    return tuple(
        Series(one.labels, np.array([one.timestamp_ms], dtype=np.int64), np.array([one.value])) for one in samples
    )
