"""One refresh of a page: what the browser asked for, and the frame of time and vocabulary in which it is answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collector.model.errors import SourceError
from collector.signals import Vocabulary
from dashboard.errors import ViewError
from dashboard.figures.chart import Clock
from dashboard.source import Source
from dashboard.view import View, Window, parse

Stamp = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refresh:
    """``clock`` places charts in the viewer's time; ``vocabulary`` is None where the source has never answered, and
    ``error`` then says why. ``offset_s`` is the viewer's offset from UTC, for times in text. ``misread`` says what of
    the address could not be read."""

    view: View
    window: Window
    clock: Clock
    now_s: float
    newest_s: float | None
    vocabulary: Vocabulary | None
    error: str
    offset_s: int = 0
    misread: str = ""

    def stamp(self, pools: Sequence[str], *, soon: bool = False) -> Stamp:
        """What the browser is told of this refresh: how fresh it is, the pools that there are, and whether to ask again
        ``soon``, since something is still being worked out."""
        stamp = {"now_s": self.now_s, "newest_s": self.newest_s, "pools": list(pools), "error": self.error}
        return stamp | {"soon": soon}


def begin(tick: Mapping[str, Any], source: Source) -> Refresh:
    """Read a tick ({search, offset_s}) and ask the source what it speaks and how fresh it is."""
    misread = ""
    try:
        view = parse(tick.get("search"))
    except ViewError as failure:
        view, misread = View(), str(failure)
    now_s = source.clock()
    window = view.window(now_s)
    clock = Clock(window)
    newest = source.newest()
    error = str(newest.error) if newest.error is not None else ""
    try:
        vocabulary: Vocabulary | None = source.vocabulary()
    except SourceError as failure:
        vocabulary, error = None, str(failure)
    return Refresh(view, window, clock, now_s, newest.value, vocabulary, error, int(tick.get("offset_s", 0)), misread)
