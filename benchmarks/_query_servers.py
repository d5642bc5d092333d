"""Servers that answer PromQL, measured beside each other: started on free ports, stopped by their process ids.

Processor time is that of the whole process, read from the kernel's clock of it in nanoseconds; memory is the kernel's
``VmRSS`` and ``VmHWM``. Linux only.
"""

import http.client
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from benchmarks._servers import free_port

_CPU_CLOCK_OF_PROCESS = 2  # the lower bits of a clockid_t: a process's, user and system time


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: ``extra`` goes with every query, ``folder`` holds its data and nothing else."""

    name: str
    connection: http.client.HTTPConnection
    pid: int
    extra: Mapping[str, str]
    folder: Path

    def request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of the answer; by the plainest client there is, so that little of its own time is measured."""
        self.connection.request(method, f"{path}?{urlencode(params)}" if params else path, body, headers or {})
        response = self.connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{self.name}: {method} {path}: {response.status} {answer[:200]!r}")
        return answer

    def cpu_s(self) -> float:
        """Processor time that the server has used so far, user and system, of all its threads."""
        return time.clock_gettime(~self.pid << 3 | _CPU_CLOCK_OF_PROCESS)

    def memory_mb(self) -> tuple[float, float]:
        """Resident memory now, and the most that it ever was."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":", 1) for line in status.splitlines())
        return tuple(int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]

    def disk_bytes(self) -> int:
        """Bytes of every file of its data."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def start(stack: ExitStack, folder: Path) -> tuple[Server, list[Server]]:
    """Ours and those of the peers that are installed, all of which keep their data below ``folder``."""
    peers = []
    port = free_port()
    if binary := shutil.which("prometheus"):
        (folder / "prometheus.yml").write_text("global: {evaluation_interval: 1m}\n")
        command = [binary, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/prometheus"]
        command += [f"--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver"]
        command += ["--web.enable-admin-api"]
        data = folder / "prometheus"
        peers.append(stack.enter_context(running("Prometheus", command, port, "/-/ready", {}, data)))
    port = free_port()
    if binary := shutil.which("victoria-metrics"):
        data = folder / "victoria"
        command = [binary, f"-storageDataPath={data}", f"-httpListenAddr=127.0.0.1:{port}"]
        command += ["-retentionPeriod=100y", "-search.latencyOffset=0s"]
        peers.append(stack.enter_context(running("VictoriaMetrics", command, port, "/health", {"nocache": "1"}, data)))
    port = free_port()
    command = [sys.executable, "-m", "loadline", "collector", "serve", "--port", str(port), "--no-left-open"]
    command += ["--data", str(folder / "ours"), "--no-telemetry"]
    return stack.enter_context(running("ours", command, port, "/-/ready", {}, folder / "ours")), peers


@contextmanager
def running(
    name: str, command: Sequence[str], port: int, ready: str, extra: Mapping[str, str], folder: Path
) -> Iterator[Server]:
    """A server of our own, asked when it says that it is ready, ended with the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        server = Server(name, connection, process.pid, extra, folder)
        for _ in range(600):
            try:
                server.request("GET", ready, {})
                break
            except (OSError, RuntimeError, http.client.HTTPException):
                connection.close()
                time.sleep(0.05)
        yield server
        connection.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
