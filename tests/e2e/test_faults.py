"""Faults put into a running fleet: the alert fires, the response acts on the gateway, API and page say so.

One ``loadline up --gateway`` with a small KV cache, rules that are evaluated every second, and a target of the test's
own that can be made to talk nonsense.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

PATIENCE_S = 45
CHROMIUM = Path("/usr/bin/chromium")
HTTP = httpx.Client(trust_env=False, timeout=30.0)

RULES = """
groups:
  - name: faults
    interval: 1s
    rules:
      - alert: KVExhausted
        expr: max by (instance) (max_over_time(loadline_kv_cache_usage_ratio[5s])) > 0.9
        labels: {severity: page}
        annotations: {summary: the KV cache is full, response: tighten_limits}
      - alert: Slow
        expr: |
          sum by (replica) (rate(loadline_gateway_first_byte_seconds_sum[5s]))
            / sum by (replica) (rate(loadline_gateway_first_byte_seconds_count[5s])) > 0.5
        keep_firing_for: 5s
        labels: {severity: page}
        annotations: {summary: answers are slow, response: open_breaker}
      - alert: Crashed
        expr: min by (replica) (min_over_time(loadline_gateway_replica_healthy[3s])) == 0
        labels: {severity: page}
        annotations: {summary: the replica is gone, response: restart_replica}
      - alert: BadData
        expr: rate(loadline_collector_scraped_bad_lines_total[5s]) > 0
        labels: {severity: page}
        annotations: {summary: numbers cannot be read, response: drain_replica, response_target: all}
"""
CATALOGUE = """
[tighten_limits]
mode = "automatic"
set = {model_concurrency = 1}
cool_down = "0s"

[open_breaker]
mode = "assisted"
least_left = 0

[restart_replica]
mode = "automatic"
cool_down = "0s"

[drain_replica]
mode = "automatic"
least_left = 0
cool_down = "0s"
"""


class Page(BaseHTTPRequestHandler):
    """A target; what it says is the server's ``text``."""

    def do_GET(self) -> None:
        body = self.server.text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class House:
    """The running fleet: addresses, its process, the odd target, where restarts leave their mark."""

    ports: dict[str, int]
    process: psutil.Process
    odd: ThreadingHTTPServer
    restarted: Path

    def url(self, part: str) -> str:
        return f"http://127.0.0.1:{self.ports[part]}"

    def gateway_state(self) -> dict[str, Any]:
        return HTTP.get(f"{self.url('gateway')}/admin/state", headers={"Authorization": "Bearer admin"}).json()

    def restarts(self) -> list[str]:
        return self.restarted.read_text().split() if self.restarted.exists() else []

    def replica(self) -> dict[str, Any]:
        (replica,) = self.gateway_state()["replicas"]
        return replica

    def firing(self, name: str) -> bool:
        """As the collector's API says it, which passes the alerts process's answer on."""
        alerts = HTTP.get(f"{self.url('collector')}/api/v1/alerts").json()["data"]["alerts"]
        return any(one["labels"]["alertname"] == name and one["state"] == "firing" for one in alerts)

    def response(self, name: str) -> dict[str, Any] | None:
        """The latest response to alerts of this name."""
        listed = HTTP.get(f"{self.url('alerts')}/api/v1/responses").json()["data"]["responses"]
        return next((one for one in listed if one["alertname"] == name), None)

    def in_state(self, name: str, *states: str) -> dict[str, Any]:
        return eventually(lambda: self.response(name), lambda one: one is not None and one["state"] in states)

    @contextmanager
    def asked(self, clients: int, tokens: int) -> Iterator[None]:
        """That many clients ask through the gateway, one request of ``tokens`` after the other, while this is open."""
        over = threading.Event()

        def client(number: int) -> None:
            body = {"model": "tiny", "prompt": f"{number} " * 40, "max_tokens": tokens, "ignore_eos": True}
            for _ in range(500):
                if over.is_set():
                    return
                answer = HTTP.post(f"{self.url('gateway')}/v1/completions", json=body)
                over.wait(0 if answer.status_code == 200 else 0.2)

        with ThreadPoolExecutor(clients) as pool:
            for number in range(clients):
                pool.submit(client, number)
            try:
                yield
            finally:
                over.set()


def eventually(ask: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """The first answer of ``ask`` that is ``wanted``, within PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not wanted(answer := ask()):
        assert time.monotonic() < deadline, f"still {answer!r}"
        time.sleep(0.1)
    return answer


@contextmanager
def odd_target() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.text = "odd 1\n"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, loadline_command: str, ports: Callable[..., dict[str, int]]):
    folder = tmp_path_factory.mktemp("faults")
    chosen = ports("engine", "gateway", "collector", "alerts", "dashboard")
    restarted = folder / "restarted"
    script = folder / "restart.sh"
    script.write_text(f'echo "$LOADLINE_REPLICA" >> {restarted}\n')
    (folder / "admin.token").write_text("admin")
    (folder / "rules.yml").write_text(RULES)
    (folder / "responses.toml").write_text(CATALOGUE)
    with odd_target() as odd:
        (folder / "loadline.toml").write_text(f"""
[engine]
port = {chosen["engine"]}
num_blocks = 48
max_model_len = 512

[gateway]
enabled = true
port = {chosen["gateway"]}
admin_token_file = "{folder}/admin.token"
restart_command = "sh {script}"
probe_interval_s = 0.5
probe_timeout_s = 5.0

[collector]
port = {chosen["collector"]}
data = "{folder}/collector"
interval = "1s"
scrape = ["http://127.0.0.1:{odd.server_port}/metrics,job=odd"]

[alerts]
port = {chosen["alerts"]}
state = "{folder}/alerts.db"
rules = ["{folder}/rules.yml"]
responses = "{folder}/responses.toml"

[dashboard]
port = {chosen["dashboard"]}

[plan]
headroom = false
""")
        command = [loadline_command, "up", "--config", str(folder / "loadline.toml"), "--no-traffic"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            log: list[str] = []
            for line in process.stderr:
                log.append(line)
                if "Ctrl-C stops all" in line:
                    break
            assert process.poll() is None, "".join(log)
            drain = threading.Thread(target=process.stderr.read)
            drain.start()
            try:
                yield House(chosen, psutil.Process(process.pid), odd, restarted)
            finally:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=20)
                finally:
                    process.kill()
                    drain.join()


class Reader:
    """Reads the dashboard's Alerts page in a browser; without one, which only CI insists on, it reads nothing."""

    def __init__(self, page: Any) -> None:
        self._page = page

    def finds(self, alert: str, *words: str) -> None:
        """The history has the alert's firing, and the row of its latest response has every word."""
        if self._page is None:
            return
        from playwright.sync_api import expect

        fired = self._page.locator("#al-changes li").filter(has_text="Firing").filter(has_text=alert).first
        row = self._page.locator("#al-responses tr").filter(has_text=alert).first
        expect(fired).to_be_visible(timeout=PATIENCE_S * 1000)
        for word in words:
            expect(row).to_contain_text(word, timeout=PATIENCE_S * 1000)


@pytest.fixture(scope="module")
def reader(house: House) -> Iterator[Reader]:
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        yield Reader(None)
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(f"{house.url('dashboard')}/alerts?range=5m")
        yield Reader(page)
        browser.close()


@pytest.mark.timeout(120)
def test_out_of_memory_a_full_kv_cache_tightens_the_gateways_limits_until_it_is_over(house: House, reader: Reader):
    with house.asked(clients=12, tokens=300):
        eventually(lambda: house.firing("KVExhausted"), bool)
        acted = house.in_state("KVExhausted", "acted")
        assert house.gateway_state()["limits"]["model_concurrency"] == 1
        assert acted["did"] == [{"change": "limits", "body": {"model_concurrency": 1}}]
        reader.finds("KVExhausted", "In force", "tighten_limits", '"model_concurrency":1')
    undone = house.in_state("KVExhausted", "undone")
    assert house.gateway_state()["limits"]["model_concurrency"] is None
    assert [line["state"] for line in undone["log"]] == ["held", "acting", "acted", "undone"]


@pytest.mark.timeout(120)
def test_latency_waits_for_a_click_and_then_the_breaker_opens(house: House, reader: Reader):
    with house.asked(clients=12, tokens=300):
        eventually(lambda: house.firing("Slow"), bool)
        waiting = house.in_state("Slow", "waiting")
        assert waiting["allowed"] == ["confirm", "dismiss"]
        assert house.replica()["breaker"] == "closed"
        reader.finds("Slow", "Waiting", "open_breaker", "Confirm")
        path = f"{house.url('alerts')}/api/v1/responses/{waiting['id']}/confirm"
        assert HTTP.post(path, json={"by": "ada", "comment": "seen"}).json()["data"]["by"] == "ada"
        eventually(lambda: (house.replica()["breaker"], house.replica()["opened_by"]), ("open", "operator").__eq__)
    house.in_state("Slow", "undone")
    reader.finds("Slow", "Undone", "by ada")
    assert house.replica()["breaker"] == "closed"


@pytest.mark.timeout(120)
def test_a_crash_runs_the_restart_command_once_and_the_history_tells_it(house: House, reader: Reader):
    before = house.restarts()
    engine = next(one for one in house.process.children(recursive=True) if "engine" in one.cmdline())
    engine.kill()
    eventually(lambda: house.firing("Crashed"), bool)
    acted = house.in_state("Crashed", "acted", "over")
    assert acted["action"] == "restart"
    assert house.restarts() == [*before, house.url("engine")]
    eventually(lambda: house.firing("Crashed"), lambda firing: not firing)
    house.in_state("Crashed", "over")
    found = HTTP.get(f"{house.url('alerts')}/api/v1/history", params={"alertname": "Crashed"}).json()["data"]["changes"]
    assert [one["state"] for one in found[:2]] == ["resolved", "firing"]
    reader.finds("Crashed", "Over", "restart_replica", house.url("engine"))


@pytest.mark.timeout(120)
def test_bad_data_drains_until_the_numbers_can_be_read_again(house: House, reader: Reader):
    house.odd.text = "odd 1\nodd{ 1 nonsense\n"
    eventually(lambda: house.firing("BadData"), bool)
    house.in_state("BadData", "acted")
    assert house.replica()["draining"]
    reader.finds("BadData", "In force", "drain_replica", house.url("engine"))
    house.odd.text = "odd 1\n"
    house.in_state("BadData", "undone")
    assert not house.replica()["draining"]
