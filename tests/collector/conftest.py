"""The collector's parts over a store in a temporary directory, and its API on a real socket."""

import asyncio
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.ingest.remote_write import RemoteWriteReceiver
from collector.store import SpanStore, Store

NOW_S = 1_700_000_000.0
"""The API's clock stands still."""


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, app: ASGIApp) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", ws="none", log_config=None)
        super().__init__(config)
        self.is_up = threading.Event()

    async def startup(self, sockets: object = None) -> None:
        await super().startup()
        self.is_up.set()


@contextmanager
def _served(app: ASGIApp) -> Iterator[str]:
    server = _Server(app)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.is_up.wait(10.0)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10.0)


@pytest.fixture(scope="session")
def served() -> Callable[[ASGIApp], AbstractContextManager[str]]:
    """Serves an application on a free port for the length of a block, and gives its address."""
    return _served


@pytest.fixture
def serve_app() -> Iterator[Callable[[ASGIApp], str]]:
    """Serves an application on a free port until the test ends, and gives its address."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_served(app))


@contextmanager
def _prometheus(folder: Path, configuration: str, *flags: str) -> Iterator[str]:
    program = shutil.which("prometheus")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("prometheus is not installed")
        pytest.skip("prometheus is not installed")
    (folder / "prometheus.yml").write_text(configuration)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
        *flags,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _await_ready(f"http://127.0.0.1:{port}/-/ready", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    with httpx.Client(trust_env=False) as http:
        for _ in range(300):
            assert process.poll() is None, "prometheus ended"
            try:
                if http.get(url).is_success:
                    return
            except httpx.ConnectError:
                pass
            time.sleep(0.05)
    pytest.fail("prometheus did not become ready")


@pytest.fixture(scope="session")
def start_prometheus() -> Callable[..., AbstractContextManager[str]]:
    """Runs the real Prometheus in a folder, with a configuration and flags, and gives its address; skips without it."""
    return _prometheus


def _alerts(request: httpx.Request) -> httpx.Response:
    """An alerts process with one rule group; its alerts page is broken."""
    if request.url.path == "/api/v1/rules":
        return httpx.Response(200, json={"status": "success", "data": {"groups": [{"name": "slo", "rules": []}]}})
    raise httpx.ConnectError("connection refused", request=request)


@contextmanager
def _opened(folder: Path) -> Iterator[Parts]:
    with Store.open(folder) as store:
        http = httpx.AsyncClient(transport=httpx.MockTransport(_alerts))
        yield Parts(
            store=store,
            spans=SpanStore(store.database),
            receiver=RemoteWriteReceiver(store),
            http=http,
            alerts_url="http://alerts",
            max_body_bytes=1 << 20,
            now_s=lambda: NOW_S,
        )
        asyncio.run(http.aclose())


@pytest.fixture(scope="session")
def opened_parts() -> Callable[[Path], AbstractContextManager[Parts]]:
    """Opens the collector's parts over a store in a folder for the length of a block."""
    return _opened


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """The collector's parts, without targets."""
    with _opened(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def api(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> Iterator[httpx.Client]:
    """Speaks to the API over ``parts``."""
    with httpx.Client(base_url=serve_app(create_app(parts)), trust_env=False) as client:
        yield client
