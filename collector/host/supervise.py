"""Run several processes as one: start them in order, prefix what they print, stop them all together.

Knows commands and readiness addresses; not what the commands do.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

import httpx

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 4.0
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A process that ran this long is started again at once when it ends."""

READY_POLL_S = 0.1
COLOURS = (36, 35, 34, 33, 32)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Process:
    """One command to supervise.

    ``ready_url`` answers 2xx once the process can be used (None: ready when started).
    ``may_end``: with exit code 0, or one of ``gives_up``, it is left ended instead of being started again.
    """

    name: str
    argv: tuple[str, ...]
    ready_url: str | None = None
    may_end: bool = False
    gives_up: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class StartError(Exception):
    """A process cannot start; the message says which and why."""


class Supervisor:
    """Starts processes one after the other, each when the one before is ready, and stops them all together.

    A process that ends later is started again, after 1 s at first and up to 30 s when it keeps ending: the others go
    on, since the moment a part is lost is when its watchers are needed. ``run`` returns 0 after SIGINT or SIGTERM, 1
    when every process has ended for good, 2 when one cannot start.
    """

    def __init__(self, processes: Sequence[Process], out: TextIO, started: str) -> None:
        """``out`` takes the prefixed logs; ``started`` is said when everything is ready."""
        self._processes = processes
        self._out = out
        self._started = started
        self._running: dict[str, asyncio.subprocess.Process] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._restarts: dict[str, int] = {}
        self._width = max(len(process.name) for process in processes)

    def run(self) -> int:
        """Supervise until a signal or a failure; see the class for the exit codes."""
        return asyncio.run(self._run())

    async def _run(self) -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            check_ports(self._processes)
            return await self._start_and_watch(stop)
        except StartError as error:
            self._say("up", str(error))
            return 2
        finally:
            await self._stop_all()

    async def _start_and_watch(self, stop: asyncio.Event) -> int:
        stopped = asyncio.create_task(stop.wait())
        ended: dict[asyncio.Task[int], Process] = {}
        try:
            for process in self._processes:
                await self._start(process)
                ended[asyncio.create_task(self._running[process.name].wait())] = process
                ready = asyncio.create_task(self._until_ready(process))
                await asyncio.wait({ready, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if stop.is_set():
                    ready.cancel()
                    return 0
                ready.result()
            self._say("up", self._started)
            return await self._watch(stopped, ended)
        finally:
            for task in (stopped, *ended):
                task.cancel()
            await asyncio.gather(stopped, *ended, return_exceptions=True)

    async def _watch(self, stopped: "asyncio.Task[bool]", ended: dict[asyncio.Task[int], Process]) -> int:
        while ended:
            done, _ = await asyncio.wait({stopped, *ended}, return_when=asyncio.FIRST_COMPLETED)
            if stopped in done:
                return 0
            for task in done & ended.keys():
                process, code = ended.pop(task), task.result()
                if process.may_end and code in (0, *process.gives_up):
                    self._say("up", f"{process.name} ended: {_reason(code)}")
                else:
                    ended[asyncio.create_task(self._again(process, code))] = process
        return 1

    async def _again(self, process: Process, code: int) -> int:
        """Start ``process`` once more after a pause; answers as its exit code when it ends again."""
        pause_s = min(2.0 ** self._restarts.get(process.name, 0), LONGEST_PAUSE_S)
        self._restarts[process.name] = self._restarts.get(process.name, 0) + 1
        self._say("up", f"{process.name} ended: {_reason(code)}; it is started again in {pause_s:.0f} s")
        await asyncio.sleep(pause_s)
        await self._start(process)
        began = time.monotonic()
        code = await self._running[process.name].wait()
        if time.monotonic() - began > STEADY_S:
            self._restarts.pop(process.name, None)
        return code

    async def _start(self, process: Process) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *process.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **process.environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            raise StartError(f"{process.name} cannot start: {error}") from error
        self._running[process.name] = child
        assert child.stdout is not None
        self._readers.append(asyncio.create_task(self._copy(process.name, child.stdout)))

    async def _until_ready(self, process: Process) -> None:
        child = self._running[process.name]
        deadline = time.monotonic() + START_TIMEOUT_S
        async with httpx.AsyncClient(timeout=2.0) as client:
            while process.ready_url is not None:
                if child.returncode is not None:
                    raise StartError(f"{process.name} did not start: exit code {child.returncode}, see its lines above")
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(process.ready_url)).is_success:
                        return
                if time.monotonic() > deadline:
                    waited = f"{process.ready_url} gave no answer within {START_TIMEOUT_S:.0f} s"
                    raise StartError(f"{process.name} did not start: {waited}")
                await asyncio.sleep(READY_POLL_S)

    async def _stop_all(self) -> None:
        children = [child for child in reversed(self._running.values()) if child.returncode is None]
        for child in children:
            _signal(child, signal.SIGTERM)
        if children:
            waits = [asyncio.create_task(child.wait()) for child in children]
            await asyncio.wait(waits, timeout=STOP_TIMEOUT_S)
            for child in children:
                if child.returncode is None:
                    _signal(child, signal.SIGKILL)
            await asyncio.gather(*waits)
        await asyncio.gather(*self._readers)

    async def _copy(self, name: str, stream: asyncio.StreamReader) -> None:
        while line := await _read_line(stream):
            self._say(name, line.decode(errors="replace").rstrip())

    def _say(self, name: str, text: str) -> None:
        prefix = f"{name:<{self._width}} │ "
        if self._out.isatty():
            names = [process.name for process in self._processes]
            colour = COLOURS[names.index(name) % len(COLOURS)] if name in names else 1
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        print(prefix + text, file=self._out, flush=True)


def check_ports(processes: Sequence[Process]) -> None:
    """Raise StartError naming the first process whose port another program holds."""
    for process in processes:
        if process.ready_url is None:
            continue
        address = urlsplit(process.ready_url)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise StartError(
                    f"{process.name} cannot start: {host}:{port} is in use; "
                    f"stop what holds it or set [{process.name}] port in loadline.toml"
                ) from error


def loadline_command() -> tuple[str, ...]:
    """The command that runs this very Loadline, whatever PATH says."""
    script = Path(sys.executable).with_name("loadline")
    return (str(script),) if script.exists() else (sys.executable, "-m", "loadline")


async def _read_line(stream: asyncio.StreamReader) -> bytes:
    """One line; of a line longer than the stream's limit, the part that fits, then the rest."""
    try:
        return await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await stream.readexactly(error.consumed)


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _signal(child: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal the child's whole session, so that what it started stops too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _die_with_parent() -> None:
    """On Linux the child is told to stop when the supervisor is killed; elsewhere nothing happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
