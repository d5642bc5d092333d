"""The gateway as a process: it says where it listens, serves, and stops cleanly; wrong usage is one line."""

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("LOADLINE_")}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from probe_engine.cli import app; app()", "gateway", *arguments]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_stops_at_a_signal(number: signal.Signals):
    arguments = command("--upstream", "http://127.0.0.1:9", "--port", "0")
    with subprocess.Popen(arguments, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline().strip()
        assert line.startswith("listening on http://127.0.0.1:")
        with urllib.request.urlopen(line.removeprefix("listening on ") + "/health", timeout=10) as answer:
            assert answer.status == 200
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--upstream is missing; give at least one"),
        (("--upstream", "nowhere"), "--upstream is ['nowhere']; 'nowhere' is no URL"),
        (("--upstream", "http://a", "--host", "0.0.0.0"), "give --auth-token-file"),
        (("--upstream", "http://a", "--cache-redis-url", "nonsense"), "cache_redis_url "),
        (("--upstream", "http://a", "--restart-command", " "), "--restart-command is ' '; a command is wanted"),
        (("--config", "/nonexistent.toml"), "/nonexistent.toml: cannot be read"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str):
    done = subprocess.run(command(*arguments), cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
