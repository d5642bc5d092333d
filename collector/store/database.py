"""The SQLite file of a data directory: one writer at a time, any number of readers, errors that name the directory.

Knows nothing of what the tables mean. ``synchronous=NORMAL`` (the default) survives the end of the process at any
moment; after a loss of power the last transactions since SQLite's last checkpoint may be missing, while the file stays
whole. ``synchronous="FULL"`` also survives a loss of power, for one fsync per append.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock
from typing import IO, Literal

from collector.model.errors import StoreError
from collector.store.checkpointing import Checkpointer
from collector.store.damage import Damage
from collector.store.errors import DirectoryInUse
from collector.store.recovering import finish, is_corrupt, recover
from collector.store.schema import APPLICATION_ID, DDL, FORMAT_VERSION, PAGE_BYTES

FILE_NAME = "loadline.db"
LOCK_NAME = "loadline.lock"
RECOVER_NAME = "loadline.recover"
CHECKPOINT_PAGES = 65_536
"""Commits checkpoint on their own only past this many pages (256 MiB): otherwise a thread does, beside them."""

CHECKPOINT_ROUNDS = 4

STEP_COMMITS = 32
"""As how many commits of appends one step of upkeep counts, when it comes to checkpoints."""

LOG_BYTES = 16 << 20
"""SQLite's log shrinks back to this once it has been checkpointed."""

PAUSE_S = 0.001
"""After each piece of work that can wait: long enough for a waiting append to go first."""

_WAL_HEADER = 32
_FRAME_HEADER = 24

Synchronous = Literal["NORMAL", "FULL"]


class Database:
    """Connections to one data directory. Every error it raises is a StoreError that names the directory."""

    def __init__(self, directory: Path, *, read_only: bool = False, synchronous: Synchronous = "NORMAL") -> None:
        self.directory = directory
        self.read_only = read_only
        self.file = directory / FILE_NAME
        self._mark = directory / RECOVER_NAME  # is there once SQLite met a page that it cannot read
        self.write_lock = RLock()
        self.torn_frames = 0
        self.damage = Damage()
        self._synchronous = synchronous
        self._idle: list[sqlite3.Connection] = []
        self._pool_lock = Lock()
        self._log_lock = Lock()  # of two that move the log at once SQLite lets one do nothing
        self._closed = False
        self._lock_file = None if read_only else _lock(directory)
        try:
            with self._named():
                if not read_only:
                    finish(self.file)
                before = _frames(self.file)
                self._writer = self._connect()
                self._prepare()
                self.torn_frames = self._torn(before)
                self._checkpointer = None if read_only else Checkpointer(self.checkpoint)
        except BaseException:
            if self._lock_file is not None:
                self._lock_file.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection inside ``BEGIN IMMEDIATE`` … ``COMMIT``, undone on any error."""
        with self.write_lock, self._named():
            if self._closed:
                raise StoreError(f"{self.directory} is closed")
            if self.read_only:
                raise StoreError(f"{self.directory} was opened read-only")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
                if self._checkpointer is not None:
                    self._checkpointer.count(1)
            except BaseException:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def step(self) -> Iterator[sqlite3.Connection]:
        """A transaction of work that can wait: the caller keeps it short, appends that wait go before the next."""
        with self.transaction() as connection:
            yield connection
        if self._checkpointer is not None:
            self._checkpointer.count(STEP_COMMITS)
        self.pause()

    def pause(self) -> None:
        """Let waiting appends go first. Not while holding a lock."""
        time.sleep(PAUSE_S)

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading that no other thread uses meanwhile."""
        with self._pool_lock:
            if self._closed:
                raise StoreError(f"{self.directory} is closed")
            connection = self._idle.pop() if self._idle else None
        with self._named():
            if connection is None:
                connection = self._connect(reading=True)
            try:
                yield connection
            finally:
                with self._pool_lock:
                    keep = not self._closed
                    if keep:
                        self._idle.append(connection)
                if not keep:
                    connection.close()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A reading connection that sees one moment for as long as it is held."""
        with self.reader() as connection:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("COMMIT")

    def recover(self) -> None:
        """Go on with a new file that has the readable rows of this one; what was lost is in ``damage``.

        Nobody may be using the store yet. Raises StoreError where nothing can be read.
        """
        with self.write_lock, self._pool_lock, self._named():
            for connection in (*self._idle, self._writer):
                connection.close()
            self._idle.clear()
            try:
                problems = recover(self.file)
            finally:
                self._writer = self._connect()
            self._prepare()
            self._mark.unlink(missing_ok=True)
        for problem in problems:
            self.damage.add(problem)

    def is_marked(self) -> bool:
        """Whether SQLite met a page that it cannot read, now or when the directory was open before."""
        return self._mark.exists()

    def data_version(self) -> int:
        """Changes whenever another connection has committed."""
        with self.write_lock, self._named():
            return int(self._writer.execute("PRAGMA data_version").fetchone()[0])

    def checkpoint(self) -> None:
        """Move SQLite's log into the file without holding up readers or the writer.

        What was appended meanwhile is moved in a few more rounds: once nothing is left, the next append begins the log
        anew, which otherwise grows.
        """
        with self._log_lock, self.reader() as connection:
            for _ in range(CHECKPOINT_ROUNDS):
                _, written, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if moved >= written:
                    return

    def vacuum(self, pages: int) -> None:
        """Give up to ``pages`` unused pages back to the file system."""
        with self.write_lock, self._named():
            self._writer.executescript(f"PRAGMA incremental_vacuum({int(pages)})")  # execute() would free one page
        self.pause()

    def pages(self) -> tuple[int, int]:
        """Pages of the file, and how many of them are unused."""
        with self.reader() as connection:
            total = connection.execute("PRAGMA page_count").fetchone()[0]
            return int(total), int(connection.execute("PRAGMA freelist_count").fetchone()[0])

    def used_bytes(self) -> int:
        """Bytes of the file that hold something."""
        total, unused = self.pages()
        return (total - unused) * PAGE_BYTES

    def bytes_on_disk(self) -> int:
        """Size of the file and its log."""
        return sum(path.stat().st_size for path in (self.file, _log_of(self.file)) if path.exists())

    def close(self) -> None:
        """Close every connection; readers at work close theirs when they are done."""
        if self._checkpointer is not None:
            self._checkpointer.close()
        with self.write_lock:
            with self._pool_lock:
                if self._closed:
                    return
                self._closed = True
                idle, self._idle = self._idle, []
            for connection in (*idle, self._writer):
                connection.close()
            if self._lock_file is not None:
                self._lock_file.close()

    def _connect(self, reading: bool = False) -> sqlite3.Connection:
        mode = "ro" if self.read_only else "rw" if reading else "rwc"
        uri = f"{self.file.absolute().as_uri()}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=10.0, isolation_level=None, check_same_thread=False)
        connection.execute(f"PRAGMA synchronous={self._synchronous}")
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}").fetchall()
        connection.execute(f"PRAGMA wal_autocheckpoint={0 if reading else CHECKPOINT_PAGES}")
        return connection

    def _prepare(self) -> None:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT_VERSION:
            raise StoreError(f"{self.file} has format {version}; this program reads up to {FORMAT_VERSION}")
        if self.read_only:
            if version == 0:
                raise StoreError(f"{self.file} is not a Loadline store")
            return
        if version == 0:
            if self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise StoreError(f"{self.file} is an SQLite file of something else")
            self._writer.execute(f"PRAGMA page_size={PAGE_BYTES}")
            self._writer.execute("PRAGMA auto_vacuum=INCREMENTAL")
            self._writer.execute("PRAGMA journal_mode=WAL").fetchall()
        for newer in range(version + 1, FORMAT_VERSION + 1):
            self._writer.executescript(
                f"BEGIN IMMEDIATE; {DDL[newer]} PRAGMA application_id={APPLICATION_ID}; "
                f"PRAGMA user_version={newer}; COMMIT;"
            )
        mode = self._writer.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(f"{self.file}: SQLite cannot keep its log beside the file (mode is {mode!r})")

    def _torn(self, written: int) -> int:
        if not written or self.read_only:
            return 0
        _, kept, _ = self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return max(written - kept, 0) if kept >= 0 else 0

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # text of a damaged file need not be UTF-8
            if is_corrupt(error) and not self.read_only:
                self._mark.touch()
            raise StoreError(f"{self.directory}: {error}") from error
        except OSError as error:
            raise StoreError(f"{self.directory}: {error.strerror or error}") from error


def format_of(connection: sqlite3.Connection) -> int:
    """Format of the file: a reader may meet one that its writer has not brought forward yet."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _log_of(file: Path) -> Path:
    return file.with_name(file.name + "-wal")


def _frames(file: Path) -> int:
    """Frames of the last round of SQLite's log, the incomplete one at its end included."""
    log = _log_of(file)
    if not log.exists() or log.stat().st_size <= _WAL_HEADER:
        return 0
    with log.open("rb") as stream:
        header = stream.read(_WAL_HEADER)
        page, salts = int.from_bytes(header[8:12], "big"), header[16:24]
        if not 512 <= page <= 65536:
            return 0
        count = 0
        while len(frame := stream.read(_FRAME_HEADER)) and frame[8:16] == salts[: len(frame[8:16])]:
            count += 1
            stream.seek(page, os.SEEK_CUR)
        return count


def _lock(directory: Path) -> IO[str]:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock_file = (directory / LOCK_NAME).open("a+")
    except OSError as error:
        raise StoreError(f"{directory} cannot be used as data directory: {error.strerror}") from error
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock_file.seek(0)
        holder = lock_file.read(200).strip()
        lock_file.close()
        raise DirectoryInUse(directory, holder) from error
    lock_file.seek(0)
    lock_file.truncate()
    lock_file.write(f"process {os.getpid()}\n")
    lock_file.flush()
    return lock_file
