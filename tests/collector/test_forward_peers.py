"""Remote write between the collector and the real Prometheus and VictoriaMetrics, both ways, through restarts."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

import httpx
import numpy as np
import pytest

from collector.forward.queue import DiskQueue
from collector.forward.remote_write import RemoteWriteOut
from collector.forward.remote_write import Samples as SamplesOut
from collector.model.exemplars import Exemplar
from collector.model.matchers import Matcher
from collector.model.series import is_stale
from collector.model.write_shape import WrittenMetadata
from collector.store import Store

pytestmark = pytest.mark.peer

START = "from collector.cli import app; app()"
LAST_MS = 1 << 50

Samples = dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return found


def wait_for(what: Callable[[], bool], within_s: float = 30.0) -> None:
    """Ask until it is so."""
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@contextmanager
def running(command: list[str], ready: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: process.poll() is not None or answers(ready))
            assert process.poll() is None, f"{command[0]} ended"
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.fixture
def page() -> Iterator[tuple[str, list[str]]]:
    """A metrics page that counts its scrapes, and the lines beside the counter."""
    lock, count, lines = Lock(), [0], ['level{path="a b"} 0.25', "doomed 1"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with lock:
                count[0] += 1
                body = "\n".join([f"counted_total {count[0]}", *lines, ""]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/metrics", lines
        server.shutdown()
        thread.join()


class Peer:
    """A receiver on a port of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self._name = name
        if name == "prometheus":
            (folder / "prometheus.yml").write_text("scrape_configs: []\n")
            self.command = [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--web.enable-remote-write-receiver",
                "--storage.remote.flush-deadline=1s",
            ]
            self.ready = f"{self.base}/-/ready"
        else:
            self.command = [
                program("victoria-metrics"),
                f"-storageDataPath={folder / 'data'}",
                f"-httpListenAddr=127.0.0.1:{self.port}",
                "-search.latencyOffset=0s",
            ]
            self.ready = f"{self.base}/health"

    def shows(self, metric: str) -> bool:
        """Whether an instant query finds it now."""
        asked = httpx.get(f"{self.base}/api/v1/query", params={"query": metric, "nocache": "1"}, trust_env=False)
        return bool(asked.json()["data"]["result"])

    def samples(self) -> Samples:
        """Every sample of the scraped job, stale markers left out."""
        selector = {"query": '{job="page"}[1h]', "time": str(time.time() + 5)}
        if self._name == "victoria-metrics":  # its API drops times; its export does not
            text = httpx.get(f"{self.base}/api/v1/export", params={"match[]": '{job="page"}'}, trust_env=False).text
            return {
                tuple(sorted(one["metric"].items())): [
                    (at, float(value))
                    for at, value in zip(one["timestamps"], one["values"], strict=True)
                    if value is not None
                ]
                for one in map(json.loads, text.splitlines())
            }
        answer = httpx.get(f"{self.base}/api/v1/query", params=selector, trust_env=False).json()["data"]["result"]
        return {
            tuple(sorted(one["metric"].items())): [(round(at * 1000), float(value)) for at, value in one["values"]]
            for one in answer
        }


def kept(folder: Path) -> Samples:
    """The same of our own store."""
    with Store.open(folder, read_only=True) as store:
        found: Samples = {}
        for group in store.select([Matcher("job", "=", "page")], 0, LAST_MS):
            for column, labels in enumerate(group.labels):
                values = group.values[:, column]
                live = ~is_stale(values)
                pairs = zip(group.timestamps_ms[live].tolist(), values[live].tolist(), strict=True)
                found.setdefault(labels, []).extend(pairs)
        return found


def counters(samples: Samples) -> int:
    return max((len(pairs) for labels, pairs in samples.items() if ("__name__", "counted_total") in labels), default=0)


@pytest.mark.parametrize("name", ["prometheus", "victoria-metrics"])
def test_a_peer_receives_what_was_scraped_through_restarts_and_kill_9(
    name: str, tmp_path: Path, page: tuple[str, list[str]]
) -> None:
    url, lines = page
    peer = Peer(name, tmp_path)
    port = free_port()
    ours = [sys.executable, "-c", START, "serve", "--port", str(port), "--data", str(tmp_path / "ours")]
    ours += ["--scrape", f"{url},job=page", "--interval", "200ms", "--timeout", "200ms", "--no-telemetry"]
    ours += ["--forward-remote-write", f"{peer.base}/api/v1/write"]
    ready = f"http://127.0.0.1:{port}/-/ready"
    with running(peer.command, peer.ready), running(ours, ready) as process:
        wait_for(lambda: counters(peer.samples()) >= 3)
        lines.remove("doomed 1")
        wait_for(lambda: peer.shows("level") and not peer.shows("doomed"))  # long before five minutes
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running(ours, ready) as process:  # the peer is away: what is scraped now waits on disk
        before = counters(kept(tmp_path / "ours"))
        wait_for(lambda: counters(kept(tmp_path / "ours")) >= before + 5)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running(peer.command, peer.ready), running(ours, ready):
        wait_for(lambda: counters(peer.samples()) >= before + 7)
        theirs = peer.samples()
        mine = kept(tmp_path / "ours")
    sent_ms = max(at for pairs in theirs.values() for at, _ in pairs)
    assert len(theirs) == len(mine) >= 8
    for labels, kept_pairs in mine.items():
        pairs = [(at, value) for at, value in kept_pairs if at <= sent_ms]
        taken = dict(theirs[labels])
        assert len(taken) == len(pairs), labels
        expected = dict(pairs) if name == "prometheus" else pytest.approx(dict(pairs), rel=1e-9)  # it rounds
        assert {at: taken.get(at) for at, _ in pairs} == expected, labels


def test_the_real_prometheus_takes_exemplars_and_metadata(
    start_prometheus: Callable[..., AbstractContextManager[str]], tmp_path: Path
) -> None:
    series, now_ms = (("__name__", "spread_bucket"), ("le", "+Inf")), round(time.time() * 1000)
    exemplar = Exemplar(series, (("trace_id", "abc"),), 0.25, now_ms)
    flags = ("--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage")
    with DiskQueue(tmp_path / "q.db") as queue, start_prometheus(tmp_path, "", *flags) as url:
        described = {"spread": WrittenMetadata("spread", "histogram", "Spread.", "")}
        samples = SamplesOut(queue, with_exemplars=True, described=described)
        samples.scrape("g", (series,), now_ms, np.ones(1))
        samples.exemplars([exemplar])
        batch = queue.peek(100, 1 << 20)
        assert batch is not None
        post = RemoteWriteOut(f"{url}/api/v1/write").post(batch)
        with httpx.Client(trust_env=False) as http:
            assert http.post(post.url, content=post.body, headers=post.headers).status_code == 204
            query = {"query": "spread_bucket", "start": now_ms / 1000 - 60, "end": now_ms / 1000 + 60}
            (found,) = http.get(f"{url}/api/v1/query_exemplars", params=query).json()["data"]
    assert found["seriesLabels"] == dict(series)
    assert found["exemplars"] == [{"labels": {"trace_id": "abc"}, "value": "0.25", "timestamp": now_ms / 1000}]


def test_what_the_real_prometheus_scrapes_and_writes_to_us_is_equal_on_both_sides(
    tmp_path: Path, page: tuple[str, list[str]]
) -> None:
    url, lines = page
    port, own = free_port(), tmp_path / "ours"
    peer = Peer("prometheus", tmp_path)
    target = url.removeprefix("http://").removesuffix("/metrics")
    (tmp_path / "prometheus.yml").write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: page, static_configs: [{{targets: ['{target}']}}]}}]\n"
        f"remote_write: [{{url: 'http://127.0.0.1:{port}/api/v1/write', "
        "queue_config: {batch_send_deadline: 200ms, min_backoff: 50ms, max_backoff: 200ms}}]\n"
    )
    ours = [sys.executable, "-c", START, "serve", "--port", str(port), "--data", str(own), "--no-telemetry"]
    ready = f"http://127.0.0.1:{port}/-/ready"
    with running(peer.command, peer.ready):
        with running(ours, ready) as process:
            wait_for(lambda: counters(kept(own)) >= 5)
            lines.remove("doomed 1")
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        with running(ours, ready):
            before = counters(kept(own))
            wait_for(lambda: counters(kept(own)) >= before + 5)
            mine = kept(own)
            theirs = peer.samples()
    assert len(mine) == len(theirs) >= 8
    for labels, pairs in mine.items():
        assert pairs == theirs[labels][: len(pairs)], labels
