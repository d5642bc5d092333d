"""kill -9 at random points of ingestion, many times: no acknowledged sample may be missing, each time the store opens.

    python -m benchmarks.store_kill [--rounds 200] [--seed 1]

A process scrapes 100 series, pushes a batch of 20 that repeats itself, and now and then a late sample, as fast as it
can; beside it a thread cuts, compacts and tidies without a pause. A window is 20 scrapes and a day three windows, so
that all of these happen many times a second. It tells each step once everything of it has been appended. After a random
time it is killed; the store is opened, every sample compared with what was told, and the next process goes on in the
same directory. Exit code 1 at the first difference.
"""

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from collector.model.labels import from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Float64Array, Series
from collector.store import Store
from collector.store.schema import TILE_BITS

SCRAPED = [from_mapping({"__name__": "scraped", "i": str(number)}) for number in range(100)]
PUSHED = [from_mapping({"__name__": "pushed", "i": str(number)}) for number in range(20)]
LATE = from_mapping({"__name__": "late"})
LATE_EVERY = 5
LONGEST_S = 0.6
ROUNDS_OF_ONE = 10
"""After so many kills of one directory the next begins, so that comparing does not take longer and longer."""
FOREVER_MS = 10**13


class Wrong(Exception):
    """The store is not as it was told to be."""


def opened(directory: Path) -> Store:
    """The store, with windows so short that cuts and compactions never end."""
    return Store.open(directory, block_ms=20_000, compact_ms=60_000, retention_ms=None)


@cache
def scraped(step: int) -> Float64Array:
    """Values of one scrape, (100,)."""
    return np.random.default_rng(step).random(len(SCRAPED))


def pushed(step: int) -> Float64Array:
    """Values of one push, (20,)."""
    return step + np.arange(len(PUSHED)) / 100


def push(store: Store, step: int) -> None:
    """What is not scraped of a step; what is there already stays as it is."""
    store.append_batch(PUSHED, np.full(len(PUSHED), 1000 * step), pushed(step))
    if step % LATE_EVERY == 0:
        store.append_series([Series(LATE, np.array([1000 * step]), np.array([float(step)]))])
        store.append_series([Series(LATE, np.array([1000 * step - 700]), np.array([-float(step)]))])


def write(directory: Path) -> None:
    """Append until killed, telling each step."""
    store = opened(directory)
    newest_ms = store.stats().newest_ms
    step = 0 if newest_ms is None else newest_ms // 1000
    if newest_ms is not None:  # killed in the middle of a step: what is missing of it comes now
        push(store, step)
        step += 1
    now_ms = [1000 * step]

    def maintain() -> None:
        while True:
            store.maintain(now_ms[0])

    threading.Thread(target=maintain, daemon=True).start()
    while True:
        store.append_scrape("target", SCRAPED, 1000 * step, scraped(step))
        push(store, step)
        now_ms[0] = 1000 * step
        print(step, flush=True)
        step += 1


def run_and_kill(directory: Path, after_s: float) -> int | None:
    """Let a writer work for some time after its first word, kill it; the last step it told, or None."""
    command = [sys.executable, "-m", "benchmarks.store_kill", "--write", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        timer = threading.Timer(after_s, process.send_signal, [signal.SIGKILL])
        timer.start()
        told = first + process.stdout.read()
        timer.cancel()
    lines = told[: told.rfind("\n") + 1].split()
    return int(lines[-1]) if lines else None


def interrupted(directory: Path) -> bool:
    """Whether the kill struck within a cut or a compaction: tiles of no chunk, or chunks on their way out."""
    with sqlite3.connect(f"{(directory / 'loadline.db').as_uri()}?mode=ro", uri=True) as connection:
        count = f"SELECT count(*) FROM tiles WHERE id >> {TILE_BITS} NOT IN (SELECT id FROM chunks)"
        (left,) = connection.execute(count).fetchone()
    connection.close()
    return bool(left)


def check(directory: Path, told: int) -> int:
    """Compare everything with what the writers appended up to step ``told``; returns how many samples there are."""
    with opened(directory) as store:
        if store.stats().recovered.damaged:
            raise Wrong(f"damage: {store.stats().recovered.problems}")
        samples = _check_matrix(store, "scraped", told, scraped) + _check_matrix(store, "pushed", told, pushed)
        (late,) = store.select([Matcher("__name__", "=", "late")], -FOREVER_MS, FOREVER_MS)
        found = dict(zip(late.timestamps_ms.tolist(), late.values[:, 0].tolist(), strict=True))
        for step in range(0, told + 1, LATE_EVERY):
            if found.get(1000 * step) != step or found.get(1000 * step - 700) != -step:
                raise Wrong(f"late samples of step {step} are {found.get(1000 * step)}, {found.get(1000 * step - 700)}")
        return samples + len(found)


def _check_matrix(store: Store, name: str, told: int, values_of: Callable[[int], Float64Array]) -> int:
    (group,) = store.select([Matcher("__name__", "=", name)], 0, FOREVER_MS)
    steps = len(group.timestamps_ms)
    if steps not in (told + 1, told + 2):  # one more may have been stored but not told
        raise Wrong(f"{name}: {steps} steps are there, {told + 1} were told")
    if group.timestamps_ms.tolist() != [1000 * step for step in range(steps)]:
        raise Wrong(f"{name}: times differ")
    expected = np.stack([values_of(step) for step in range(steps)])
    order = [int(dict(labels)["i"]) for labels in group.labels]
    if sorted(order) != list(range(expected.shape[1])) or not np.array_equal(group.values, expected[:, order]):
        raise Wrong(f"{name}: values differ")
    return int(group.values.size)


def main() -> int:
    """Kill, open, compare, again and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="how many times to kill")
    parser.add_argument("--seed", type=int, default=1, help="of the times of the kills")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write is not None:
        write(options.write)
    rng = np.random.default_rng(options.seed)
    samples = struck = steps = 0
    began = time.monotonic()
    for first in range(0, options.rounds, ROUNDS_OF_ONE):
        with tempfile.TemporaryDirectory() as name:
            directory, told, there = Path(name), -1, 0
            for number in range(first, min(first + ROUNDS_OF_ONE, options.rounds)):
                last = run_and_kill(directory, float(rng.random() * LONGEST_S))
                told = told if last is None else last
                struck += interrupted(directory)
                try:
                    there = check(directory, told)
                except Wrong as wrong:
                    print(f"round {number + 1}, seed {options.seed}: {wrong}", file=sys.stderr)
                    return 1
        samples, steps = samples + there, steps + told + 1
        print(f"{number + 1} kills, {steps} steps, {samples:,} samples, {struck} within a cut or compaction, "
              f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)  # fmt: skip
    rows = [
        {"what": "kill -9 during ingestion, survived", "ours": options.rounds, "unit": "times"},
        {"what": "kill -9 within a cut or compaction, survived", "ours": struck, "unit": "times"},
        {"what": "samples compared, all there", "ours": samples, "unit": "samples"},
    ]
    print(json.dumps({"benchmark": "store_kill", "rows": [row | {"lower_is_better": False} for row in rows]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
