import os
import signal
import socket
import subprocess
import sys
from urllib.request import urlopen

import pytest
from flask import Flask
from typer.testing import CliRunner

from dashboard.cli import app
from dashboard.errors import SettingsError
from dashboard.server import add_metrics, read_slo, read_token


def run(*arguments):
    return CliRunner().invoke(app, ["serve", *arguments])


def test_a_port_in_use_is_one_line_and_exit_code_2():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--port", str(port))
    assert result.exit_code == 2
    assert result.stderr == f"127.0.0.1:{port} is in use; choose another with --port\n"


def test_a_restart_can_be_seen_on_the_metrics_page():
    app = Flask("dashboard")
    add_metrics(app, "/prefix/")
    page = app.test_client().get("/prefix/metrics")
    assert page.content_type.startswith("text/plain")
    assert "\nprocess_start_time_seconds " in page.text


def test_beyond_loopback_a_token_is_needed():
    result = run("--host", "0.0.0.0")
    assert result.exit_code == 2
    assert (
        result.stderr == "--host is 0.0.0.0; beyond loopback the dashboard needs --auth-token-file or --trusted-proxy\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--source", "prometheus:9090"), "--source is 'prometheus:9090'; a source looks like http://127.0.0.1:9190"),
        (("--port", "70000"), "--port is 70000; input should be less than or equal to 65535"),
        (("--slo", "/nowhere.toml"), "--slo: /nowhere.toml: cannot be read: No such file or directory"),
        (("--auth-token-file", "/nowhere"), "--auth-token-file: /nowhere cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_single_promises_override_the_file(tmp_path):
    path = tmp_path / "slo.toml"
    path.write_text("[slo]\nttft_p95_s = 0.5\nitl_p95_s = 0.04\n")
    slo = read_slo(path, {"itl_p95_s": 0.03})
    assert (slo.ttft_p95_s, slo.itl_p95_s, slo.e2e_p95_s) == (0.5, 0.03, 12.0)


def test_a_promise_that_makes_no_sense_is_refused():
    with pytest.raises(SettingsError, match="ttft_p95_s"):
        read_slo(None, {"ttft_p95_s": -1.0})


def test_an_empty_token_is_no_token(tmp_path):
    path = tmp_path / "token"
    path.write_text(" \n")
    with pytest.raises(SettingsError, match="is empty"):
        read_token("--auth-token-file", path)
    path.write_text(" abc \n")
    assert read_token("--auth-token-file", path) == "abc"


def test_importing_the_command_line_brings_no_dash():
    code = "import sys, dashboard.cli; assert not {'dash', 'plotly', 'flask', 'waitress', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_listens_answers_and_stops_on_a_signal(signum):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "from dashboard.cli import app; app()", "serve", "--port", str(port)]
    environment = os.environ | {"LOADLINE_DASHBOARD_SOURCE": "http://127.0.0.1:9"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        while said and not said.startswith("listening"):
            said = process.stderr.readline()
        assert said == f"listening on http://127.0.0.1:{port}\n"
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
            assert answer.status == 200
        process.send_signal(signum)
        assert process.wait(5) == 0
