"""What the highest rate under a promise costs to find to 2%, and how far it is from a run of 200,000 requests.

    python -m benchmarks.capacity_precision

The promise: 99% of the requests within TTFT, time per token and end to end. Times are CPU seconds of this process.
"""

import json
import time
from collections.abc import Iterator
from math import log

from benchmarks.simulate_speed import CONFIG, MODEL, SAMPLE
from planner.readers import read_trace
from planner.room.capacity import find_capacity, holds_at
from planner.sim import Twin
from planner.slo import Slo
from probe_engine.sched import SchedulerConfig

PROMISE = Slo(ttft_p95_s=1.0, itl_p95_s=0.1, e2e_p95_s=60.0, goodput_ratio=0.99)
LONG = 200_000
AROUND = 0.02  # the long runs are made this far below and above the answer


def main() -> None:
    """Print a table and, as the last line, JSON."""
    rows = []
    for figure in measure():
        rows.append(figure)
        print(f"{figure['what']:<60} {figure['ours']:>12,.3f} {figure['unit']}", flush=True)
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
    uses = [
        holds_at(trace, twin, PROMISE, found.requests_per_s * factor, requests=LONG, seed=99).use_ratio
        for factor in (1 - AROUND, 1 + AROUND)
    ]
    share = log(uses[0]) / log(uses[0] / uses[1])
    bias = 1 / ((1 - AROUND) * ((1 + AROUND) / (1 - AROUND)) ** share) - 1
    yield row(f"bias against runs of {LONG:,} requests", bias * 100, "%")


def row(what: str, ours: float, unit: str) -> dict[str, object]:
    """One figure."""
    return {"what": what, "ours": round(ours, 3), "unit": unit}


if __name__ == "__main__":
    main()
