"""Loadline's engine as a process of its own, for as long as a replay lasts."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from urllib.error import URLError
from urllib.request import urlopen

from planner.errors import ReplayError

START_S = 120.0


@contextmanager
def local_engine(model: str) -> Iterator[str]:
    """Serve ``model`` (a name or a folder, as ``loadline engine serve --model`` takes it); its address.

    Raises ReplayError with the engine's last words when it does not come up.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "loadline", "engine", "serve", "--model", model, "--port", str(port)]
    with TemporaryFile() as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            if not _ready(process, f"http://127.0.0.1:{port}/ready"):
                log.seek(0)
                said = log.read().decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
                raise ReplayError(f"engine:{model}: did not come up: {said[-1]}")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False
