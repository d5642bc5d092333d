"""The same page, rules and planner over our collector, the real Prometheus and VictoriaMetrics: one address differs."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from alerts.group import Group
from alerts.rulefile import read_rule_file
from alerts.writeback import Writeback
from collector.client import Client
from collector.model.errors import SourceError
from collector.model.series import Series
from collector.signals import detect
from dashboard.source import Source
from planner.room.headroom import PoolHeadroom, live_headroom
from planner.slo import Slo

pytestmark = pytest.mark.peer

APART_MS = 2500
"""Samples lie between the moments of queries: Prometheus 2 and 3 differ in what happens exactly at a window's edge."""

SLICES = 8
"""Samples are written a few minutes of all series at a time: Prometheus takes no hour-old ones after those of now."""

RULES = """
groups:
- name: g
  rules:
  - {record: "pool:requests:rate5m", expr: "sum by (model_name) (rate(loadline_request_success_total[5m]))"}
  - {alert: Pressure, expr: "max by (model_name) (loadline_kv_cache_usage_ratio) > 0.9", labels: {severity: warning}}
  - {alert: Gone, expr: "up == 0"}
"""

SERVERS = {
    "collector": [
        [sys.executable, "-c", "from collector.cli import app; app()", "serve", "--no-telemetry"],
        ["--out-of-order", "2h", "--port={port}", "--data={folder}/data"],
    ],
    "prometheus": [
        ["prometheus", "--config.file={folder}/prometheus.yml", "--storage.tsdb.path={folder}/data"],
        ["--web.listen-address=127.0.0.1:{port}", "--web.enable-remote-write-receiver", "--log.level=error"],
    ],
    "victoria-metrics": [
        ["victoria-metrics", "-storageDataPath={folder}/data", "-httpListenAddr=127.0.0.1:{port}"],
        ["-search.latencyOffset=0s"],
    ],
}
NEAR = {"prometheus": 1e-6, "victoria-metrics": 0.12}
"""How far figures may be from the collector's: VictoriaMetrics has rates of its own, which reach before the window."""


@pytest.fixture(scope="module")
def history(made_fleet: Callable[..., Any]) -> tuple[int, list[Series]]:
    """A moment just past, and an hour of two pools until then, one of them in trouble."""
    now_s = int(time.time()) // 60 * 60
    pool = type(made_fleet().fleet.pools[0])
    pools = (pool("a", 1, 12, 0.2, 0.0165, 200, 0.66, trouble=True), pool("b", 1, 12, 0.14, 0.017, 210, 0.52))
    fleet = made_fleet(pools=pools, now_s=now_s).fleet
    return now_s, [
        Series(labels, group.timestamps_ms - APART_MS, group.values[:, column])
        for group in fleet.groups
        for column, labels in enumerate(group.labels)
    ]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, history: tuple[int, list[Series]]) -> Iterator[dict[str, Client]]:
    """Clients of the three, which hold the history."""
    now_s, series = history
    clients: dict[str, Client] = {}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, words in SERVERS.items():
            folder = tmp_path_factory.mktemp(name)
            (folder / "prometheus.yml").write_text("scrape_configs: []\n")
            command = [word for some in words for word in some]
            if shutil.which(command[0]) is None:
                (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{command[0]} is not installed")
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
            command = [word.replace("{port}", str(port)).replace("{folder}", str(folder)) for word in command]
            processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            clients[name] = Client(f"http://127.0.0.1:{port}", timeout_s=30.0)
        for client in clients.values():
            await_answer(client)
            write(client, series)
            wait_for(lambda client=client: len(client.query("up", now_s)) == 2)
        yield clients
    finally:
        for client in clients.values():
            client.close()
        for process in processes:
            process.terminate()
            process.wait(10.0)


def wait_for(what: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 60.0
    while not what():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.1)


def await_answer(client: Client) -> None:
    def answers() -> bool:
        try:
            return bool(client.query("vector(1)"))
        except SourceError:
            return False

    wait_for(answers)


def write(client: Client, series: Sequence[Series]) -> None:
    for rows in np.array_split(np.arange(len(series[0].timestamps_ms)), SLICES):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        client.write(Series(one.labels, one.timestamps_ms[part], one.values[part]) for one in series)


@pytest.fixture(scope="module")
def lines(servers: dict[str, Client], history: tuple[int, list[Series]]) -> dict[str, tuple[PoolHeadroom, ...]]:
    """What the planner says of each."""
    return {
        name: live_headroom(client, detect(client.metric_names()), Slo(), history[0])
        for name, client in servers.items()
    }


def test_the_page_draws_the_same(
    servers: dict[str, Client],
    lines: dict[str, tuple[PoolHeadroom, ...]],
    history: tuple[int, list[Series]],
    page_of: Callable[..., Any],
    read: Callable[[Any], str],
) -> None:
    def drawn(name: str) -> tuple[dict[str, np.ndarray], str, list[str]]:
        client = Client(servers[name].base_url)
        source = Source(client, lambda slo, at_s: lines[name], clock=lambda: float(history[0]), deadline_s=60.0)
        try:
            boxes = page_of(source).ask()
        finally:
            source.close()
        traces = {
            f"{panel} {trace['name']}": np.array(trace["y"], dtype=float)
            for panel in ("ov-ttft", "ov-kv", "ov-waiting", "ov-preemptions")
            for trace in boxes[f"{panel}-graph"]["figure"]["data"]
            if trace.get("name")
        }
        states = [read(tile).split(" ")[0] for tile in boxes["ov-tiles"]["children"]]
        return traces, read(boxes["ov-verdict"]["children"]).split(".")[0], states

    traces, verdict, tiles = drawn("collector")
    assert "a is breaching TTFT p95" in verdict
    assert len(traces) >= 8
    for name, near in NEAR.items():
        theirs, said, shown = drawn(name)
        assert (said, shown, theirs.keys()) == (verdict, tiles, traces.keys()), name
        for trace, values in traces.items():
            np.testing.assert_allclose(
                theirs[trace][-20:], values[-20:], rtol=near, atol=1e-9, err_msg=f"{name}: {trace}"
            )


def test_rules_find_the_same_and_their_results_are_there(
    servers: dict[str, Client], history: tuple[int, list[Series]]
) -> None:
    now_s = history[0]
    (rules,) = read_rule_file(RULES, "rules.yml").groups
    recorded = {}
    for name, client in servers.items():
        Group(rules, client, Writeback(client.write), interval_s=15.0).evaluate(float(now_s))
        wait_for(lambda client=client: bool(client.query('ALERTS{alertname="Pressure"}', now_s)))
        (alert,) = client.query("ALERTS", now_s)
        assert dict(alert.labels) == {
            "__name__": "ALERTS",
            "alertname": "Pressure",
            "alertstate": "firing",
            "model_name": "a",
            "severity": "warning",
        }
        found = client.query('{__name__="pool:requests:rate5m"}', now_s)
        recorded[name] = {dict(one.labels)["model_name"]: one.value for one in found}
    assert recorded["collector"].keys() == {"a", "b"}
    for name, near in NEAR.items():
        assert recorded[name] == pytest.approx(recorded["collector"], rel=near), name


def test_the_planner_draws_the_same_load_lines(lines: dict[str, tuple[PoolHeadroom, ...]]) -> None:
    ours = lines["collector"]
    assert [(one.pool, one.replicas) for one in ours] == [("a", 1), ("b", 1)]
    for name, near in NEAR.items():
        for mine, theirs in zip(ours, lines[name], strict=True):
            assert (theirs.pool, theirs.replicas, theirs.reason) == (mine.pool, mine.replicas, mine.reason), name
            assert theirs.load_req_per_s == pytest.approx(mine.load_req_per_s, rel=near), name
            assert theirs.load_line_req_per_s == pytest.approx(mine.load_line_req_per_s, rel=max(near, 0.05)), name
