"""``loadline engine serve`` as a real process: start, answer, stop, and refusals in one line."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from probe_engine.cli import app
from probe_engine.errors import SettingsError
from probe_engine.runtime.build import build_engine
from probe_engine.server.address import read_token
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("--num-blocks", "512", "--threads", "1")


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "loadline.py"), "engine", *arguments]


def refused(*arguments: str) -> str:
    done = subprocess.run(command("serve", *arguments), capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr.strip()


@contextmanager
def serving(*arguments: str):
    """A running server's process and URL; killed at the end if it still lives."""
    process = subprocess.Popen(
        command("serve", "--port", "0", *SMALL, *arguments), stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("listening on "):
                yield process, line.removeprefix("listening on ").strip()
                break
        else:
            pytest.fail(f"the server ended with {process.wait()}")
    finally:
        process.kill()
        process.communicate()


def test_a_server_streams_to_the_official_client_and_answers_its_probes():
    import openai

    with serving("--served-model-name", "nano") as (_, url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
            stream = client.chat.completions.create(
                model="nano",
                messages=[{"role": "user", "content": "hello"}],
                max_completion_tokens=5,
                stream=True,
                stream_options={"include_usage": True},
                extra_body={"ignore_eos": True},
            )
            chunks = list(stream)
            completion = client.completions.create(model="nano", prompt="hello", max_tokens=3, temperature=0)
            with pytest.raises(openai.NotFoundError, match="does not exist"):
                client.completions.create(model="other", prompt="x")
            assert [model.id for model in client.models.list()] == ["nano"]
        assert chunks[-1].usage.completion_tokens == 5
        assert completion.usage.prompt_tokens == 5
        assert httpx.get(f"{url}/ready").json() == {"status": "ready"}
        assert httpx.head(f"{url}/metrics").status_code == 200


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_server_and_ends_open_streams_with_an_error(signal_number):
    body = {"prompt": ["x"] * 50, "max_tokens": 8000, "stream": True, "ignore_eos": True}
    with serving() as (process, url), httpx.stream("POST", f"{url}/v1/completions", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(signal_number)
        *_, error, _, done, _ = list(lines)
        assert process.wait(30) == 0
        assert done == "data: [DONE]"
        assert json.loads(error.removeprefix("data: "))["error"]["message"] == "the engine is shutting down"
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_a_port_in_use_is_one_line_and_exit_code_2():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("--port", str(port)) == f"127.0.0.1:{port} is in use; choose another with --port"


def test_a_checkpoint_without_tokenizer_names_directory_and_file(tmp_path: Path):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": 32,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "max_position_embeddings": 64,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    line = refused("--model", str(tmp_path), "--port", "0")
    assert "\n" not in line
    assert str(tmp_path) in line
    assert "tokenizer.json is missing" in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--host", "0.0.0.0"), "--host 0.0.0.0 is reachable from other machines; give --auth-token-file"),
        (("--kv-memory", "lots"), "--kv-memory is 'lots'; a size looks like 256MiB, 4GiB or 1000000"),
        (("--port", "70000"), "--port is 70000; input should be less than or equal to 65535"),
        (
            ("--auth-token-file", "/nope"),
            "/nope: the token cannot be read: [Errno 2] No such file or directory: '/nope'",
        ),
    ],
)
def test_settings_that_cannot_be_used_are_one_line_each(arguments: tuple[str, ...], line: str):
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert (done.exit_code, done.stderr.strip(), done.stdout) == (2, line, "")


def test_limits_that_contradict_each_other_are_told():
    settings = EngineSettings(max_num_batched_tokens=8)
    with pytest.raises(SettingsError, match=r"max_num_seqs is 256; .* at most max_num_batched_tokens"):
        build_engine(settings, EngineMetrics("tiny"))


@pytest.mark.parametrize(
    ("text", "size"), [("256MiB", 2**28), ("1.5 GiB", 3 * 2**29), ("2gb", 2 * 10**9), ("4096", 4096), ("1 B", 1)]
)
def test_sizes_are_read_with_their_unit(text: str, size: int):
    assert EngineSettings(kv_memory=text).kv_memory_bytes == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "0", "1e400", "nan", "5 bits"])
def test_a_size_that_is_none_is_refused(text: str):
    with pytest.raises(ValidationError, match="a size looks like"):
        EngineSettings(kv_memory=text)


def test_a_token_file_needs_one_token(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("s3cret\n")
    settings = EngineSettings(host="0.0.0.0", auth_token_file=path)
    assert read_token(settings.host, settings.auth_token_file) == "s3cret"
    path.write_text("two words")
    with pytest.raises(SettingsError, match="holds no token"):
        read_token(settings.host, settings.auth_token_file)
