"""What the scheduler's decisions cost: CPU microseconds per engine step, by how many requests run.

    python -m benchmarks.scheduler_steps [--steps 2000]

Requests of the given number run all the time, with prefix cache on. A step is ``schedule()`` and ``update()``: steady
ones, in which all decode and one in sixteen needs a block; with turnover, in which each that ends after 64 to 512
tokens is followed by another (at 1,024 running, three or four a step, whose prompts are looked up and computed); and
with each decode's position as an array besides, as the runner reads them. The goals are 50 us at 256 running and 150 us
at 1,024.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator

import numpy as np

from probe_engine.sched import Request, Scheduler, SchedulerConfig, hash_blocks

RUNNING = (64, 256, 1024)
PROMPT_TOKENS = (64, 256)
OUTPUT_TOKENS = (64, 512)
BLOCK_SIZE = 16
KINDS = ("steady", "turnover", "turnover, positions")
SEED = 7


def main() -> None:
    """Measure each size, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    rows = []
    for running in RUNNING:
        for kind in KINDS:
            step_s = min(measure(running, steps, kind) for _ in range(3))
            what = f"{running} running, {kind}"
            rows.append({"what": what, "ours": step_s * 1e6, "unit": "CPU us per step", "lower_is_better": True})
            print(f"{what:<40} {step_s * 1e6:>8.1f} us", file=sys.stderr)
    print(json.dumps({"benchmark": "scheduler_steps", "rows": rows}))


def measure(running: int, steps: int, kind: str) -> float:
    """CPU seconds of one step of ``kind``, on average over ``steps``, after so many unmeasured that all is mixed."""
    rng = random.Random(SEED)
    unmeasured = running // 4 if kind == "steady" else OUTPUT_TOKENS[1]
    outputs = (unmeasured + steps + 1,) * 2 if kind == "steady" else OUTPUT_TOKENS
    longest = PROMPT_TOKENS[1] + outputs[1]
    config = SchedulerConfig(
        num_blocks=running * -(-longest // BLOCK_SIZE),
        block_size=BLOCK_SIZE,
        max_num_batched_tokens=max(2048, running),
        max_num_seqs=running,
        max_model_len=longest,
    )
    scheduler, arriving = Scheduler(config), requests(rng, outputs)
    for _ in range(running):
        scheduler.add(next(arriving))
    spent_s = 0.0
    decodes: tuple[Request, ...] = ()
    origins = np.zeros(0, np.int64)
    for step in range(unmeasured + steps):
        fresh = [next(arriving) for _ in range(running - scheduler.num_running - scheduler.num_waiting)]
        before = time.thread_time()
        for request in fresh:
            scheduler.add(request)
        output = scheduler.schedule(float(step))
        if output is None:
            raise RuntimeError("the scheduler found nothing to run")
        if kind == "turnover, positions":
            if output.decodes is not decodes:
                decodes = output.decodes
                origins = np.array([request.decode_origin for request in decodes], np.int64)
            positions = origins + output.decode_step
            if len(positions) != output.stats.decode_seqs:
                raise RuntimeError("the step's decodes are not those that it counts")
        scheduler.update(output, {}, float(step))
        if step >= unmeasured:
            spent_s += time.thread_time() - before
    return spent_s / steps


def requests(rng: random.Random, outputs: tuple[int, int]) -> Iterator[Request]:
    """Requests without end, their prompts' blocks hashed beforehand as the engine hashes them."""
    number = 0
    while True:
        prompt = rng.choices(range(32_000), k=rng.randint(*PROMPT_TOKENS))
        hashes = hash_blocks(0, prompt, BLOCK_SIZE)
        yield Request(f"r{number}", len(prompt), rng.randint(*outputs), 0.0, hashes)
        number += 1


if __name__ == "__main__":
    main()
