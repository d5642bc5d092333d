"""Traces that may be played and runs that were: which files, against which targets, and what is uploaded."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dashboard.errors import ActionRefused
from dashboard.words import joined, say
from planner.errors import RunError
from planner.replay.runs import RunMeta, RunStore

UPLOAD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
ENDINGS = (".csv", ".jsonl", ".json", ".log", ".txt", ".gz", ".zst")
MAX_UPLOAD_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A trace that may be played; ``uploaded`` ones may be replaced by another of the same name."""

    name: str
    path: Path
    size_bytes: int
    uploaded: bool


@dataclass(frozen=True, slots=True)
class Replays:
    """``targets`` are the only servers that a replay may be played against; ``folders`` hold traces to read,
    ``uploads`` those that were sent here."""

    store: RunStore
    folders: tuple[Path, ...]
    uploads: Path
    targets: tuple[str, ...] = ()
    max_upload_bytes: int = MAX_UPLOAD_BYTES

    def traces(self) -> tuple[TraceFile, ...]:
        """Every trace, by name; an uploaded one hides a sample of the same name."""
        found: dict[str, TraceFile] = {}
        for folder in (*self.folders, self.uploads):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_file() and path.name.endswith(ENDINGS):
                    found[path.name] = TraceFile(path.name, path, path.stat().st_size, folder == self.uploads)
        return tuple(found[name] for name in sorted(found))

    def trace(self, name: str) -> TraceFile:
        """A trace by name. Raises ActionRefused."""
        found = next((one for one in self.traces() if one.name == name), None)
        if found is None:
            raise ActionRefused(say("there is no trace {name}", name=repr(name)), 404)
        return found

    def runs(self) -> Sequence[RunMeta]:
        """All runs, newest first."""
        return self.store.list()

    def start(self, trace: str, target: str, options: Mapping[str, str | int | float | None]) -> RunMeta:
        """Play a trace in a process of its own. Raises ActionRefused."""
        if target not in self.targets:
            raise ActionRefused(
                say(
                    "{target} may not be played against; allowed is {allowed}",
                    target=target or "no target", allowed=joined(self.targets) or "none: set replay_targets",
                ),
                403,
            )  # fmt: skip
        going = [run for run in self.runs() if run.going and run.target == target]
        if going:
            told = say("run {id} is playing against {target} already; stop it first", id=going[0].id, target=target)
            raise ActionRefused(told, 409)
        try:
            return self.store.start(self.trace(trace).path, target, **options)
        except RunError as error:
            raise ActionRefused(str(error)) from error

    def stop(self, run_id: str) -> None:
        """Tell a run to stop. Raises ActionRefused."""
        try:
            self.store.stop(run_id)
        except RunError as error:
            raise ActionRefused(str(error), 409) from error

    def receive(self, name: str, chunks: Iterable[bytes]) -> TraceFile:
        """Write an upload to disk as it comes; it appears under its name when it is whole. Raises ActionRefused."""
        if not UPLOAD_NAME.fullmatch(name) or not name.endswith(ENDINGS):
            raise ActionRefused(
                say(
                    "a trace cannot be named {name}: letters, digits, dots, - and _, then {endings}",
                    name=repr(name[:100]), endings=", ".join(ENDINGS),
                )
            )  # fmt: skip
        try:
            self.uploads.mkdir(parents=True, exist_ok=True)
            partial = self.uploads / f".{name}.part"
            size = 0
            try:
                with partial.open("wb") as file:
                    for chunk in chunks:
                        size += len(chunk)
                        if size > self.max_upload_bytes:
                            most = f"{self.max_upload_bytes:,}"
                            raise ActionRefused(say("a trace may have at most {most} bytes", most=most), 413)
                        file.write(chunk)
                if not size:
                    raise ActionRefused("the file is empty")
                path = partial.replace(self.uploads / name)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise ActionRefused(say("{name} cannot be kept: {why}", name=name, why=error.strerror), 507) from error
        return TraceFile(name, path, size, True)
