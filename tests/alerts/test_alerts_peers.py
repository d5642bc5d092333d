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
        self.server.heard.append((body["status"], body["alerts"][0]["labels"]["alertname"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_killed_while_firing_it_pages_nobody_twice_and_its_alerts_stand_in_prometheus(
    prometheus_binary: Path, tmp_path: Path
):
    (tmp_path / "prometheus.yml").write_text("")
    (tmp_path / "rules.yml").write_text(
        "groups: [{name: g, interval: 1s, rules: [{alert: On, expr: vector(1) > 0, for: 1s}]}]"
    )
    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    hook.heard = []
    threading.Thread(target=hook.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{free_port()}"
    prometheus = [
        prometheus_binary, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
        "--web.enable-remote-write-receiver", f"--web.listen-address={url.removeprefix('http://')}",
    ]  # fmt: skip
    serve = [
        sys.executable, "-m", "loadline", "alerts", "serve", "--port", "0", "--source", url,
        "--rules", tmp_path / "rules.yml", "--state", tmp_path / "alerts.db",
        "--webhook", f"http://127.0.0.1:{hook.server_port}/",
    ]  # fmt: skip
    log = (tmp_path / "alerts.log").open("w")
    try:
        with running(prometheus, tmp_path, f"{url}/-/ready"), Client(url) as client:
            first = subprocess.Popen(serve, stderr=log)
            try:
                wait_for(lambda: hook.heard, "the first page")
                wait_for(lambda: client.query('ALERTS{alertname="On",alertstate="firing"}'), "ALERTS in Prometheus")
                (since,) = client.query('ALERTS_FOR_STATE{alertname="On"}')
            finally:
                first.kill()
                first.wait()
            begun_ms = time.time() * 1000
            second = subprocess.Popen(serve, stderr=log)
            try:
                wait_for(
                    lambda: any(
                        sample.value == since.value
                        for sample in client.query("ALERTS_FOR_STATE")
                        if client.query("max(timestamp(ALERTS_FOR_STATE)) * 1000")[0].value > begun_ms + 1500
                    ),
                    "evaluations after the restart",
                )
            finally:
                second.terminate()
                assert second.wait(timeout=10) == 0
        assert hook.heard == [("firing", "On")]
    finally:
        log.close()
        hook.shutdown()
        hook.server_close()
