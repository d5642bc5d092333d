"""The store's speed and size: durable appends, cuts, bytes per sample, fetches. ``python tests/bench/store_append.py``.

Data: two targets of 1,000 series each, scraped every 5 s: request counters, latency histograms, sums with a full
mantissa, gauges that move and gauges that rest, one restart per target. Seeded, made window by window. What it does
not measure: parsing a scrape, PromQL, a disk that is slow or full, more than two targets (``--targets`` does), jitter.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import psutil

from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher
from collector.model.series import Float64Array
from collector.store import Store

START_MS = 1_735_689_600_000
STEP_MS = 5_000
BLOCK_STEPS = 1_440
BUCKETS = 20


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


def main(arguments: list[str]) -> None:
    """Run and print a table to stderr and one JSON line to stdout."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=6.0, help="length of the data, a multiple of 2")
    parser.add_argument("--targets", type=int, default=2, help="scraped targets")
    parser.add_argument("--series", type=int, default=1_000, help="series of each target")
    parser.add_argument("--dir", type=Path, help="where to put the data directory; a temporary one if left out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        targets = [Target(number + 1, options.series) for number in range(options.targets)]
        with Store.open(Path(directory), retention_ms=None) as store:
            figures = append_hours(store, targets, options.hours)
            stats = store.stats()
            figures["bytes_per_sample_tiles"] = stats.bytes_per_sample or 0.0
            figures["rss_after_append_mb"] = psutil.Process().memory_info().rss / 1e6
            figures.update(fetches(Path(directory), options.hours))
        figures["bytes_per_sample_file"] = (Path(directory) / "loadline.db").stat().st_size / figures["samples"]
        begun = time.perf_counter()
        Store.open(Path(directory)).close()
        figures["open_ms"] = (time.perf_counter() - begun) * 1e3
    for name, value in figures.items():
        sys.stderr.write(f"{name:45} {value:16,.3f}\n")
    sys.stdout.write(json.dumps({"bench": "store_append", **{k: round(v, 4) for k, v in figures.items()}}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
