"""Server processes of a measurement: started on a free port, ended with it."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

STOP_LIMIT_S = 20.0


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str] | None = None
) -> "Iterator[subprocess.Popen[bytes]]":
    """A process of ``command``; its log is shown if it ends by itself."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, env=os.environ | (environment or {}), stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            ended = process.poll()
            process.terminate()
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if ended is not None:
                log.seek(0)
                print(f"{command[0]} ended with {ended}:\n{log.read()[-2000:]}", file=sys.stderr)
