"""How fast the twin runs: requests and scheduler iterations per CPU second on the Azure conversation sample."""

import sys
import time
from pathlib import Path

from planner.latency import LinearModel
from planner.readers import read_trace
from planner.sim import Twin, play
from planner.workload import loop, speed
from probe_engine.sched import SchedulerConfig

SAMPLE = Path(__file__).parents[2] / "samples" / "traces" / "azure_conv_10min.csv"
MODEL = LinearModel(4e-3, 2e-5, 2e-10, 3e-5, 1.5e-8)
CONFIG = SchedulerConfig(num_blocks=40_000, max_model_len=32_768)


def main() -> None:
    """Print one line per load: low (long runs of uniform decode steps), middling, and close to saturation."""
    trace = loop(read_trace(SAMPLE).trace, 5000)
    for factor in (0.4, 2.0, 4.0):
        shaped = speed(trace, factor)
        for replicas in (1, 4):
            started = time.process_time()
            played = play(shaped, Twin(CONFIG, MODEL, replicas=replicas))
            spent = time.process_time() - started
            sys.stdout.write(
                f"x{factor:g}, {replicas} replicas: {len(shaped) / spent:,.0f} requests per CPU-s, "
                f"{played.steps / spent:,.0f} iterations per CPU-s ({played.steps:,} steps, {spent:.2f} s)\n"
            )


if __name__ == "__main__":
    main()
