"""Writes a run's folder while it is played: how far it got, each request as it ends, and the result."""

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from planner.errors import RunError
from planner.replay.exchange import Exchange
from planner.replay.runs import JOURNAL, LOCK, RUN, RunMeta, RunStore
from planner.result import Run

EVERY_S = 1.0


class Recorder:
    """Holds a run's lock for as long as it is open; an error that leaves the block is put down as the run's end."""

    def __init__(self, store: RunStore, meta: RunMeta) -> None:
        self.folder: Path = store.folder(meta.id)
        self.meta = meta.model_copy(update={"pid": os.getpid(), "state": "preparing"})
        self._store = store
        self._lock = (self.folder / LOCK).open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise RunError(f"run {meta.id!r} is being played by another process") from error
        self._journal = (self.folder / JOURNAL).open("ab")
        self._next = 0.0
        self._began = time.monotonic()
        self._write()

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.close()
        if error is not None and self.meta.going:
            self._write(state="failed", error=str(error) or type(error).__name__)
        if self.meta.state == "finished":
            (self.folder / JOURNAL).unlink(missing_ok=True)
        self._lock.close()

    def begin(self, trace_sha256: str) -> Sequence[Exchange]:
        """Remember which trace is played; what an interrupted run had sent of it, to be gone on from.

        Raises RunError when that was another trace.
        """
        if self.meta.trace_sha256 not in (None, trace_sha256):
            raise RunError(f"run {self.meta.id!r} played another trace, or the same one shaped otherwise")
        self._write(trace_sha256=trace_sha256)
        return read_journal(self.folder)

    def started(self, planned: int, planned_s: float, model: str, done: int = 0) -> None:
        """The first request goes out in a moment; ``done`` were played before."""
        self._began = time.monotonic()
        self._write(
            state="running", planned=planned, planned_s=planned_s, model=model, sent=done, ended=done, error=None
        )

    def ended(self, exchange: Exchange) -> None:
        """Put down one request that came to its end."""
        self._journal.write(orjson.dumps(exchange) + b"\n")

    def progress(self, sent: int, ended: int, failed: int) -> None:
        """How far it got; written once a second."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + EVERY_S
            self._journal.flush()
            self._write(sent=sent, ended=ended, failed=failed, elapsed_s=now - self._began)

    def finished(self, run: Run, *, stopped: bool) -> Path:
        """Write the result; the path of its file."""
        path = self.folder / RUN
        run.write(path)
        summary, details = run.summary(), run.header.details
        bad = sum(count for status, count in summary.by_status.items() if status != "ok")
        self._write(
            state="stopped" if stopped else "finished",
            kind=run.header.kind,
            model=run.header.model,
            target=run.header.target,
            sent=len(run.requests),
            ended=len(run.requests),
            failed=bad,
            elapsed_s=time.monotonic() - self._began,
            valid=details.get("valid"),
            reasons=tuple(details.get("reasons", ())),
            summary=asdict(summary),
        )
        return path

    def _write(self, **update: Any) -> None:
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.meta = RunMeta.model_validate({**self.meta.model_dump(), **update, "updated_at": stamp})
        self._store.write(self.meta)


def read_journal(folder: Path) -> Sequence[Exchange]:
    """The requests that a run put down before it was cut off; a torn last line is left out."""
    path = folder / JOURNAL
    if not path.exists():
        return ()
    found = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            found.append(Exchange(**orjson.loads(line)))
        except (orjson.JSONDecodeError, TypeError) as error:
            raise RunError(f"{path}: line {len(found) + 1} is no request: {error}") from error
    return found
