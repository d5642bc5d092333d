"""Long work in child processes: started, watched, cancelled, and its results kept while the server lives.

A job is named by what it was asked, so that two viewers of one address share it. One runs at a time, in low priority;
the others wait. The child reads its question as JSON on stdin and writes lines of JSON: ``{"progress": [done, total,
words]}`` and at last ``{"result": …}``.
"""

import json
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from threading import Condition, Thread
from typing import Any, Literal

from dashboard.errors import JobRefused
from dashboard.words import say

COMMAND = (sys.executable, "-m", "dashboard.job")
MOST_WAITING = 4
KEPT = 64

State = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Job:
    """How far a piece of work is. ``result`` when it is done, ``error`` when it failed."""

    key: str
    state: State = "waiting"
    done: int = 0
    total: int = 0
    words: str = ""
    result: Mapping[str, Any] | None = None
    error: str = ""

    @property
    def going(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running")


def key_of(question: Mapping[str, Any]) -> str:
    """16 hex digits that name a question: the same for equal ones."""
    return sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()[:16]


class Jobs:
    """The table of jobs and the thread that runs them."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = tuple(command)
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._questions: dict[str, Mapping[str, Any]] = {}
        self._child: tuple[str, subprocess.Popen[bytes]] | None = None
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._work, name="dashboard-jobs", daemon=True)
        self._thread.start()

    def start(self, key: str, question: Mapping[str, Any]) -> Job:
        """The job ``key``, started if it is not known, was cancelled or failed. Raises JobRefused when too many wait.

        ``question`` may hold secrets that are no part of what ``key`` names.
        """
        with self._changed:
            known = self._jobs.get(key)
            if known is not None and (known.going or known.state == "done"):
                return known
            if len(self._questions) >= MOST_WAITING:
                raise JobRefused(say("{n} computations wait already; try again in a moment", n=MOST_WAITING), 429)
            job = self._put(Job(key))
            self._questions[key] = question
            self._changed.notify_all()
            return job

    def get(self, key: str) -> Job | None:
        """How far a job is; None for one that was never started or is forgotten."""
        with self._changed:
            return self._jobs.get(key)

    def cancel(self, key: str) -> Job | None:
        """End a job that waits or runs."""
        with self._changed:
            job = self._jobs.get(key)
            if job is None or not job.going:
                return job
            self._questions.pop(key, None)
            if self._child is not None and self._child[0] == key:
                self._child[1].kill()
            return self._put(replace(job, state="cancelled"))

    def close(self) -> None:
        """End all work; the thread is given two seconds."""
        with self._changed:
            self._closed = True
            self._questions.clear()
            if self._child is not None:
                self._child[1].kill()
            self._changed.notify_all()
        self._thread.join(2)

    def _put(self, job: Job) -> Job:
        self._jobs[job.key] = job
        self._jobs.move_to_end(job.key)
        ended = [key for key, one in self._jobs.items() if not one.going]
        for key in ended[: max(0, len(self._jobs) - KEPT)]:
            del self._jobs[key]
        return job

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._questions)
                if self._closed:
                    return
                key = next(iter(self._questions))
                question = self._questions.pop(key)
                pipe = subprocess.PIPE
                try:
                    child = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, stderr=pipe)
                except OSError as error:
                    self._put(Job(key, "failed", error=say("no process could be started: {why}", why=error)))
                    continue
                self._child = (key, child)
                self._put(Job(key, "running"))
            self._watch(key, child, question)

    def _watch(self, key: str, child: subprocess.Popen[bytes], question: Mapping[str, Any]) -> None:
        assert child.stdin is not None and child.stdout is not None and child.stderr is not None
        said: list[bytes] = []
        errors = child.stderr
        hearing = Thread(target=lambda: said.extend(errors), name="dashboard-job-errors", daemon=True)
        hearing.start()
        try:
            child.stdin.write(json.dumps(question).encode())
            child.stdin.close()
        except BrokenPipeError:  # it died at once; its last words are read below
            pass
        for line in child.stdout:
            self._hear(key, line)
        code = child.wait()
        hearing.join()
        child.stdout.close()
        child.stderr.close()
        with self._changed:
            self._child = None
            job = self._jobs.get(key)
            if job is not None and job.state == "running":
                words = [one.decode(errors="replace").strip() for one in said if one.strip()]
                self._put(
                    replace(
                        job, state="failed", error=words[-1] if words else say("it ended with code {code}", code=code)
                    )
                )

    def _hear(self, key: str, line: bytes) -> None:
        told = json.loads(line)
        with self._changed:
            job = self._jobs.get(key)
            if job is None or job.state != "running":
                return
            if "result" in told:
                self._put(replace(job, state="done", result=told["result"]))
            else:
                done, total, words = told["progress"]
                self._put(replace(job, done=done, total=total, words=words))
