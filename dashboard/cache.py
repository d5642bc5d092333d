"""Answers kept for everybody: one fetch per key at a time, a time to live, the last good answer while one is late.

It knows nothing of PromQL. All threads of the process share one.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Executor, Future, wait
from dataclasses import dataclass
from threading import Lock
from typing import Any

from dashboard.words import say

MAX_ENTRIES = 2048
REST = 4.0
"""An answer lives at least so many times as long as it took to make: what is dear is not made without pause."""


@dataclass(frozen=True, slots=True)
class Held:
    """What the cache gives: a ``value`` fetched at ``fetched_s``, or why there is none.

    A value beside an ``error`` is the last good one, and stale.
    """

    value: Any = None
    fetched_s: float | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """One thing to fetch: ``key`` names this very answer, ``kin`` those that may stand in for it while it is late."""

    key: Hashable
    kin: Hashable
    load: Callable[[], Any]
    ttl_s: float


class Late(Exception):
    """No answer within the deadline; the fetch goes on and its answer serves the next who asks."""

    def __init__(self, deadline_s: float) -> None:
        super().__init__(say("no answer within {seconds} s", seconds=f"{deadline_s:g}"))
        self.deadline_s = deadline_s


class Cache:
    """Single-flight cache that keeps answers for their ``ttl_s`` and failures for ``failure_ttl_s``.

    ``patience_s`` is how long to wait for a new answer when an older kin can be shown, ``deadline_s`` when none can.
    ``clock`` gives Unix seconds. Fetches run in ``executor``.
    """

    def __init__(
        self,
        executor: Executor,
        clock: Callable[[], float],
        *,
        deadline_s: float = 8.0,
        patience_s: float = 1.5,
        failure_ttl_s: float = 2.0,
    ) -> None:
        self._executor = executor
        self._clock = clock
        self._deadline_s = deadline_s
        self._patience_s = patience_s
        self._failure_ttl_s = failure_ttl_s
        self._lock = Lock()
        self._answers: OrderedDict[Hashable, tuple[Held, float]] = OrderedDict()
        self._latest: OrderedDict[Hashable, Held] = OrderedDict()
        self._flights: dict[Hashable, Future[Held]] = {}

    def get(self, wanted: Mapping[str, Wanted], deadline_s: float | None = None) -> dict[str, Held]:
        """Fetch all that are wanted at once, each at most once across all callers; never raises what a load raised."""
        found: dict[str, Held] = {}
        flights: dict[str, Future[Held]] = {}
        for name, one in wanted.items():
            answer = self._ask(one)
            if isinstance(answer, Held):
                found[name] = answer
            else:
                flights[name] = answer
        self._wait(wanted, flights, self._deadline_s if deadline_s is None else deadline_s)
        for name, flight in flights.items():
            if flight.done():
                found[name] = flight.result()
            else:
                found[name] = self._stand_in(wanted[name].kin, Late(self._deadline_s))
        return found

    def _wait(self, wanted: Mapping[str, Wanted], flights: Mapping[str, Future[Held]], deadline_s: float) -> None:
        patience = min(self._patience_s, deadline_s)
        wait(flights.values(), timeout=patience)
        if deadline_s <= patience:
            return
        with self._lock:
            alone = [flight for name, flight in flights.items() if wanted[name].kin not in self._latest]
        wait(alone, timeout=deadline_s - patience)

    def _ask(self, wanted: Wanted) -> Held | Future[Held]:
        with self._lock:
            kept = self._answers.get(wanted.key)
            if kept is not None and self._clock() < kept[1]:
                return kept[0]
            flight = self._flights.get(wanted.key)
            if flight is None:
                flight = self._flights[wanted.key] = self._executor.submit(self._fetch, wanted)
            return flight

    def _fetch(self, wanted: Wanted) -> Held:
        began_s = self._clock()
        try:
            held = Held(wanted.load(), self._clock())
            expires_s = self._clock() + max(wanted.ttl_s, REST * (self._clock() - began_s))
        except Exception as error:  # whatever a load raises belongs to those who asked, who draw it
            held = self._stand_in(wanted.kin, error)
            expires_s = self._clock() + self._failure_ttl_s
        with self._lock:
            self._flights.pop(wanted.key, None)
            _keep(self._answers, wanted.key, (held, expires_s))
            if held.error is None:
                _keep(self._latest, wanted.kin, held)
        return held

    def _stand_in(self, kin: Hashable, error: Exception) -> Held:
        with self._lock:
            last = self._latest.get(kin)
        return Held(None, None, error) if last is None else Held(last.value, last.fetched_s, error)


def _keep(entries: "OrderedDict[Hashable, Any]", key: Hashable, value: Any) -> None:
    entries[key] = value
    entries.move_to_end(key)
    while len(entries) > MAX_ENTRIES:
        entries.popitem(last=False)
