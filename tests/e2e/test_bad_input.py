"""What a person gets wrong: one clear line on stderr, exit code 2 (or 4xx), and nothing else stops."""

import json
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(loadline_command, tmp_path):
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [loadline_command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    return run


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that was said."""
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.strip().splitlines()
    return line


def test_an_unknown_key_of_the_settings_file(run, tmp_path):
    (tmp_path / "loadline.toml").write_text("[engine]\nprot = 8000\n")
    assert refused(run("up")) == "loadline.toml:2: engine.prot is no setting; did you mean port?"


@pytest.mark.parametrize("part", ["engine", "collector", "alerts", "dashboard"])
def test_a_port_in_use(run, part):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = refused(run(part, "serve", "--port", str(port)))
    assert line == f"127.0.0.1:{port} is in use; choose another with --port"


@pytest.mark.parametrize("part", ["engine", "collector", "alerts", "dashboard"])
def test_listening_beyond_loopback_without_a_token(run, part):
    assert "--auth-token-file" in refused(
        run(part, "serve", "--host", "0.0.0.0", "--port", "0" if part != "dashboard" else "18999")
    )


def test_a_checkpoint_without_a_tokenizer(run, tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    line = refused(run("engine", "serve", "--model", str(folder), "--port", "0"))
    assert str(folder) in line
    assert "tokenizer.json" in line or "config.json" in line


def test_a_rule_that_cannot_be_read(run, tmp_path):
    (tmp_path / "slo.yml").write_text(
        "groups:\n  - name: slo\n    rules:\n      - alert: HighTTFT\n        expr: vector(1)\n        for: 5mins\n"
    )
    done = run("alerts", "check", "slo.yml")
    assert done.returncode == 1
    assert 'slo.yml:6:14: alert "HighTTFT": for is "5mins"' in done.stdout + done.stderr


def test_a_malformed_row_of_a_trace_is_named_and_the_rest_is_read(run, tmp_path):
    (tmp_path / "trace.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "yesterday,1,1\n"
        "2023-11-16 18:17:04.0319600,3180,8\n"
    )
    done = run("replay", "inspect", "trace.csv", "--json")
    assert done.returncode == 0
    assert "trace.csv:3: set aside: bad_timestamp" in done.stderr
    assert json.loads(done.stdout)["rows"] == 2


def test_a_trace_that_is_none(run, tmp_path):
    (tmp_path / "notes.txt").write_text("hello\n")
    assert "not a trace in a format that is known here" in refused(run("replay", "inspect", "notes.txt"))


def test_a_body_that_is_no_json(fleet):
    answer = httpx.post(
        fleet.url("engine") + "/v1/completions",
        content=b'{"prompt": ',
        headers={"Content-Type": "application/json"},
        trust_env=False,
    )
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_a_query_that_is_no_promql(fleet):
    answer = httpx.get(fleet.url("collector") + "/api/v1/query", params={"query": "sum("}, trust_env=False)
    assert answer.status_code == 400
    assert answer.json()["errorType"] == "bad_data"
