"""The store's speed and size: durable appends, cuts, bytes per sample, fetches. ``python -m benchmarks.store_append``.

Data: two targets of 1,000 series each, scraped every 5 s: request counters, latency histograms, sums with a full
mantissa, gauges that move and gauges that rest, one restart per target. Seeded, made window by window. Then pushes of
1,000 series that repeat themselves, a day of tiles joined while appends go on, and appends beside two threads that read
as much as they can. What it does not measure: parsing a scrape, a disk that is slow or full, more than two targets
(``--targets`` does), jitter. ``store_memory`` measures memory.

How long an append waits is told beside a control, a process of its own that does nothing but to spin for as long as an
append takes and to write as much to the same disk, at the same pace: what it waits is the machine's. ``own CPU`` is
what the threads of this process worked while an append went on, all together; an append that waits for one of them
waits no longer than that.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil

from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Float64Array, Series
from collector.promql import Engine
from collector.server import SWITCH_S
from collector.store import Store
from collector.store.compacting import COMPACT_MS

START_MS = 1_735_689_600_000
STEP_MS = 5_000
BLOCK_STEPS = 1_440
BUCKETS = 20
PACE_S = 0.005


class Target:
    """A target's series and, window by window, their values."""

    def __init__(self, number: int, series: int) -> None:
        self.rng = np.random.default_rng(number)
        self.key = f"10.0.0.{number}:8000"
        self.kinds = self.rng.choice(5, series, p=[0.3, 0.45, 0.06, 0.12, 0.07])  # counter bucket sum gauge resting
        self.rates = self.rng.gamma(1.0, 2.0, series)
        self.level = np.zeros(series)
        self.layout = [self._labels(place, int(kind)) for place, kind in enumerate(self.kinds)]

    def _labels(self, place: int, kind: int) -> Labels:
        family = ("requests_total", "latency_seconds_bucket", "latency_seconds_sum", "usage_ratio", "info")[kind]
        labels = {"__name__": f"llm_{family}", "job": "vllm", "instance": self.key, "series": str(place // BUCKETS)}
        labels["le" if kind == 1 else "part"] = str(place % BUCKETS)
        return from_mapping(labels)

    def window(self, steps: int) -> Float64Array:
        """Next ``steps`` scrapes, (steps, series) float64."""
        rise = self.rng.poisson(self.rates * (self.kinds < 2), (steps, len(self.rates))).astype(np.float64)
        sums = self.kinds == 2
        rise[:, sums] = self.rng.gamma(2.0, 0.7, (steps, int(sums.sum())))
        values: Float64Array = self.level + np.cumsum(rise, axis=0)
        self.level = values[-1].copy()
        gauges = self.kinds == 3
        count = int(gauges.sum())
        values[:, gauges] = np.where(
            np.arange(count) % 2 == 0,
            self.rng.poisson(8, (steps, count)),
            np.round(self.rng.beta(5, 3, (steps, count)), 3),
        )
        values[:, self.kinds == 4] = 1.0
        return values


def append_hours(store: Store, targets: list[Target], hours: float) -> dict[str, float]:
    """Append ``hours`` of scrapes, cutting in a thread of its own as windows end."""
    latencies: list[float] = []
    spent = cpu = 0.0
    cuts: list[float] = []
    process = psutil.Process()
    series = len(targets[0].layout)
    for window in range(int(hours * 3600_000 / STEP_MS / BLOCK_STEPS)):
        values = [target.window(BLOCK_STEPS) for target in targets]
        first_ms = START_MS + window * BLOCK_STEPS * STEP_MS
        cutting = Thread(target=maintain, args=(store, first_ms + 120_000, cuts))
        cutting.start()
        cpu_before, before = sum(process.cpu_times()[:2]), time.perf_counter()
        for step in range(BLOCK_STEPS):
            for target, rows in zip(targets, values, strict=True):
                begun = time.perf_counter()
                store.append_scrape(target.key, target.layout, first_ms + step * STEP_MS, rows[step])
                latencies.append(time.perf_counter() - begun)
        spent += time.perf_counter() - before
        cutting.join()
        cpu += sum(process.cpu_times()[:2]) - cpu_before
    maintain(store, first_ms + 2 * BLOCK_STEPS * STEP_MS, cuts)
    samples = len(latencies) * series
    ms = np.array(latencies) * 1e3
    return {
        "samples": samples,
        "append_samples_per_s": samples / spent,
        "append_and_cut_cpu_samples_per_s": samples / cpu,
        "append_p50_ms": float(np.median(ms)),
        "append_p99_ms": float(np.percentile(ms, 99)),
        "append_max_ms": float(ms.max()),
        "maintain_p50_s": float(np.median(cuts)),
    }


def maintain(store: Store, now_ms: int, seconds: list[float]) -> None:
    """Maintain and note how long it took."""
    seconds.append(timed(lambda: store.maintain(now_ms)))


def timed(work: Callable[[], object]) -> float:
    """Seconds that ``work()`` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def fetches(directory: Path, hours: float) -> dict[str, float]:
    """Latency of fetches by size: the first of a freshly opened store (warm page cache), the median of seven more."""
    end_ms = START_MS + int(hours * 3600_000)
    figures = {}
    cases = [
        ("50_series_1h", "llm_latency_seconds_bucket", "[0-9]|1[0-9]|2[0-4]", 1.0),
        ("200_series_6h", "llm_latency_seconds_bucket", ".*[02468]", 6.0),
        ("buckets_all", "llm_latency_seconds_bucket", ".*", hours),
        ("instant_all", "llm_.*", ".*", 5 / 60),
    ]
    for label, name, part, length in cases:
        matchers = [Matcher("__name__", "=~", name), Matcher("series", "=~", part)]

        start_ms = end_ms - int(length * 3600_000)
        with Store.open(directory, read_only=True) as store:
            fetch = partial(store.select, matchers, start_ms, end_ms)
            milliseconds = [timed(fetch) * 1e3 for _ in range(8)]
            samples = sum(group.values.size for group in fetch())
        warm_ms = float(np.median(milliseconds[1:]))
        figures[f"fetch_{label}_samples"] = samples
        figures[f"fetch_{label}_cold_ms"] = milliseconds[0]
        figures[f"fetch_{label}_warm_ms"] = warm_ms
        figures[f"fetch_{label}_warm_ns_per_sample"] = warm_ms * 1e6 / max(samples, 1)
    return figures


def pushes() -> dict[str, float]:
    """Samples per second of CPU of batches of 1,000 series that repeat themselves, one sample of each."""
    layout = Target(1, 1_000).layout
    rng = np.random.default_rng(9)
    figures = {}
    with tempfile.TemporaryDirectory() as directory, Store.open(Path(directory), retention_ms=None) as store:
        for kind in ("batch", "series"):
            begun = 0.0
            first_ms = START_MS if kind == "batch" else START_MS + 10**9
            for step in range(501):
                times = np.full(1_000, first_ms + step * STEP_MS) + np.arange(1_000) % 3
                values = rng.poisson(5.0, 1_000).astype(np.float64)
                given = [Series(one, times[i : i + 1], values[i : i + 1]) for i, one in enumerate(layout)]
                before = time.process_time()
                if kind == "batch":
                    store.append_batch(layout, times, values)
                else:
                    store.append_series(given)
                begun += time.process_time() - before if step else 0.0
            figures[f"push_{kind}_samples_per_cpu_s"] = 500_000 / begun
    return figures


def control(file: Path) -> None:
    """Spin for 0.1 ms and write 8 KiB every 5 ms until the input ends; print the longest of it, in ms, and the p99."""
    latencies: list[float] = []
    ended = Thread(target=sys.stdin.read)
    ended.start()
    with file.open("wb", buffering=0) as stream:
        while ended.is_alive():
            begun = time.perf_counter()
            spun = time.thread_time()
            while time.thread_time() - spun < 1e-4:
                pass
            stream.write(bytes(8192))
            latencies.append((time.perf_counter() - begun) * 1e3)
            time.sleep(PACE_S)
    sys.stdout.write(f"{max(latencies)} {np.percentile(latencies, 99)}\n")


@dataclass(slots=True)
class Paced:
    """Appends of all targets, step by step at a pace, and how long each took."""

    store: Store
    targets: list[Target]
    first_ms: int
    wall_ms: list[float] = field(default_factory=list)
    own_cpu_ms: list[float] = field(default_factory=list)

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Append until it shall not go on, a window at most."""
        rows = [target.window(BLOCK_STEPS) for target in self.targets]
        for step in range(BLOCK_STEPS):
            for target, values in zip(self.targets, rows, strict=True):
                cpu = time.process_time()
                begun = time.perf_counter()
                self.store.append_scrape(target.key, target.layout, self.first_ms + step * STEP_MS, values[step])
                self.wall_ms.append((time.perf_counter() - begun) * 1e3)
                self.own_cpu_ms.append((time.process_time() - cpu) * 1e3)
            if not goes_on():
                return
            time.sleep(PACE_S)

    def figures(self, beside: str) -> dict[str, float]:
        """What is told of it."""
        return {
            f"append_beside_{beside}_p99_ms": float(np.percentile(self.wall_ms, 99)),
            f"append_beside_{beside}_max_ms": max(self.wall_ms),
            f"append_beside_{beside}_own_cpu_max_ms": max(self.own_cpu_ms),
        }


def readers(store: Store, targets: list[Target], hours: float) -> dict[str, float]:
    """Appends at a pace while two threads fetch and query everything, again and again."""
    end_ms = START_MS + int(hours * 3600_000)
    first_ms = end_ms + (BLOCK_STEPS + 1) * STEP_MS
    done = Event()

    def fetch() -> None:
        while not done.is_set():
            store.select([Matcher("__name__", "=~", "llm_.*")], START_MS, end_ms)

    def ask() -> None:
        texts = ("sum by (series) (rate(llm_requests_total[5m]))", "avg_over_time(llm_usage_ratio[1h])", "llm_info")
        for text in cycle(texts):
            if done.is_set():
                return
            Engine().range(store, text, START_MS, end_ms, 60_000)

    file = store.database.directory / "control"
    command = [sys.executable, "-m", "benchmarks.store_append", "--control", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as noise:
        threads = [Thread(target=work) for work in (fetch, ask)]
        for thread in threads:
            thread.start()
        paced = Paced(store, targets, first_ms)
        paced.run(lambda: True)
        done.set()
        longest_ms, p99_ms = map(float, noise.communicate()[0].split())
    for thread in threads:
        thread.join()
    return paced.figures("readers") | {"control_p99_ms": p99_ms, "control_max_ms": longest_ms}


def compaction(store: Store, targets: list[Target], hours: float) -> dict[str, float]:
    """Join the day's tiles while scrapes arrive as fast as they can."""
    end_ms = START_MS + int(hours * 3600_000)
    seconds: list[float] = []
    joining = Thread(target=lambda: seconds.append(timed(lambda: store.compact(end_ms + 2 * 86_400_000))))
    paced = Paced(store, targets, end_ms + STEP_MS)
    joining.start()
    paced.run(joining.is_alive)
    joining.join()
    store.maintain(end_ms + 3 * 86_400_000)
    return {"compact_s": seconds[0]} | paced.figures("compaction")


WHAT = {
    "append_samples_per_s": ("scrapes appended, durable, cuts beside", "samples/s", False),
    "append_and_cut_cpu_samples_per_s": ("appends and cuts by CPU", "samples/s", False),
    "append_p99_ms": ("append of 1,000 series while cuts run, p99", "ms", True),
    "append_max_ms": ("append of 1,000 series while cuts run, longest", "ms", True),
    "append_beside_compaction_p99_ms": ("append beside a compaction, p99", "ms", True),
    "append_beside_compaction_max_ms": ("append beside a compaction, longest", "ms", True),
    "append_beside_compaction_own_cpu_max_ms": ("append beside a compaction, longest by own CPU", "ms", True),
    "append_beside_readers_p99_ms": ("append beside two readers of everything, p99", "ms", True),
    "append_beside_readers_max_ms": ("append beside two readers of everything, longest", "ms", True),
    "append_beside_readers_own_cpu_max_ms": ("append beside two readers, longest by own CPU", "ms", True),
    "push_batch_samples_per_cpu_s": ("pushes of a repeating batch, append_batch, by CPU", "samples/s", False),
    "push_series_samples_per_cpu_s": ("pushes of a repeating batch, append_series, by CPU", "samples/s", False),
    "bytes_per_sample_cut": ("file before compaction", "bytes/sample", True),
    "bytes_per_sample_file": ("file after compaction", "bytes/sample", True),
    "compact_s": ("joining the tiles of the day", "s", True),
    "fetch_50_series_1h_warm_ms": ("fetch of 50 series, 1 h, warm", "ms", True),
    "fetch_200_series_6h_warm_ms": ("fetch of 200 series, 6 h, warm", "ms", True),
    "open_ms": ("open", "ms", True),
}
"""What the last line tells: label, unit, whether less is better."""

CONTROLS = {
    "append_beside_readers_p99_ms": "control_p99_ms",
    "append_beside_readers_max_ms": "control_max_ms",
}
"""Figures that are told beside those of the control."""


def main(arguments: list[str]) -> None:
    """Measure and print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="length of the data, a multiple of 2")
    parser.add_argument("--targets", type=int, default=2, help="scraped targets")
    parser.add_argument("--series", type=int, default=1_000, help="series of each target")
    parser.add_argument("--dir", default=None, help="where to put the data directory; a temporary one if left out")
    parser.add_argument("--control", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.control:
        control(options.control)
        return
    sys.setswitchinterval(SWITCH_S)  # as the collector's process does
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        targets = [Target(number + 1, options.series) for number in range(options.targets)]
        with Store.open(Path(directory), retention_ms=None, compact_ms=1000 * COMPACT_MS) as store:
            figures = append_hours(store, targets, options.hours)
            figures["bytes_per_sample_cut"] = store.database.used_bytes() / store.stats().tile_samples
        with Store.open(Path(directory), retention_ms=None) as store:
            figures.update(compaction(store, targets, options.hours))
            figures["bytes_per_sample_file"] = store.database.used_bytes() / store.stats().tile_samples
            figures.update(readers(store, targets, options.hours))
            figures.update(fetches(Path(directory), options.hours))
        begun = time.perf_counter()
        Store.open(Path(directory)).close()
        figures["open_ms"] = (time.perf_counter() - begun) * 1e3
    figures.update(pushes())
    for name, value in figures.items():
        sys.stdout.write(f"{name:45} {value:16,.3f}\n")
    rows = []
    for name, (what, unit, lower) in WHAT.items():
        row = {"what": what, "ours": round(figures[name], 4), "unit": unit, "lower_is_better": lower}
        if name in CONTROLS:
            row |= {"peer": round(figures[CONTROLS[name]], 4), "peer_name": "a process that only writes"}
        rows.append(row)
    sys.stdout.write(json.dumps({"benchmark": "store_append", "rows": rows}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
