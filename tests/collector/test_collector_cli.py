"""``loadline collector`` as a person runs it."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from collector.cli import app
from collector.model.labels import from_mapping
from collector.model.listening import listen
from collector.server import configuration_of, token_of
from collector.settings import CollectorSettings
from collector.store import Store

START = "from collector.cli import app; app()"


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A collector process that listens, and its address; it is stopped afterwards."""
    command = [sys.executable, "-c", START, "serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"listening on (http://\S+)", line):
                    yield found[1], process
                    break
            else:
                pytest.fail("the collector did not start")
        finally:
            process.send_signal(signal.SIGTERM)
            process.stderr.read()


def test_a_collector_scrapes_itself_keeps_what_it_saw_and_stops_cleanly(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    target = f"127.0.0.1:{port},job=self"
    arguments = ("--port", str(port), "--data", tmp_path / "d", "--interval", "200ms", "--scrape", target)
    with serving(*arguments) as (url, process), httpx.Client(base_url=url, trust_env=False) as http:
        assert url == f"http://127.0.0.1:{port}"
        while http.get("/api/v1/targets").json()["data"]["activeTargets"][0]["health"] == "unknown":
            pass
    assert process.returncode == 0
    with Store.open(tmp_path / "d", read_only=True) as store:
        jobs = store.label_values("job", (), 0, 1 << 50)
        assert "self" in jobs
    code, out, _ = run("stats", tmp_path / "d", "--json")
    assert code == 0
    assert json.loads(out)["series"] > 4


def test_a_configuration_is_read_again_when_asked_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text("scrape_configs: [{job_name: one, static_configs: [{targets: ['127.0.0.1:9']}]}]")
    arguments = ("--data", tmp_path / "d", "--config", path, "--no-telemetry")
    with serving(*arguments) as (url, process), httpx.Client(base_url=url, trust_env=False) as http:

        def jobs() -> list[str]:
            return list(http.get("/api/v1/scrape_pools").json()["data"]["scrapePools"])

        assert jobs() == ["one"]
        path.write_text("scrape_configs: [{job_name: two}]")
        assert (http.post("/-/reload").status_code, jobs()) == (200, ["two"])
        path.write_text("scrape_configs: [{job_nam: three}]")
        refused = http.post("/-/reload")
        assert (refused.status_code, jobs()) == (500, ["two"])
        assert f'failed to reload config: {path}:1:19: scrape_configs: "job_nam" is not understood' in refused.text
        assert http.get("/api/v1/status/runtimeinfo").json()["data"]["reloadConfigSuccess"] is False
        assert "two" in http.get("/api/v1/status/config").json()["data"]["yaml"]
        assert http.get("/-/reload").status_code == 405
        path.write_text("scrape_configs: [{job_name: four}]")
        process.send_signal(signal.SIGHUP)
        while jobs() != ["four"]:
            pass
        assert http.get("/api/v1/status/flags").json()["data"]["config"] == str(path)
    assert process.returncode == 0


def test_a_stop_does_not_wait_for_a_running_query(tmp_path: Path) -> None:
    with Store.open(tmp_path / "d") as store:
        layout = tuple(from_mapping({"__name__": "a", "n": str(number)}) for number in range(2000))
        for step in range(60):
            store.append_scrape("g", layout, 1_700_000_000_000 + step * 1000, np.ones(2000))
    slow = "+".join(["sum(quantile_over_time(0.5, a[1m]))"] * 150)
    asked = {"query": slow, "start": "1699999000", "end": "1700001000", "step": "1"}
    answers: list[int] = []
    with serving("--data", tmp_path / "d", "--no-telemetry") as (url, process):

        def ask() -> None:
            with httpx.Client(base_url=url, trust_env=False, timeout=60.0) as http, suppress(httpx.HTTPError):
                answers.append(http.post("/api/v1/query_range", data=asked).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        with httpx.Client(base_url=url, trust_env=False) as http:
            while "loadline_collector_queries_total 1.0" not in http.get("/metrics").text:
                pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30.0) == 0
        asking.join()
    assert answers in ([503], [])


def test_a_port_that_is_in_use_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-c", START, "serve", "--port", str(port), "--data", str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"127.0.0.1:{port} is in use; choose another with --port\n"


def test_an_answer_does_not_wait_for_the_clients_acknowledgement() -> None:
    async def accept() -> int:
        seen: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Accepting(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                seen.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        with listen("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            async with await asyncio.get_running_loop().create_server(Accepting, sock=listener):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                nodelay = await seen
                writer.close()
                await writer.wait_closed()
                return nodelay

    assert asyncio.run(accept()) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "256.0.0.1", "--auth-token-file", __file__), "cannot listen on 256.0.0.1:0"),
        (("--scrape", "htp:/x"), 'scrape target "htp:/x": one looks like http://host:port/metrics, or host:port'),
        (("--scrape", "ftp://x"), 'scrape target "ftp://x"'),
        (("--out-of-order", "5 m"), "--out-of-order is 5 m; a duration looks like"),
        (("--downsample-after", "0"), "--downsample-after is 0; a duration is longer than nothing"),
        (("--retention-bytes", "0"), "--retention-bytes is 0"),
        (("--host", "0.0.0.0"), "listening beyond this machine needs --auth-token-file"),
        (("--interval", "fast"), "--interval is fast; a duration looks like"),
        (("--port", "70000"), "--port is 70000;"),
        (("--scrape", "ftp://x"), "one looks like http://host:port/metrics"),
        (("--scrape", "a:1", "--scrape", "a:1"), "is given 2 times"),
        (("--config", "/nonexistent.yml"), "/nonexistent.yml: cannot be read"),
        (("--auth-token-file", "/nonexistent"), "/nonexistent: cannot be read"),
    ],
)
def test_settings_that_make_no_sense_are_one_line_and_exit_code_2(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, _, err = run("serve", "--data", tmp_path, "--port", "0", *arguments)
    assert code == 2
    assert words in err
    assert len(err.splitlines()) == 1


def test_flags_and_configuration_file_both_give_targets(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("scrape_configs: [{job_name: node, static_configs: [{targets: ['b:9100']}]}]")
    settings = CollectorSettings(scrape=("a:1,job=engine",), config=config, interval="2s")
    targets = sorted(configuration_of(settings).targets(), key=lambda target: target.job)
    assert [(target.job, target.interval_s, target.timeout_s) for target in targets] == [
        ("engine", 2.0, 2.0),
        ("node", 60.0, 10.0),
    ]


def test_a_token_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    assert token_of(CollectorSettings(auth_token_file=path, host="0.0.0.0")) == "s3cret"
    assert token_of(CollectorSettings()) is None


def test_check_tells_what_is_wrong_and_where(tmp_path: Path) -> None:
    good, bad, config = tmp_path / "good.prom", tmp_path / "bad.prom", tmp_path / "prometheus.yml"
    good.write_text("# TYPE a gauge\na 1\n")
    bad.write_text("a 1\nb two\n")
    config.write_text("globals: {}\n")
    assert run("check", good) == (0, f"{good}: ok: 1 series, 1 families\n  not known: a\n", "")
    code, out, _ = run("check", good, bad, config)
    assert code == 1
    assert f"{bad}:2: value 'two' is not a number: two\n" in out
    assert f'{config}:1:1: the file: "globals" is not understood' in out
    code, out, _ = run("check", "--json", bad)
    assert (code, json.loads(out)[0]["kind"]) == (1, "text")


def test_what_cannot_be_read_is_exit_code_2(tmp_path: Path) -> None:
    code, _, err = run("check", tmp_path / "none.prom")
    assert (code, "cannot be read" in err) == (2, True)
    code, _, err = run("stats", tmp_path)
    assert (code, err) == (2, f"{tmp_path}: no collector's data lie there (no loadline.db)\n")
    code, _, err = run("query", "up", "--url", "http://127.0.0.1:9")
    assert (code, "cannot be reached" in err) == (2, True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with Store.open(tmp_path) as store:
        layout = tuple(from_mapping({"__name__": "tokens", "pool": pool}) for pool in "ab")
        for step in range(5):
            values = np.array([step, step * 10.0])
            store.append_scrape("g", layout, 1_700_000_000_000 + step * 5000, values)
    return tmp_path


def test_a_data_directory_is_queried_without_a_server(directory: Path) -> None:
    code, out, _ = run("query", "sum(tokens)", "--data", directory, "--time", "2023-11-14T22:13:40Z", "--json")
    assert code == 0
    assert json.loads(out) == [{"series": "{}", "labels": {}, "values": [[1_700_000_020.0, "44"]]}]


def test_a_range_is_shown_as_a_table(directory: Path) -> None:
    code, out, _ = run(
        "query", "tokens", "--data", directory, "--start", "1700000000", "--end", "1700000010", "--step", "5s"
    )
    assert code == 0
    assert 'tokens{pool="b"}' in out
    assert re.search(r"2023-11-14T22:13:30\.000Z\s+20", out)


def test_a_bad_query_is_exit_code_2(directory: Path) -> None:
    code, _, err = run("query", "sum(", "--data", directory)
    assert code == 2
    assert "sum(" in err
    code, _, err = run("query", "tokens", "--data", directory, "--time", "soon")
    assert (code, "--time" in err) == (2, True)
