"""Upkeep of a store: cut, compact, retain, tidy; one at a time, in any thread, beside appends and reads."""

from dataclasses import dataclass
from threading import Lock

from collector.store.compacting import Compactor
from collector.store.cutting import Cutter
from collector.store.database import Database
from collector.store.exemplars import ExemplarRing
from collector.store.publishing import Publisher
from collector.store.retaining import Retainer, Retention
from collector.store.state import State

VACUUM_PAGES = 64
"""Pages given back per transaction: an append waits for that many at most."""

_SPARE = 0.02


@dataclass(frozen=True, slots=True)
class Windows:
    """Lengths of windows: of a cut, of a compaction, and the age from which steps are thinned out, if they are."""

    block_ms: int
    compact_ms: int
    downsample_after_ms: int | None


class Upkeep:
    """What has to be done to a store every minute or so. Thread-safe."""

    def __init__(
        self, database: Database, state: State, exemplars: ExemplarRing, windows: Windows, retention: Retention
    ) -> None:
        publisher = Publisher(database, state)
        self._database = database
        self._cutter = Cutter(state, publisher, windows.block_ms)
        self._compactor = Compactor(
            database, state, publisher, windows.block_ms, windows.compact_ms, windows.downsample_after_ms
        )
        self._retainer = Retainer(database, state, publisher, exemplars, retention)
        self._publisher = publisher
        self._lock = Lock()

    def cut(self, now_ms: int) -> int:
        """See ``Store.cut``."""
        with self._lock:
            return self._cutter.cut(now_ms)

    def compact(self, now_ms: int) -> int:
        """See ``Store.compact``."""
        with self._lock:
            replaced = self._compactor.compact(now_ms)
            self._publisher.empty_trash()
            return replaced

    def run(self, now_ms: int) -> None:
        """See ``Store.maintain``."""
        with self._lock:
            self._cutter.cut(now_ms)
            self._retainer.retain(now_ms)
            self._compactor.compact(now_ms)
            self._publisher.empty_trash()
            self._tidy()

    def _tidy(self) -> None:
        """Checkpoint SQLite's log and give unused pages back, but for a few that the next appends need."""
        pages, unused = self._database.pages()
        surplus = unused - int(pages * _SPARE)
        while surplus > 0:
            self._database.vacuum(min(surplus, VACUUM_PAGES))
            surplus -= VACUUM_PAGES
        self._database.checkpoint()
