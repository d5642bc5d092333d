"""Beside the real ones: promtool's rule engine, Prometheus's API, Alertmanager."""

import itertools
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml

from alerts.alert import Alert, advance
from alerts.api import group_json
from alerts.dispatch import Pace
from alerts.errors import RuleFileError
from alerts.group import Group
from alerts.manager import Manager
from alerts.message import Links, Receiver
from alerts.notify import Notifier
from alerts.rule import AlertRule, RuleGroup
from alerts.rulefile import load_rule_file, read_rule_file
from alerts.state import State
from alerts.telemetry import Telemetry
from alerts.writeback import Writeback
from collector.client import Client
from collector.model.durations import format_duration
from collector.model.labels import get

pytestmark = pytest.mark.peer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(ask: Callable[[], object], what: str, timeout_s: float = 20.0) -> object:
    """The first true answer of ``ask``; a peer that is not up yet refuses connections."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if answer := ask():
                return answer
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    pytest.fail(f"{what} did not come within {timeout_s} s")


@contextmanager
def running(command: list[object], folder: Path, ready_url: str) -> Iterator[None]:
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([str(word) for word in command], cwd=folder, stdout=log, stderr=log)
    try:
        with httpx.Client(trust_env=False) as client:
            wait_for(lambda: client.get(ready_url).is_success, f"{command[0]}: {(folder / 'log').read_text()[-500:]}")
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_promtools_rule_engine_sees_every_alert_in_the_same_state_at_every_step(promtool: Path, tmp_path: Path):
    generator = random.Random(7)
    holds = [generator.random() < 0.7 for _ in range(80)]
    rules = [
        AlertRule(f"A{for_s}_{keep_s}", "x == 1", for_s, keep_s)
        for for_s, keep_s in itertools.product((0, 60, 90, 180), (0, 60, 150))
    ]
    expected: list[list[dict]] = [[] for _ in holds]
    for rule in rules:
        alerts: dict = {}
        labels = (("alertname", rule.name),)
        for step, held in enumerate(holds):
            now_s = step * 60.0
            alerts = advance(rule, alerts, [Alert(labels, (), 1.0, now_s)] if held else [], now_s)
            for alert in alerts.values():
                if alert.state != "inactive":
                    text = f'ALERTS{{alertname="{rule.name}",alertstate="{alert.state}"}}'
                    expected[step].append({"labels": text, "value": 1})
    file = {
        "groups": [
            {
                "name": "g",
                "rules": [
                    {
                        "alert": rule.name,
                        "expr": rule.expr,
                        "for": format_duration(round(rule.for_s * 1000)),
                        "keep_firing_for": format_duration(round(rule.keep_firing_for_s * 1000)),
                    }
                    for rule in rules
                ],
            }
        ]
    }
    suite = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": "x", "values": " ".join("1" if held else "0" for held in holds)}],
                "promql_expr_test": [
                    {"expr": "ALERTS", "eval_time": f"{step}m", "exp_samples": samples}
                    for step, samples in enumerate(expected)
                ],
            }
        ],
    }
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(file))
    (tmp_path / "test.yml").write_text(yaml.safe_dump(suite))
    done = subprocess.run(
        [promtool, "test", "rules", tmp_path / "test.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


RULE = "groups: [{{name: g, rules: [{}]}}]"
FILES = [
    "",
    "groups:",
    "groups: []",
    "groups: [{name: g}]",
    "groups: [{name: g, rules: []}, {name: g, rules: []}]",
    "groups: [{name: '', rules: []}]",
    "groups: [{rules: []}]",
    "groups: {name: g}",
    "group: []",
    "groups: [{name: g, interval: 1x}]",
    "groups: [{name: g, limit: 3}]",
    "groups: [",
    RULE.format("{alert: A, expr: up}"),
    RULE.format("{alert: A}"),
    RULE.format("{expr: up}"),
    RULE.format("{alert: A, record: b, expr: up}"),
    RULE.format("{alert: A, expr: up ==}"),
    RULE.format("{alert: A, expr: 'rate(up)'}"),
    RULE.format("{alert: A, expr: up, for: 5m, keep_firing_for: 1h30m}"),
    RULE.format("{alert: A, expr: up, for: 5mins}"),
    RULE.format("{alert: A, expr: up, for: 5}"),
    RULE.format("{alert: A, expr: up, for: ''}"),
    RULE.format("{alert: A, expr: up, FOR: 5m}"),
    RULE.format("{alert: A, expr: up, labels: {severity: page, number: 1, flag: true}}"),
    RULE.format("{alert: A, expr: up, labels: {'a-b': x}}"),
    RULE.format("{alert: A, expr: up, labels: {__name__: x}}"),
    RULE.format("{alert: A, expr: up, labels: [a]}"),
    RULE.format("{alert: A, expr: up, annotations: {'a-b': x}}"),
    RULE.format("{alert: A, expr: up, annotations: {s: '{{ $labels.x }} {{ $value | humanize }}'}}"),
    RULE.format("{alert: A, expr: up, annotations: {s: '{{ $labls.x }}'}}"),
    RULE.format("{alert: A, expr: up, annotations: {s: '{{ nope 1 }}'}}"),
    RULE.format("{alert: A, expr: up, annotations: {s: '{{ if true }}'}}"),
    RULE.format("{alert: A, expr: up, labels: {s: '{{ $value }'}}"),
    RULE.format("{alert: A B, expr: up}"),
    RULE.format("{alert: '', expr: up}"),
    RULE.format("{alert: A, expr: ''}"),
    RULE.format("{alert: A, expr: [up]}"),
    RULE.format("{alert: A, expr: up, labels: }"),
    RULE.format("{alert: A, expr: up, annotations: {s: }}"),
    RULE.format("{alert: A, expr: up, annotations: {s: [1]}}"),
    "groups: [{name: g, rules: [up]}]",
    "[]",
    "3",
    "groups: [{name: g, rules: {alert: A}}]",
    RULE.format("{record: 'a:b', expr: up, labels: {a: b}}"),
    RULE.format("{record: 'a b', expr: up}"),
    RULE.format("{record: a, expr: up, for: 5m}"),
    RULE.format("{record: a, expr: up, annotations: {s: t}}"),
    RULE.format("{record: a, expr: up}, {record: a, expr: up}"),
    RULE.format("{record: a, expr: 1}"),
]


def test_promtool_gives_the_same_verdict_on_every_file(promtool: Path, tmp_path: Path):
    paths = [tmp_path / f"{number}.yml" for number in range(len(FILES))]
    for path, text in zip(paths, FILES, strict=True):
        path.write_text(text)
    command = [promtool, "check", "rules", "--lint=none", *paths]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout.split("Checking ")
    accepted = {path for path in paths for part in said if part.startswith(f"{path}\n") and "SUCCESS" in part}
    assert accepted
    differing = []
    for path, text in zip(paths, FILES, strict=True):
        try:
            read_rule_file(text, "f.yml")
            ours = True
        except RuleFileError:
            ours = False
        if ours != (path in accepted):
            differing.append((text, f"ours: {ours}"))
    assert differing == [], done.stderr


def test_prometheus_answers_in_the_same_shape_and_takes_no_writes(prometheus_binary: Path, tmp_path: Path, caplog):
    rules = {
        "groups": [
            {
                "name": "g",
                "interval": "1s",
                "rules": [
                    {
                        "alert": "A",
                        "expr": "vector(0.5) > 0",
                        "labels": {"severity": "page"},
                        "annotations": {"s": "{{ $value | humanizePercentage }}"},
                    },
                    {"alert": "Quiet", "expr": "vector(0) > 1", "for": "5m"},
                    {"record": "r", "expr": "vector(1)", "labels": {"team": "t"}},
                    {"record": "bad", "expr": 'label_replace(vector(1), "1", "", "", "")'},
                ],
            }
        ]
    }
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    (tmp_path / "prometheus.yml").write_text("rule_files: [rules.yml]\n")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        prometheus_binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    with running(command, tmp_path, f"{url}/-/ready"), Client(url) as client:

        def evaluated() -> dict | None:
            (group,) = client.rules()
            return group if all(rule["health"] != "unknown" for rule in group["rules"]) else None

        theirs = wait_for(evaluated, "the first evaluation")
        assert isinstance(theirs, dict)
        (spec,) = load_rule_file(tmp_path / "rules.yml").groups
        group = Group(spec, client, Writeback(client.write), interval_s=60)
        group.evaluate(time.time())
    ours = group_json(group.status)
    assert set(ours) == set(theirs)
    for mine, other in zip(ours["rules"], theirs["rules"], strict=True):
        assert set(mine) | {"lastError"} == set(other) | {"lastError"}
        same = ("name", "state", "query", "duration", "keepFiringFor", "labels", "annotations", "health", "type")
        assert {key: mine.get(key) for key in same} == {key: other.get(key) for key in same}
    (mine,), (other,) = ours["rules"][0]["alerts"], theirs["rules"][0]["alerts"]
    changing = {"activeAt"}
    assert {key: value for key, value in mine.items() if key not in changing} == {
        key: value for key, value in other.items() if key not in changing
    }
    assert "results of rules (ALERTS, recording rules) are not kept" in caplog.text
    assert "404" in caplog.text


def test_alertmanager_shows_what_fires_and_hears_of_its_end(alertmanager_binary: Path, source, tmp_path: Path):
    (tmp_path / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        alertmanager_binary, "--config.file=am.yml", "--storage.path=data", "--cluster.listen-address=",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    begun = time.time()
    source.answer("up == 0", lambda time_s: {"a": 0.0} if time_s < begun + 60 else {})
    rule = AlertRule("Down", "up == 0", labels=(("severity", "page"),), annotations=(("summary", "gone"),))
    state, telemetry, writeback = State(None), Telemetry(), Writeback(source.write)
    group = Group(RuleGroup("g", "rules.yml", (rule,)), source, writeback, interval_s=30)
    with running(command, tmp_path, f"{url}/-/ready"), httpx.Client(trust_env=False) as http:
        notifier = Notifier(Receiver("alertmanager", url), state, telemetry, http)
        manager = Manager(
            [group], state=state, notifiers=[notifier], telemetry=telemetry, writeback=writeback,
            links=Links("http://source", "http://page"),
        )  # fmt: skip
        manager.evaluate(group, begun)
        assert notifier.deliver(begun)
        (alert,) = http.get(f"{url}/api/v2/alerts").json()
        assert alert["labels"] == {"alertname": "Down", "instance": "a", "severity": "page"}
        assert alert["annotations"] == {"summary": "gone"}
        assert alert["generatorURL"] == "http://source/api/v1/query?query=up+%3D%3D+0"
        assert notifier.waiting == 0
        source.answer("up == 0", lambda _: {})
        manager.evaluate(group, time.time())
        assert notifier.deliver(time.time())
        assert http.get(f"{url}/api/v2/alerts").json() == []


class Hook(BaseHTTPRequestHandler):
    """A webhook that keeps what it is sent."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.heard.append((body["status"], body["alerts"][0]["labels"]["alertname"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def webhook() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    server.heard, server.bodies = [], []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


GROUPED = """
route: {{receiver: hook, group_by: [severity], group_wait: 1s, group_interval: 3s, repeat_interval: 1h}}
receivers: [{{name: hook, webhook_configs: [{{url: "http://127.0.0.1:{port}/"}}]}}]
"""


def test_alertmanager_groups_the_alerts_of_several_rules_as_we_do(alertmanager_binary: Path, source, tmp_path: Path):
    rules = [AlertRule(name, name, labels=(("severity", "page"),)) for name in ("first", "second")]
    begun = time.time()
    source.answer("first", lambda time_s: {"a": 1.0} if time_s < begun + 2 else {})
    source.answer("second", lambda time_s: {"b": 1.0} if begun + 0.5 < time_s < begun + 5.5 else {})
    with webhook() as theirs, webhook() as ours:
        (tmp_path / "am.yml").write_text(GROUPED.format(port=theirs.server_port))
        url = f"http://127.0.0.1:{free_port()}"
        command = [
            alertmanager_binary, "--config.file=am.yml", "--storage.path=data", "--cluster.listen-address=",
            f"--web.listen-address={url.removeprefix('http://')}",
        ]  # fmt: skip
        state, telemetry, writeback = State(None), Telemetry(), Writeback(source.write)
        with running(command, tmp_path, f"{url}/-/ready"), httpx.Client(trust_env=False) as http:
            begun = time.time()
            receivers = [Receiver("alertmanager", url), Receiver("webhook", f"http://127.0.0.1:{ours.server_port}/")]
            manager = Manager(
                [
                    Group(RuleGroup(rule.name, "r.yml", (rule,), interval_s=0.1), source, writeback, interval_s=30)
                    for rule in rules
                ],
                state=state, notifiers=[Notifier(one, state, telemetry, http) for one in receivers],
                telemetry=telemetry, writeback=writeback, links=Links("http://source", "http://page"),
                pace=Pace(("severity",), wait_s=1, interval_s=3, repeat_s=3600),
            )  # fmt: skip
            manager.start()
            try:
                for server in (theirs, ours):
                    wait_for(lambda server=server: len(server.bodies) == 3, "three notifications")
            finally:
                manager.stop()

    def shown(body: dict) -> tuple:
        alerts = sorted((one["status"], one["labels"]["alertname"]) for one in body["alerts"])
        return body["status"], body["groupKey"], body["groupLabels"], alerts

    assert list(map(shown, ours.bodies)) == list(map(shown, theirs.bodies))
    assert [len(body["alerts"]) for body in ours.bodies] == [2, 2, 1]
    for mine, other in zip(ours.bodies, theirs.bodies, strict=True):
        assert mine["commonLabels"] == other["commonLabels"]
        assert set(mine) == set(other)


def test_killed_while_firing_nobody_is_paged_twice_and_the_for_clocks_go_on(
    prometheus_binary: Path, alertmanager_binary: Path, tmp_path: Path
):
    (tmp_path / "prometheus.yml").write_text("")
    (tmp_path / "rules.yml").write_text(
        "groups: [{name: g, interval: 1s, rules: [{alert: On, expr: vector(1) > 0, for: 1s}, "
        "{alert: Waits, expr: vector(1) > 0, for: 1h}]}]"
    )
    url, manager_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    prometheus = [
        prometheus_binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
        "--web.enable-remote-write-receiver", f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    alertmanager = [
        alertmanager_binary, "--config.file=am.yml", "--storage.path=am", "--cluster.listen-address=",
        f"--web.listen-address={manager_url.removeprefix('http://')}",
    ]  # fmt: skip
    with (
        webhook() as ours,
        webhook() as theirs,
        (tmp_path / "alerts.log").open("w") as log,
        running(prometheus, tmp_path, f"{url}/-/ready"),
        Client(url) as client,
    ):
        (tmp_path / "am.yml").write_text(GROUPED.format(port=theirs.server_port))
        serve = [
            sys.executable, "-m", "loadline", "alerts", "serve", "--port", "0", "--source", url,
            "--rules", tmp_path / "rules.yml", "--state", tmp_path / "alerts.db", "--alertmanager", manager_url,
            "--webhook", f"http://127.0.0.1:{ours.server_port}/",
        ]  # fmt: skip
        with running(alertmanager, tmp_path, f"{manager_url}/-/ready"):
            first = subprocess.Popen(serve, stderr=log)
            try:
                wait_for(lambda: ours.heard and theirs.heard, "the first pages")
                wait_for(lambda: client.query('ALERTS{alertname="On",alertstate="firing"}'), "ALERTS in Prometheus")
                before = {get(one.labels, "alertname"): one.value for one in client.query("ALERTS_FOR_STATE")}
            finally:
                first.kill()
                first.wait()
            killed_s = time.time()
            second = subprocess.Popen(serve, stderr=log)
            try:
                last = "max(timestamp(ALERTS_FOR_STATE))"
                wait_for(lambda: client.query(last)[0].value > killed_s + 2, "evaluations after the restart")
                after = {get(one.labels, "alertname"): one.value for one in client.query("ALERTS_FOR_STATE")}
                down_s = time.time() - killed_s
                (waits,) = client.query('ALERTS{alertname="Waits"}')
            finally:
                second.terminate()
                assert second.wait(timeout=10) == 0
    assert ours.heard == theirs.heard == [("firing", "On")]
    assert after["On"] == before["On"]
    assert before["Waits"] <= after["Waits"] <= before["Waits"] + down_s
    assert get(waits.labels, "alertstate") == "pending"
