"""Work out headroom over and over and write it back; a source that fails is told of once and asked again."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from collector.model.errors import SourceError
from collector.model.labels import Labels
from collector.model.series import STALE_NAN, Series
from planner.answers.headroom import headroom_series
from planner.room.headroom import PoolHeadroom

_FIGURES = re.compile(r"\d+")


class Watch:
    """Repeated headroom; ``ask(now_s)`` works it out, ``write(series)`` stores it, ``note(line)`` tells a person.

    A series that has no value any more is ended with Prometheus's stale marker, so that an alert on it does not live on
    for five minutes.
    """

    def __init__(
        self,
        ask: Callable[[float], Sequence[PoolHeadroom]],
        write: Callable[[Sequence[Series]], None],
        note: Callable[[str], None],
    ) -> None:
        self._ask, self._write, self._note = ask, write, note
        self._written: frozenset[Labels] = frozenset()
        self._told: dict[str, str | None] = {}

    def once(self, now_s: float) -> bool:
        """One round; whether it was written."""
        try:
            pools = self._ask(now_s)
            series = list(headroom_series(pools, now_s))
            now = frozenset(one.labels for one in series)
            self._write([*series, *_ended(sorted(self._written - now), now_s)])
        except SourceError as error:
            self._tell("", str(error))
            return False
        self._written = now
        self._tell("", None)
        for pool in pools:
            self._tell(pool.pool, pool.reason)
        return True

    def _tell(self, subject: str, trouble: str | None) -> None:
        """A line when something changes: the first trouble, another one (not by its figures), and its end."""
        kind = None if trouble is None else _FIGURES.sub("", trouble)
        if self._told.get(subject) == kind:
            return
        self._told[subject] = kind
        name = f"{subject}: " if subject else ""
        self._note(f"{name}{trouble}" if trouble is not None else f"{name or 'the source '}answers again")


def run(watch: Watch, clock: Callable[[], float], sleep: Callable[[float], None], interval_s: float) -> None:
    """Rounds at whole multiples of ``interval_s``, until something is raised; a round that is late is not made up."""
    while True:
        watch.once(clock())
        now_s = clock()
        sleep((now_s // interval_s + 1) * interval_s - now_s)


def _ended(labels: Sequence[Labels], time_s: float) -> list[Series]:
    at_ms = np.array([round(time_s * 1000)], dtype=np.int64)
    return [Series(one, at_ms, np.array([STALE_NAN])) for one in labels]
