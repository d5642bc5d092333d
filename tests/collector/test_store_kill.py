"""kill -9 while scrapes, pushes, cuts and compactions go on: every acknowledged sample is there, with its value."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from collector.model.matchers import Matcher
from collector.store import Store

WRITER = """
import sys, threading
from pathlib import Path
import numpy as np
from collector.model.labels import from_mapping
from collector.model.series import Series
from collector.store import Store

store = Store.open(Path(sys.argv[1]), block_ms=20_000, compact_ms=60_000, retention_ms=None)
layout = [from_mapping({"__name__": "m", "i": str(i)}) for i in range(100)]
pushed = from_mapping({"__name__": "pushed"})
newest = [0]

def cut():
    while True:
        store.maintain(newest[0])

threading.Thread(target=cut, daemon=True).start()
first = 0 if store.stats().newest_ms is None else store.stats().newest_ms // 1000 + 1

def push(step):
    store.append_series([Series(pushed, np.array([1000 * step]), np.array([step * 0.5]))])

if first:  # killed between the two appends of a step, the push is missing; otherwise it is a duplicate
    push(first - 1)
for step in range(first, first + 5_000):
    store.append_scrape("target", layout, 1000 * step, np.random.default_rng(step).random(100))
    push(step)
    newest[0] = 1000 * step
    print(step, flush=True)
"""


def run_and_kill(directory: Path, acknowledgements: int) -> int:
    """Let the writer work for some acknowledgements, kill it, and return the last acknowledged step."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(acknowledgements):
            line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read()
    whole = rest[: rest.rfind("\n") + 1].split()
    return int((whole or [line])[-1])


def assert_steps(directory: Path, acknowledged: int) -> None:
    with Store.open(directory, block_ms=20_000, compact_ms=60_000, retention_ms=None) as store:
        assert store.stats().recovered.damaged == 0
        (group,) = store.select([Matcher("__name__", "=", "m")], 0, 10**12)
        steps = len(group.timestamps_ms)
        assert acknowledged + 1 <= steps <= acknowledged + 2  # one more may have been stored but not told
        assert group.timestamps_ms.tolist() == [1000 * step for step in range(steps)]
        expected = np.stack([np.random.default_rng(step).random(100) for step in range(steps)])
        order = [int(dict(labels)["i"]) for labels in group.labels]
        assert group.values.tobytes() == np.ascontiguousarray(expected[:, order]).tobytes()
        (pushed,) = store.select([Matcher("__name__", "=", "pushed")], 0, 10**12)
        assert len(pushed.timestamps_ms) in (acknowledged + 1, acknowledged + 2)
        assert pushed.values[:, 0].tolist() == [step * 0.5 for step in range(len(pushed.values))]


@pytest.mark.parametrize("seed", range(4))
def test_no_acknowledged_sample_is_lost_to_kill_9_around_cuts_and_compactions(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(2):
        acknowledged = run_and_kill(tmp_path, int(rng.integers(1, 200)))
        assert_steps(tmp_path, acknowledged)
