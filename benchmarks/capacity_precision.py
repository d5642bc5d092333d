"""What the highest rate under a promise costs to find to 2%, and how far it is from a run of 200,000 requests.

    python -m benchmarks.capacity_precision

The promise: 99% of the requests within TTFT, time per token and end to end. Times are CPU seconds of this process.
"""

import json
import time
from collections.abc import Iterator

from benchmarks.simulate_speed import CONFIG, MODEL, SAMPLE
from planner.capacity import find_capacity
from planner.readers import read_trace
from planner.sim import Twin
from planner.slo import Slo
from probe_engine.sched import SchedulerConfig

PROMISE = Slo(ttft_p95_s=1.0, itl_p95_s=0.1, e2e_p95_s=60.0, goodput_ratio=0.99)
LONG = 200_000


def main() -> None:
    """Print a table and, as the last line, JSON."""
    rows = list(measure())
    for row in rows:
        print(f"{row['what']:<60} {row['ours']:>12,.3f} {row['unit']}")
    print(json.dumps({"benchmark": "capacity_precision", "rows": rows}))


def measure() -> Iterator[dict[str, object]]:
    """One row per figure."""
    trace = read_trace(SAMPLE).trace
    twin = Twin(SchedulerConfig(CONFIG.num_blocks, max_model_len=CONFIG.max_model_len), MODEL)
    began = time.process_time()
    found = find_capacity(trace, twin, PROMISE, seeds=4, precision=0.02)
    spent = time.process_time() - began
    low, high = found.low or 0.0, found.high or 0.0
    yield row("highest rate at 99% attainment", found.requests_per_s, "requests/s")
    yield row("half-width of its 95% interval", (high - low) / 2 / found.requests_per_s * 100, "%")
    yield row("seeds of 10,000 requests", len(found.per_seed), "")
    yield row("CPU time of the search", spent, "CPU-s")
    optimism = found.mean_based_optimism_ratio
    if optimism is not None:
        yield row("sizing on means is too high by", optimism * 100, "%")
    long = find_capacity(trace, twin, PROMISE, requests=LONG, seeds=1, seed=99)
    yield row(f"bias against one run of {LONG:,} requests", (found.requests_per_s / long.requests_per_s - 1) * 100, "%")


def row(what: str, ours: float, unit: str) -> dict[str, object]:
    """One figure."""
    return {"what": what, "ours": round(ours, 3), "unit": unit}


if __name__ == "__main__":
    main()
