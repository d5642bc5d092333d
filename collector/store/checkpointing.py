"""The thread that moves SQLite's log into the file while appends go on, so that no append has to."""

from collections.abc import Callable
from threading import Event, Lock, Thread

from collector.model.errors import StoreError

COMMITS = 500
"""Commits after which the log is moved: a few MiB of appends."""


class Checkpointer:
    """Calls ``checkpoint`` in a thread of its own every so many commits."""

    def __init__(self, checkpoint: Callable[[], None]) -> None:
        self._checkpoint = checkpoint
        self._commits = 0
        self._lock = Lock()
        self._due = Event()
        self._ended = False
        self._thread = Thread(target=self._run, name="store checkpoints", daemon=True)
        self._thread.start()

    def count(self, commits: int) -> None:
        """Note that so much was committed."""
        with self._lock:
            self._commits += commits
            due = self._commits >= COMMITS
            if due:
                self._commits = 0
        if due:
            self._due.set()

    def close(self) -> None:
        """End the thread once it is idle."""
        self._ended = True
        self._due.set()
        self._thread.join()

    def _run(self) -> None:
        while self._due.wait() and not self._ended:
            self._due.clear()
            try:
                self._checkpoint()
            except StoreError:  # the next commit or ``maintain`` meets the same trouble and tells of it
                continue
