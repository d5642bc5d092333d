"""``memory``: a soak in rounds, and a line through what the server's memory was between them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from probe_engine.experiments.figure import Lines
from probe_engine.experiments.options import Options
from probe_engine.experiments.report import Report
from probe_engine.experiments.server_process import Serving, running, serve_command
from probe_engine.experiments.stability import LEAVING, raise_file_limit
from probe_engine.experiments.streams import jobs_of, run_streams

ROUNDS, QUICK_ROUNDS = 30, 9
PER_ROUND = 400
AT_ONCE = 100
LONGEST = (64, 24)
BLOCKS = 1024  # few, so that all of them have been touched once the warm-up is over
LEAK_BYTES = 1_000.0  # of growth per request, surely exceeded, that we call a leak
WARM_UP_SHARE = 1 / 3  # of the rounds: pools and caches fill


@dataclass(frozen=True, slots=True)
class Slope:
    """Bytes per request: the median of all slopes between two rounds (Theil and Sen), and its 95% interval."""

    median: float
    low: float
    high: float


def run(options: Options, serving: Serving = running) -> Report:
    """Rounds of streams, 5% of which hang up; memory and blocks after each."""
    raise_file_limit()
    rounds, each = QUICK_ROUNDS if options.quick else ROUNDS, options.count(PER_ROUND, 100)
    counts, megabytes, broken, blocks = [], [], 0, 0.0
    arguments = ("--model", options.model, "--dtype", options.dtype, "--num-blocks", str(BLOCKS))
    with serving(serve_command(*arguments)) as server:
        for round_ in range(rounds):
            jobs = jobs_of(options.trace, each, longest=LONGEST, leaving=LEAVING, seed=options.seed + round_)
            streamed = asyncio.run(run_streams(server.url, jobs, at_once=AT_ONCE))
            broken += sum(one.ending in ("failed", "refused") for one in streamed)
            blocks = max(blocks, server.settled()["kv_usage"])
            counts.append(float((round_ + 1) * each))
            megabytes.append(server.memory_bytes() / 1e6)
            options.tell(f"memory: round {round_ + 1} of {rounds}, {megabytes[-1]:.1f} MB")
        alive = server.alive
    first = int(rounds * WARM_UP_SHARE)
    slope = fit_slope(counts[first:], [1e6 * one for one in megabytes[first:]])
    leaks = slope.low > LEAK_BYTES
    verdict = "a leak" if leaks else "no leak" if slope.high <= LEAK_BYTES else "too few rounds to rule out a leak"
    return Report(
        name="memory",
        title="A soak: memory and blocks",
        question="Does the server's memory grow with the requests that it has served, and does every block come back?",
        answer=(
            f"{slope.median:+,.0f} bytes per request (95%: {slope.low:+,.0f} to {slope.high:+,.0f}) after the warm-up: "
            f"{verdict}; {'no block' if not blocks else 'some blocks'} lost."
        ),
        setup={
            **options.setup(),
            "rounds": f"{rounds} of {each} streams, {AT_ONCE} at once",
            "lengths": f"the trace's, at most {LONGEST[0]} prompt and {LONGEST[1]} output tokens",
            "clients that hang up": f"{LEAVING:.0%}",
            "KV blocks": f"{BLOCKS} of 16 tokens, so that all are touched soon: a large cache becomes resident slowly",
            "warm-up": f"the first {first} rounds are not in the slope",
        },
        rows=[
            {
                "requests": int(counts[-1]),
                "broken": broken,
                "first MB": megabytes[0],
                "after warm-up MB": megabytes[first],
                "last MB": megabytes[-1],
                "bytes per request": slope.median,
                "95% from": slope.low,
                "95% to": slope.high,
                "most KV in use between rounds %": 100 * blocks,
                "alive": alive,
            }
        ],
        figures=(Lines("Resident memory", "requests served", "MB", (("", tuple(counts), tuple(megabytes)),)),),
        notes=(
            "Resident memory of the process between rounds, with nothing running or waiting.",
            f"Called a leak when the interval lies above {LEAK_BYTES:,.0f} bytes: the engine keeps its last 65,536 "
            "steps for /steps (some 13 MB once full), which looks like growth until then, and the allocator's pages "
            "come and go.",
        ),
        holds=not leaks and not blocks and not broken and alive,
    )


def fit_slope(xs: Sequence[float], ys: Sequence[float]) -> Slope:
    """A line's slope that single outliers cannot move."""
    from scipy.stats import theilslopes

    found = theilslopes(ys, xs, 0.95)
    return Slope(float(found.slope), float(found.low_slope), float(found.high_slope))
