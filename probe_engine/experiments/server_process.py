"""An engine server as a process of its own: started, asked, weighed, stopped."""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, Popen, TimeoutExpired

import httpx
import psutil

from probe_engine.errors import ExperimentError

START_LIMIT_S = 180.0
STOP_LIMIT_S = 10.0
POLL_S = 0.02
READY = "listening on "
GAUGES = {
    "running": "loadline_num_requests_running",
    "waiting": "loadline_num_requests_waiting",
    "kv_usage": "loadline_kv_cache_usage_ratio",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server that listens. cold_start_s: from starting its process (wrapper included) to listening."""

    url: str
    process: Popen[bytes]
    cold_start_s: float

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self.process.poll() is None

    def memory_bytes(self) -> int:
        """Resident memory of the process and of those it started (a wrapper's child is the server)."""
        try:
            root = psutil.Process(self.process.pid)
            family = [root, *root.children(recursive=True)]
            return sum(one.memory_info().rss for one in family)
        except psutil.Error:
            return 0

    def processor_s(self) -> float:
        """Processor time of the same processes so far (s): what neighbours on the machine do not move."""
        try:
            root = psutil.Process(self.process.pid)
            times = [one.cpu_times() for one in [root, *root.children(recursive=True)]]
            return sum(one.user + one.system for one in times)
        except psutil.Error:
            return 0.0

    def gauges(self) -> dict[str, float]:
        """``running``, ``waiting`` and ``kv_usage`` (0 to 1) as ``/metrics`` tells them."""
        page = httpx.get(f"{self.url}/metrics", timeout=30).text
        found = {}
        for short, name in GAUGES.items():
            line = next(line for line in page.splitlines() if line.startswith(name + "{"))
            found[short] = float(line.rsplit(" ", 1)[1])
        return found

    def settled(self, limit_s: float = 30.0) -> dict[str, float]:
        """``gauges()`` once nothing runs or waits, or after ``limit_s``."""
        until_s = time.monotonic() + limit_s
        while True:
            now = self.gauges()
            if not any(now.values()) or time.monotonic() > until_s:
                return now
            time.sleep(POLL_S)


Serving = Callable[[list[str]], AbstractContextManager[Server]]  # a server for a command: ``running`` starts its own


def serve_command(*arguments: str) -> list[str]:
    """``loadline engine serve`` on a free port, with this interpreter."""
    start = "from probe_engine.cli import app; app()"
    return [sys.executable, "-c", start, "serve", "--port", "0", *arguments]


@contextmanager
def running(command: Sequence[str], limit_s: float = START_LIMIT_S) -> Iterator[Server]:
    """Start ``command``, which ends up as a server, and stop it afterwards.

    Raises ``ExperimentError`` with its last words where it ends, or isn't ready in time.
    """
    with tempfile.TemporaryFile() as told:
        began_s = time.monotonic()
        process = Popen(command, stdin=DEVNULL, stdout=DEVNULL, stderr=told)
        try:
            url = _address(process, Path(f"/dev/fd/{told.fileno()}"), began_s + limit_s)
            yield Server(url, process, time.monotonic() - began_s)
        finally:
            _stop(process)


def _address(process: Popen[bytes], told: Path, until_s: float) -> str:
    while True:
        ended = process.poll() is not None
        lines = told.read_text(encoding="utf-8", errors="replace").splitlines()
        ready = next((line for line in lines if line.startswith(READY)), None)
        if ready is not None:
            return ready.removeprefix(READY)
        if ended:
            raise ExperimentError(f"the server ended with {process.returncode}: {' | '.join(lines[-3:]) or 'silent'}")
        if time.monotonic() > until_s:
            raise ExperimentError("the server was not ready in time")
        time.sleep(POLL_S)


def _stop(process: Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_S)
    except TimeoutExpired:
        process.kill()
        process.wait()
