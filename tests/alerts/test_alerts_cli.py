import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from alerts.cli import app
from alerts.rulefile import packs

GOOD = "groups: [{name: g, rules: [{alert: A, expr: up == 0}, {record: r, expr: sum(up)}]}]\n"
BAD = "groups: [{name: g, rules: [{alert: A, expr: up ==}]}]\n"


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, text in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"{name}.yml").write_text(text)
    return {name: tmp_path / f"{name}.yml" for name in ("good", "bad", "absent")}


def test_check_gives_promtools_verdict(files):
    done = run("check", files["good"])
    assert done.exit_code == 0
    assert done.stdout == f"Checking {files['good']}\n  SUCCESS: 2 rules found\n"
    done = run("check", files["good"], files["bad"])
    assert done.exit_code == 1
    assert f'{files["bad"]}:1:45: alert "A": expr does not parse' in done.stdout
    assert run("check", files["absent"]).exit_code == 2


def test_check_answers_in_json(files):
    done = run("check", "--json", files["bad"])
    (verdict,) = json.loads(done.stdout)["files"]
    assert (done.exit_code, verdict["valid"], verdict["path"]) == (1, False, str(files["bad"]))
    assert len(verdict["problems"]) == 1


def test_lint_exits_by_what_it_finds(files, tmp_path: Path):
    assert run("lint", files["good"]).exit_code == 0
    (tmp_path / "odd.yml").write_text("groups: [{name: g, rules: [{alert: A, expr: 'vllm:gone_total > 0'}]}]\n")
    done = run("lint", tmp_path / "odd.yml")
    assert done.exit_code == 1
    assert "no known engine or exporter has a series vllm:gone_total" in done.stdout
    assert {finding["code"] for finding in json.loads(run("lint", "--json", tmp_path / "odd.yml").stdout)} == {
        "unknown-metric", "counter-without-rate",
    }  # fmt: skip
    assert run("lint", files["bad"]).exit_code == 1
    assert run("lint", files["absent"]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--interval", "5mins"], "--interval is '5mins'; must be a duration above 0"),
        (["--port", "70000"], "--port is 70000; input should be less than or equal to 65535"),
        (["--source", "localhost:9090"], "--source is 'localhost:9090'; must be an address"),
        (["--host", "0.0.0.0"], "--auth-token-file must name a token"),
        (["--port", "0", "--rules", "absent.yml"], "absent.yml: cannot be read"),
        (["--port", "0", "--state", "/nowhere/alerts.db"], "/nowhere/alerts.db: cannot be used as state file"),
        (["--auth-token-file", "absent"], "absent: the token cannot be read"),
        (["--gateway", "http://127.0.0.1:8008"], "gateway needs gateway_token_file"),
        (["--responses", "/none/responses.toml"], "/none/responses.toml: cannot be read"),
        (["--response-log", "/none/log"], "/none/log: cannot be written"),
    ],
)
def test_serve_refuses_what_it_cannot_use_in_one_line(arguments: list[str], reason: str):
    done = run("serve", *arguments)
    assert done.exit_code == 2
    assert reason in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_several_rule_files_may_come_from_the_environment(files: dict[str, Path], tmp_path: Path):
    (tmp_path / "a b.yml").write_text(GOOD)
    paths = os.pathsep.join(map(str, (tmp_path / "a b.yml", files["good"], files["absent"])))
    done = CliRunner(env={"LOADLINE_ALERTS_RULES": paths}).invoke(app, ["serve", "--port", "0"])
    assert (done.exit_code, done.stderr.splitlines()[-1][: len(str(files["absent"]))]) == (2, str(files["absent"]))


class Server:
    """``loadline alerts serve`` as a process of its own."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "loadline", "alerts", "serve", *map(str, arguments)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said = ""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            if found := re.search(r"listening on (http://\S+)", line):
                self.url = found[1]
                return
        pytest.fail(f"did not start: {self.said}")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=10)
        self.said += rest
        return self.process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_answers_and_stops_on_a_signal(number: int, tmp_path: Path):
    server = Server("--port", 0, "--source", "http://127.0.0.1:9", "--state", tmp_path / "alerts.db")
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            assert client.get("/-/healthy").status_code == 200
            groups = client.get("/api/v1/rules").json()["data"]["groups"]
            assert sorted(group["name"] for group in groups) == sorted(path.stem for path in packs())
    finally:
        begun = time.monotonic()
        code = server.end(number)
    assert code == 0, server.said
    assert time.monotonic() - begun < 5
    assert "Traceback" not in server.said


def test_a_port_in_use_is_told_in_one_line(tmp_path: Path):
    server = Server("--port", 0, "--source", "http://127.0.0.1:9")
    try:
        port = server.url.rsplit(":", 1)[1]
        done = run("serve", "--port", port)
        assert (done.exit_code, done.stderr) == (2, f"127.0.0.1:{port} is in use; choose another with --port\n")
    finally:
        server.end(signal.SIGTERM)
