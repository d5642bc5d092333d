"""The README's commands, as a newcomer would type them one after the other beside a running fleet."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DEFAULT_PORTS = {"engine": 8000, "collector": 9190, "alerts": 9193, "dashboard": 8050}


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_first_screen_says_how_to_start_and_how_to_test():
    first_screen = "\n".join(README.read_text(encoding="utf-8").splitlines()[:25])
    assert "make up" in first_screen
    assert "make test" in first_screen
    assert "http://127.0.0.1:8050" in first_screen


def on_the_fleets_ports(command: str, ports: Mapping[str, int]) -> str:
    for part, port in DEFAULT_PORTS.items():
        command = command.replace(f"127.0.0.1:{port}", f"127.0.0.1:{ports[part]}")
    return command


@pytest.mark.timeout(600)
def test_every_command_of_the_readme_runs(fleet, tmp_path):
    for name in ("samples", "alerts", "Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LOADLINE_REPLAY_TARGET": fleet.url("engine"),
        "LOADLINE_COLLECTOR_URL": fleet.url("collector"),
        "COLUMNS": "160",
    }
    for command in commands():
        if command.startswith("make "):
            target = shlex.split(command, comments=True)[1]
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8"), f"no such target: {command}"
            continue
        shell = ["bash", "-c", on_the_fleets_ports(command, fleet.ports)]
        done = subprocess.run(shell, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "<html" in (tmp_path / "twin.html").read_text(encoding="utf-8")[:2000].lower()
