"""``promtool query`` of Prometheus 2.42 speaks to the API as to Prometheus."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
from starlette.types import ASGIApp

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.model.labels import from_mapping
from collector.model.series import Series

pytestmark = pytest.mark.peer

NOW_S = 1_700_000_000
Ask = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def ask(parts: Parts, serve_app: Callable[[ASGIApp], str]) -> Ask:
    """``promtool query KIND OPTIONS SERVER ARGUMENTS`` over two counters."""
    program = shutil.which("promtool")
    if program is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("promtool is not installed")
    times = np.arange(NOW_S - 600, NOW_S + 1, 15, dtype=np.int64) * 1000
    for pool in "ab":
        labels = from_mapping({"__name__": "tokens_total", "pool": pool})
        parts.store.append_series([Series(labels, times, np.arange(len(times), dtype=np.float64))])
    url = serve_app(create_app(parts))

    def run(kind: str, options: list[str], arguments: list[str]) -> subprocess.CompletedProcess[str]:
        command = [program, "query", kind, *options, url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def test_an_instant_query(ask: Ask) -> None:
    done = ask("instant", [f"--time={NOW_S}"], ["tokens_total"])
    lines = {f'tokens_total{{pool="{pool}"}} => 40 @[{NOW_S}]' for pool in "ab"}
    assert (done.returncode, set(done.stdout.splitlines())) == (0, lines)
    done = ask("instant", [f"--time={NOW_S}", "--format=json"], ["sum(tokens_total)"])
    assert json.loads(done.stdout) == [{"metric": {}, "value": [NOW_S, "80"]}]
    assert ask("instant", [f"--time={NOW_S}"], ["1+1"]).stdout == f"scalar: 2 @[{NOW_S}]\n"


def test_a_range_query(ask: Ask) -> None:
    options = [f"--start={NOW_S - 60}", f"--end={NOW_S}", "--step=30s"]
    done = ask("range", options, ['tokens_total{pool="a"}'])
    points = "\n".join(f"{value} @[{at_s}]" for value, at_s in ((36, NOW_S - 60), (38, NOW_S - 30), (40, NOW_S)))
    assert (done.returncode, done.stdout) == (0, f'tokens_total{{pool="a"}} =>\n{points}\n')


def test_series_and_label_values(ask: Ask) -> None:
    window = [f"--start={NOW_S - 60}", f"--end={NOW_S}"]
    done = ask("series", [*window, "--match=tokens_total"], [])
    assert set(done.stdout.splitlines()) == {f'{{__name__="tokens_total", pool="{pool}"}}' for pool in "ab"}
    assert ask("labels", window, ["pool"]).stdout == "a\nb\n"


def test_a_refusal_is_told(ask: Ask) -> None:
    done = ask("instant", [], ["sum("])
    assert done.returncode == 1
    assert 'bad_data: invalid parameter "query"' in done.stdout + done.stderr
