"""One refresh of a page: what the browser asked for, and the frame of time and vocabulary in which it is answered."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collector.model.errors import SourceError
from collector.signals import Vocabulary
from dashboard.errors import ViewError
from dashboard.figures.chart import Clock
from dashboard.scope import Scope
from dashboard.source import Source
from dashboard.view import View, Window, fitting, parse
from dashboard.words import said_error

Stamp = dict[str, Any]
NOWHERE = Scope((), (), (), ())


@dataclass(frozen=True, slots=True)
class Refresh:
    """``clock`` places charts in the viewer's time; ``vocabulary`` is None where the source has never answered, and
    ``error`` then says why. ``scope`` is what filters can choose among. ``offset_s`` is the viewer's offset from UTC,
    for times in text. ``misread`` says what of the address could not be read. ``firing`` counts alerts that fire."""

    view: View
    window: Window
    clock: Clock
    now_s: float
    newest_s: float | None
    vocabulary: Vocabulary | None
    error: str
    offset_s: int = 0
    misread: str = ""
    scope: Scope = NOWHERE
    firing: int = 0

    def stamp(self, pools: Iterable[str] = (), *, soon: bool = False) -> Stamp:
        """What the browser is told of this refresh: how fresh it is, the ``range`` shown where the address names none,
        what filters there are (``pools`` beside those of the scope), and whether to ask again ``soon``, since something
        is still being worked out."""
        return {
            "now_s": self.now_s, "newest_s": self.newest_s, "error": self.error, "soon": soon,
            "range": "" if self.view.chosen else self.view.range_text, "pools": sorted({*self.scope.pools, *pools}),
            "engines": self.scope.engines, "replicas": self.scope.replicas, "tenants": self.scope.tenants,
            "firing": self.firing,
        }  # fmt: skip


def begin(tick: Mapping[str, Any], source: Source) -> Refresh:
    """Read a tick ({search, offset_s}) and ask the source what it speaks and how fresh it is."""
    misread = ""
    try:
        view = parse(tick.get("search"))
    except ViewError as failure:
        view, misread = View(), said_error(failure)
    now_s = source.clock()
    newest = source.newest()
    error = said_error(newest.error) if newest.error is not None else ""
    vocabulary: Vocabulary | None = None
    try:
        vocabulary = source.vocabulary_of(view.engines)
    except SourceError as failure:
        error = said_error(failure)
    since_s = source.since() if vocabulary is not None else None
    view = fitting(view, since_s, now_s)
    window = view.window(now_s)
    scope = source.scope(source.vocabulary(), window) if vocabulary is not None else NOWHERE
    clock = Clock(window, since_s)
    firing = sum(alert.get("state") == "firing" for alert in source.alerts().value or ())
    return Refresh(
        view, window, clock, now_s, newest.value, vocabulary, error, int(tick.get("offset_s", 0)), misread, scope,
        firing,
    )  # fmt: skip
