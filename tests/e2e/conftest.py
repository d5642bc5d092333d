"""One whole fleet for every end-to-end test: ``loadline up`` on free ports, with the sample trace playing."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("engine", "collector", "alerts", "dashboard")
LOADLINE = str(Path(sys.executable).with_name("loadline"))


@dataclass(frozen=True)
class Fleet:
    """Addresses of the running parts, and what ``up`` has printed so far."""

    ports: Mapping[str, int]
    config: Path
    log: list[str]

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.ports[part]}"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def write_config(folder: Path, ports: Mapping[str, int]) -> Path:
    sections = {part: {"port": port} for part, port in ports.items()}
    sections["collector"] |= {"data": str(folder / "collector"), "interval": "1s"}
    sections["alerts"] |= {"state": str(folder / "alerts.db")}
    text = "\n".join(
        f"[{part}]\n" + "\n".join(f"{key} = {value!r}" for key, value in settings.items())
        for part, settings in sections.items()
    )
    path = folder / "loadline.toml"
    path.write_text(text.replace("'", '"') + "\n")
    return path


@pytest.fixture(scope="session")
def loadline_command() -> str:
    """The command under test."""
    return LOADLINE


@pytest.fixture(scope="session")
def ports() -> Callable[..., dict[str, int]]:
    """Gives each named part a free port."""

    def give(*parts: str) -> dict[str, int]:
        return dict(zip(parts, free_ports(len(parts)), strict=True))

    return give


@pytest.fixture(scope="session")
def up_command() -> Callable[[Path], list[str]]:
    """Makes the command line of a fleet of its own, on free ports, with its data in a folder."""

    def command(folder: Path) -> list[str]:
        ports = dict(zip(PARTS, free_ports(len(PARTS)), strict=True))
        return [LOADLINE, "up", "--config", str(write_config(folder, ports))]

    return command


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    folder = tmp_path_factory.mktemp("fleet")
    ports = dict(zip(PARTS, free_ports(len(PARTS)), strict=True))
    config = write_config(folder, ports)
    log: list[str] = []
    up = threading.Event()
    with subprocess.Popen(
        [LOADLINE, "up", "--config", str(config)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    ) as process:

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                log.append(line.rstrip())
                if "Ctrl-C stops all" in line:
                    up.set()
            up.set()

        reader = threading.Thread(target=read)
        reader.start()
        try:
            assert up.wait(timeout=90) and process.poll() is None, "\n".join(log)
            yield Fleet(ports, config, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            finally:
                process.kill()
                reader.join()
