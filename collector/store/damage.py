"""What was found damaged, at open or while reading: counted, and the first lines about it kept."""

from threading import Lock

from collector.store.stats import Recovery

MAX_PROBLEMS = 100


class Damage:
    """Counts what was found damaged and keeps the first lines about it. Thread-safe."""

    def __init__(self) -> None:
        self.wal_rows = 0
        self.torn_frames = 0
        self._problems: dict[str, None] = {}
        self._count = 0
        self._lock = Lock()

    def add(self, problem: str) -> None:
        """Note a damaged row or tile; the same one is counted once."""
        with self._lock:
            if problem in self._problems:
                return
            self._count += 1
            if len(self._problems) < MAX_PROBLEMS:
                self._problems[problem] = None

    @property
    def count(self) -> int:
        """How many different problems were noted."""
        return self._count

    def report(self) -> Recovery:
        """What was found so far."""
        with self._lock:
            return Recovery(self.wal_rows, self.torn_frames, self._count, tuple(self._problems))
