"""Memory of a process that holds the reference load and is asked: ``python -m benchmarks.store_memory``.

Data as in ``store_append``: 2,000 series, every 5 s, 24 h in tiles of which all but the last day's are joined, and
almost 2 h more in the head. A fresh process opens the store as the writer does, and then, round after round, appends a
scrape of each target, fetches from 50 series over 1 h to 500 series over 24 h, evaluates PromQL over them, and cuts,
compacts and retains. Its resident memory is read after each step (``sampled`` is the
highest); peaks are the kernel's (``ru_maxrss``) and hold what lives for moments within a query, too.
"""

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psutil

from benchmarks.store_append import BLOCK_STEPS, START_MS, STEP_MS, Target, append_hours
from collector.model.matchers import Matcher
from collector.promql import Engine
from collector.store import Store

HOURS = 24.0
HEAD_STEPS = BLOCK_STEPS - 20
END_MS = START_MS + int(HOURS * 3_600_000) + HEAD_STEPS * STEP_MS
QUERIES = (
    ("sum by (instance) (rate(llm_requests_total[5m]))", 24.0, 60_000),
    ("histogram_quantile(0.95, sum by (le) (rate(llm_latency_seconds_bucket[5m])))", 6.0, 60_000),
    ("avg_over_time(llm_usage_ratio[1h])", 24.0, 300_000),
)
FETCHES = (("llm_latency_seconds_bucket", "[0-9]|1[0-9]", 1.0), ("llm_requests_total", ".*", 24.0))


def fill(directory: Path) -> None:
    """Write the data."""
    targets = [Target(number + 1, 1_000) for number in range(2)]
    with Store.open(directory, retention_ms=None) as store:
        append_hours(store, targets, HOURS)
        store.compact(START_MS + int(HOURS * 3_600_000))
        rows = [target.window(HEAD_STEPS) for target in targets]
        for step in range(HEAD_STEPS):
            for target, values in zip(targets, rows, strict=True):
                time_ms = END_MS + (step - HEAD_STEPS) * STEP_MS
                store.append_scrape(target.key, target.layout, time_ms, values[step])


def hold(directory: Path) -> dict[str, float]:
    """Open, append, ask, maintain; resident memory in MB after each."""
    process = psutil.Process()
    figures = {"imports": process.memory_info().rss / 1e6}
    targets = [Target(number + 1, 1_000) for number in range(2)]
    engine = Engine()
    with Store.open(directory) as store:
        figures["opened"] = process.memory_info().rss / 1e6
        highest = 0.0
        for step in range(10):
            for target in targets:
                store.append_scrape(target.key, target.layout, END_MS + step * STEP_MS, np.full(1_000, float(step)))
            for name, series, hours in FETCHES:
                matchers = [Matcher("__name__", "=", name), Matcher("series", "=~", series)]
                store.select(matchers, END_MS - int(hours * 3_600_000), END_MS)
                highest = max(highest, process.memory_info().rss / 1e6)
            figures.setdefault("peak_fetching", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
            for text, hours, step_ms in QUERIES:
                engine.range(store, text, END_MS - int(hours * 3_600_000), END_MS, step_ms)
                highest = max(highest, process.memory_info().rss / 1e6)
            store.maintain(END_MS)
        figures["sampled"] = highest
        figures["peak_asked"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        store.maintain(START_MS + 3 * 86_400_000)
        figures["peak_asked_and_compacted"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        figures["at_rest"] = process.memory_info().rss / 1e6
        figures["head"] = store.stats().head_bytes / 1e6
        figures["cache"] = store.stats().cached_bytes / 1e6
    return figures


def main() -> None:
    """Fill, hold in a process of its own, print."""
    if len(sys.argv) > 1:
        print(json.dumps(hold(Path(sys.argv[1]))))
        return
    with tempfile.TemporaryDirectory() as directory:
        fill(Path(directory))
        command = [sys.executable, "-m", "benchmarks.store_memory", directory]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures = json.loads(done.stdout)
    for name, value in figures.items():
        print(f"{name:40} {value:10.1f} MB")
    rows = [
        {"what": f"memory, 2,000 series x 24 h: {name}", "ours": round(value, 1), "unit": "MB", "lower_is_better": True}
        for name, value in figures.items()
    ]
    print(json.dumps({"benchmark": "store_memory", "rows": rows}))


if __name__ == "__main__":
    main()
