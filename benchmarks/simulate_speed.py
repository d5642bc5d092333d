"""How fast the twin runs: requests and scheduler steps per CPU second, a day of a fleet, and memory for a million.

    python -m benchmarks.simulate_speed [--quick]

Lengths and arrivals are those of the Azure conversation sample, repeated. Times are CPU seconds of this process.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from planner.readers import read_trace
from planner.sim import Played, Twin, play
from planner.steps.latency import LinearModel
from planner.traces.trace import Trace, from_lengths
from planner.traces.workload import loop, speed
from probe_engine.sched import SchedulerConfig

SAMPLE = Path(__file__).parents[1] / "samples" / "traces" / "azure_conv_10min.csv"
MODEL = LinearModel(4e-3, 2e-5, 2e-10, 3e-5, 1.5e-8)
CONFIG = SchedulerConfig(num_blocks=40_000, max_model_len=32_768)
DAY_S = 86_400.0


def main() -> None:
    """Print a table and, as the last line, JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="leave out the day and the million")
    rows = list(measure(quick=arguments.parse_args().quick))
    for row in rows:
        print(f"{row['what']:<70} {row['ours']:>14,.1f} {row['unit']}")
    print(json.dumps({"benchmark": "simulate_speed", "rows": rows}))


def measure(*, quick: bool) -> Iterator[dict[str, object]]:
    """One row per figure."""
    trace = loop(read_trace(SAMPLE).trace, 5000)
    for factor in (0.4, 2.0, 4.0):
        shaped = speed(trace, factor)
        for skip in (True, False):
            spent, played = timed(shaped, Twin(CONFIG, MODEL), skip=skip)
            how = "passing over uniform steps" if skip else "stepping"
            what = f"sample at {factor:g} times its rate, {how}"
            yield row(f"{what}: requests", len(shaped) / spent, "requests/CPU-s")
            yield row(f"{what}: steps", played.steps / spent, "steps/CPU-s")
    if quick:
        return
    fleet = day(trace, per_s=12.0)
    spent, _ = timed(fleet, Twin(CONFIG, MODEL, replicas=20))
    yield row(f"24 h on 20 replicas, {len(fleet):,} requests", spent, "CPU-s")
    yield row(f"24 h on 20 replicas: peak memory, {len(fleet):,} requests", peak_mib(), "MiB")


def timed(trace: Trace, twin: Twin, *, skip: bool = True) -> tuple[float, Played]:
    """CPU seconds of one simulation, and the simulation."""
    began = time.process_time()
    played = play(trace, twin, skip=skip)
    return time.process_time() - began, played


def day(sample: Trace, per_s: float) -> Trace:
    """A day with a trough at night and a peak of twice the mean by day, lengths of the sample."""
    draw = np.random.default_rng(0)
    count = int(DAY_S * per_s)
    clock = np.linspace(0, DAY_S, 1441)
    level = np.cumsum(1 + 0.9 * np.sin(2 * np.pi * (clock - DAY_S / 4) / DAY_S))
    at_s = np.sort(np.interp(draw.random(count), level / level[-1], clock))
    rows = draw.integers(0, len(sample), count)
    return from_lengths(at_s, sample.input_tokens[rows], sample.output_tokens[rows], source="day")


def peak_mib() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def row(what: str, ours: float, unit: str) -> dict[str, object]:
    """One figure."""
    return {"what": what, "ours": round(ours, 1), "unit": unit}


if __name__ == "__main__":
    main()
