"""Runs on disk: one folder per replay, listed, loaded, started and stopped by any process.

``DIRECTORY/ID/`` holds ``meta.json`` (what it is and how far it got: ``schemas/run_meta.json``), ``run.json`` (the
result: ``schemas/run.json``), ``journal.jsonl`` (requests as they ended, for resuming; gone when the run is complete),
``lock`` (held by the process that plays, so that a run whose process died is known as lost) and ``log.txt`` (what a
started process said).
"""

import fcntl
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from planner.errors import RunError
from planner.result import Run, read_run
from planner.slo import first_fault

DEFAULT_RUNS = Path("data/runs")
META, RUN, JOURNAL, LOCK, LOG = "meta.json", "run.json", "journal.jsonl", "lock", "log.txt"

START_S = 60.0
"""A started process that holds no lock after so long has died."""

State = Literal["preparing", "running", "finished", "stopped", "failed", "lost"]
OptionValue = str | int | float | bool | Path | None


class RunMeta(BaseModel):
    """A run as a list shows it. Counts grow while it plays; ``summary`` and ``valid`` come with its end.

    ``stopped`` ran until it was told to stop, ``lost`` means that its process died; both may be resumed. ``summary`` is
    ``planner.result.Summary`` as a mapping.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    state: State
    kind: Literal["replay", "twin"] = "replay"
    trace: str
    target: str
    model: str = ""
    options: dict[str, Any] = {}
    trace_sha256: str | None = None
    pid: int | None = None
    started_at: str
    updated_at: str
    planned: int = 0
    sent: int = 0
    ended: int = 0
    failed: int = 0
    elapsed_s: float = 0.0
    planned_s: float = 0.0
    valid: bool | None = None
    reasons: tuple[str, ...] = ()
    summary: dict[str, Any] | None = None
    error: str | None = None

    @property
    def going(self) -> bool:
        """Whether a process is at it."""
        return self.state in ("preparing", "running")


class RunStore:
    """The runs of one directory. Nothing is cached: two processes see the same."""

    def __init__(self, directory: Path = DEFAULT_RUNS) -> None:
        self.directory = directory
        self._children: dict[str, int] = {}

    def list(self) -> tuple[RunMeta, ...]:
        """All runs, newest first; folders that hold no readable ``meta.json`` are left out."""
        found = []
        for path in self.directory.glob(f"*/{META}"):
            try:
                found.append(self.meta(path.parent.name))
            except RunError:
                continue
        return tuple(sorted(found, key=lambda meta: (meta.started_at, meta.id), reverse=True))

    def meta(self, run_id: str) -> RunMeta:
        """What is known of a run now. Raises RunError when there is none of that name."""
        folder = self.folder(run_id)
        try:
            meta = RunMeta.model_validate(orjson.loads((folder / META).read_bytes()))
        except OSError as error:
            raise RunError(f"{self.directory}: has no run {run_id!r}: {error.strerror}") from error
        except orjson.JSONDecodeError as error:
            raise RunError(f"{folder / META}: is not JSON: {error}") from error
        except ValidationError as error:
            raise RunError(f"{folder / META}: {first_fault(error)}") from error
        if (pid := self._children.get(run_id)) is not None and (code := _ended(pid)) is not None:
            del self._children[run_id]
            if meta.going:
                return self._died(meta, code)
        if meta.going and run_id not in self._children and not _held(folder / LOCK) and not _young(meta):
            return meta.model_copy(update={"state": "lost", "error": "its process is gone"})
        return meta

    def load(self, run_id: str) -> Run:
        """The result of a run that has ended. Raises RunError when there is none."""
        return read_run(self.result(run_id))

    def result(self, run_id: str) -> Path:
        """The result file of a run that has ended. Raises RunError when there is none."""
        path = self.folder(run_id) / RUN
        if not path.exists():
            raise RunError(f"{path}: run {run_id!r} is {self.meta(run_id).state} and has no result")
        return path

    def start(self, trace: Path, target: str, **options: OptionValue) -> RunMeta:
        """Play ``trace`` in a process of its own that outlives this one; answers at once, ``preparing``.

        ``options`` are those of ``loadline replay run``: ``speed=2.0`` is ``--speed 2.0``, True is a flag, None is left
        out. What goes wrong later stands in the run's ``error``. Raises RunError when the directory cannot be written.
        """
        meta = self.create(str(trace), target, dict(options))
        folder = self.folder(meta.id)
        command = [sys.executable, "-m", "planner.replay", "run", str(trace), "--target", target]
        command += [*_as_arguments(options), "--runs", str(self.directory), "--id", meta.id]
        self._children[meta.id] = _spawn(command, folder / LOG)
        return meta

    def stop(self, run_id: str) -> None:
        """Tell a run's process to stop; it writes what it has. Raises RunError when it is not going."""
        meta = self.meta(run_id)
        pid = self._children.get(run_id, meta.pid)
        if not meta.going or pid is None:
            raise RunError(f"run {run_id!r} is {meta.state}: nothing to stop")
        try:
            os.kill(pid, signal.SIGINT)
        except ProcessLookupError:
            return

    def log(self, run_id: str, last_bytes: int = 8000) -> str:
        """The end of what a started run's process said; empty for one that was started at a terminal."""
        path = self.folder(run_id) / LOG
        return path.read_bytes()[-last_bytes:].decode("utf-8", "replace") if path.exists() else ""

    def create(self, trace: str, target: str, options: Mapping[str, OptionValue], run_id: str | None = None) -> RunMeta:
        """A new folder with a ``preparing`` run. Raises RunError when it cannot be made or the name is taken."""
        now = datetime.now(UTC)
        name = run_id or now.strftime("%Y%m%dT%H%M%S.%f")[:-3] + f"-{os.getpid()}"
        folder = self.folder(name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise RunError(f"{folder}: there is a run of this name") from error
        except OSError as error:
            raise RunError(f"{folder}: cannot be made: {error.strerror}") from error
        stamp = now.isoformat(timespec="milliseconds")
        told = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
        meta = RunMeta(
            id=name,
            state="preparing",
            trace=trace,
            target=target,
            options={key: value for key, value in told.items() if value is not None},
            started_at=stamp,
            updated_at=stamp,
        )
        self.write(meta)
        return meta

    def write(self, meta: RunMeta) -> None:
        """Replace a run's ``meta.json`` at once, so that a reader sees the old one or the new one."""
        path = self.folder(meta.id) / META
        fresh = path.with_suffix(".new")
        fresh.write_bytes(orjson.dumps(meta.model_dump(mode="json")))
        fresh.replace(path)

    def folder(self, run_id: str) -> Path:
        """Where a run lies. Raises RunError for a name that is no single folder's."""
        if not run_id or run_id in (".", "..") or "/" in run_id or "\\" in run_id or "\0" in run_id:
            raise RunError(f"{run_id!r} is no name of a run")
        return self.directory / run_id

    def _died(self, meta: RunMeta, code: int) -> RunMeta:
        lines = self.log(meta.id).strip().splitlines()
        update = {"state": "failed", "error": lines[-1] if lines else f"its process ended with code {code}"}
        failed = meta.model_copy(update=update)
        self.write(failed)
        return failed


def run_meta_schema() -> dict[str, Any]:
    """JSON Schema of ``meta.json``."""
    return RunMeta.model_json_schema()


def find_run(name: str, store: RunStore) -> Run:
    """A run by the path of its file or its folder, or by its id in ``store``. Raises RunError."""
    return read_run(file_of(name, store))


def file_of(name: str, store: RunStore) -> Path:
    """The result file of such a run. Raises RunError when there is none."""
    path = Path(name)
    if path.is_file():
        return path
    if (path / RUN).is_file():
        return path / RUN
    return store.result(name)


def run_name(name: str) -> str:
    """What to call a run that was named by a path or an id."""
    path = Path(name)
    if path.name == RUN and path.parent.name:
        return path.parent.name
    return path.stem if path.suffix == ".json" else path.name


def _as_arguments(options: Mapping[str, OptionValue]) -> list[str]:
    found = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        found.append("--" + name.replace("_", "-"))
        if value is not True:
            found.append(str(value))
    return found


def _young(meta: RunMeta) -> bool:
    """Whether its process may still be on its way to take the lock."""
    age = datetime.now(UTC) - datetime.fromisoformat(meta.started_at)
    return meta.pid is None and age.total_seconds() < START_S


def _spawn(command: list[str], log: Path) -> int:
    """Start a process with a session of its own, its words going to ``log``; its id."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True)


def _ended(pid: int) -> int | None:
    """The exit code of a child that has ended (negative: its signal), None while it lives."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def _held(path: Path) -> bool:
    """Whether some process holds the lock of a run."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
