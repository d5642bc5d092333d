"""How often a nominal 90% interval holds what is true: latencies and capacity of made engines, loads ahead.

    python -m benchmarks.interval_coverage [--cases 200] [--first 1000] [--only latency|capacity|season|live] [--quick]

**Latency**: each case makes an engine (costs, noise of which each step resembles the one before), records its steps
under one load, fits a twin on them, and asks the twin for intervals under another load; one run of the engine, with
noise that the twin never saw, says what is true. **Capacity**: engines that serve one request at a time, in one step,
whose noise is less than that of single steps, since a request averages it; what is true is the highest rate of the
queue itself (Lindley's recursion) over 200,000 requests of the same load. **Season**: 168 hours after 14 weeks of days
and weeks, growth that breaks, noise and spikes. **Live**: an hour after two hours by the minute. The goal: between 87%
and 93%. Seeds below 1000 were used in choosing the methods.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from benchmarks._workloads import Workload
from planner.result import Observation
from planner.room.capacity import find_capacity, workload
from planner.room.forecast import forecast
from planner.room.season import WEEK, season_forecast
from planner.sim import Twin, play
from planner.sim.spread import end_to_end, intervals, ttft
from planner.slo import Slo
from planner.steps.fit import fit
from planner.steps.latency import LatencyModel, LinearModel
from planner.traces.trace import Trace
from probe_engine.sched import SchedulerConfig, StepStats

FloatArray = npt.NDArray[np.float64]

CONFIG = SchedulerConfig(num_blocks=4096, max_num_batched_tokens=512, max_num_seqs=64)
LIMITS = {"num_blocks": 4096, "max_num_batched_tokens": 512, "max_num_seqs": 64}
STATISTICS = {"TTFT p50": ttft(0.5), "TTFT p95": ttft(0.95), "end to end p50": end_to_end(0.5),
              "end to end p95": end_to_end(0.95)}  # fmt: skip
MEMORY = 0.9  # how much a step's noise resembles the one before
SEAT = SchedulerConfig(num_blocks=64, max_num_batched_tokens=512, max_num_seqs=1)
LONG = 200_000


@dataclass
class Engine:
    """A made engine: a step-time model times noise of which each resembles the one before; keeps what it did."""

    model: LatencyModel
    draw: np.random.Generator
    spread: float
    last: float = 0.0
    seen: list[Observation] = field(default_factory=list)

    def step_seconds(self, stats: StepStats) -> float:
        """The next step's time."""
        self.last = MEMORY * self.last + float(self.draw.normal(0, self.spread * (1 - MEMORY**2) ** 0.5))
        seconds = self.model.step_seconds(stats) * float(np.exp(self.last))
        self.seen.append(
            Observation(
                wall_s=seconds,
                prefill_tokens=stats.prefill_tokens,
                prefill_attention=stats.prefill_attention,
                decode_seqs=stats.decode_seqs,
                decode_kv_tokens=stats.decode_kv_tokens,
            )
        )
        return seconds


def main() -> None:
    """Print a table and, as the last line, JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cases", type=int, default=200)
    arguments.add_argument("--first", type=int, default=1000, help="first seed")
    arguments.add_argument("--only", choices=list(KINDS))
    arguments.add_argument("--quick", action="store_true", help="40 cases")
    given = arguments.parse_args()
    rows = []
    for kind in [given.only] if given.only else KINDS:
        for row in measure(kind, given.first, 40 if given.quick else given.cases):
            print(f"{row['what']:<70} {row['ours']:>9,.1f} {row['unit']}", flush=True)
            rows.append(row)
    print(json.dumps({"benchmark": "interval_coverage", "rows": rows}))


def measure(kind: str, first: int, cases: int) -> Iterator[dict[str, object]]:
    """Share of the cases in which each interval held, percent."""
    of, names = KINDS[kind]
    held = []
    for seed in range(first, first + cases):
        held.append(of(seed))
        if len(held) % 20 == 0:
            print(f"{kind}: {len(held)} of {cases}: {np.mean(held, axis=0).round(3)}", file=sys.stderr, flush=True)
    for name, share in zip(names, np.mean(held, axis=0), strict=True):
        yield {"what": f"{cases} cases: {name}", "ours": round(float(share) * 100, 1), "unit": "%"}
    if kind == "latency":
        what = f"{np.size(held)} intervals of latencies together (goal 87 to 93)"
        yield {"what": what, "ours": round(float(np.mean(held)) * 100, 1), "unit": "%"}


def latency_case(seed: int) -> list[float]:
    """Which intervals of one made engine held."""
    draw = np.random.default_rng([seed, 0xCA5E])
    costs = np.exp(draw.normal(0, 0.4, 5)) * [4e-3, 2e-5, 2e-9, 1.5e-4, 1e-7]
    model, spread = LinearModel(*costs), float(draw.uniform(0.03, 0.3))
    request_s = 128 * costs[1] + 48 * (costs[0] / 6 + costs[3])
    learnt, asked = (load(draw, share / request_s) for share in draw.uniform(0.3, 0.75, 2))
    recorder = Engine(model, draw, spread)
    play(learnt, Twin(CONFIG, recorder))
    twin = Twin.of(fit(recorder.seen, source="made", form="linear", scheduler=dict(LIMITS)))
    truth = play(asked, Twin(CONFIG, Engine(model, draw, spread)))
    found = intervals(asked, twin, list(STATISTICS.values()), seed=seed)
    return [float(one.low <= of(truth) <= one.high) for one, of in zip(found, STATISTICS.values(), strict=True)]


def capacity_case(seed: int) -> list[float]:
    """Whether the interval of the highest rate holds that of the engine's own queue; and sizing without calibration."""
    draw = np.random.default_rng([seed, 0xCA9A])
    costs = np.exp(draw.normal(0, 0.4, 3)) * [4e-3, 4e-5, 4e-8]
    model, spread = LinearModel(costs[0], costs[1], costs[2], 0.0, 0.0), float(draw.uniform(0.02, 0.19))
    request_s = float(costs @ [1, 128, 13_000])

    def made(requests: int) -> Trace:
        """Requests of one step each, at half of what the engine can do."""
        shape = Workload("made", 0.5 / request_s, 2 * requests * request_s, output=1, output_cv=1e-6)
        return shape.trace(int(draw.integers(2**31)))

    recorder = Engine(model, draw, spread)
    play(made(int(draw.integers(1500, 6000))), Twin(SEAT, recorder))
    twin = Twin.of(fit(recorder.seen, source="made", form="linear", scheduler=asdict(SEAT)))
    promise = Slo(ttft_p95_s=float(draw.uniform(3, 12)) * request_s, itl_p95_s=1e6, e2e_p95_s=1e6)
    trace = made(3000)
    found = find_capacity(trace, twin, promise)
    true = queue_capacity(workload(trace, LONG, 999), costs, noise(draw, LONG, spread), promise.ttft_p95_s)
    assert found.low and found.high and found.likely_low and found.likely_high
    return [float(found.likely_low <= true <= found.likely_high), float(found.low <= true <= found.high)]


def queue_capacity(trace: Trace, costs: FloatArray, logs: FloatArray, limit_s: float) -> float:
    """Highest rate at which 95% wait no longer for their only token, one served after the other."""
    tokens = trace.input_tokens.astype(np.float64)
    service_s = (costs[0] + costs[1] * tokens + costs[2] * tokens * (tokens + 1) / 2) * np.exp(logs)
    done = np.cumsum(service_s)
    before = done - service_s
    arrival_s = trace.arrival_ns / 1e9
    own_per_s = (len(trace) - 1) / float(arrival_s[-1])
    settled = slice(len(trace) // 10, len(trace) - len(trace) // 20)
    low, high = 0.01 / float(service_s.mean()), 1 / float(service_s.mean())
    for _ in range(16):
        middle = (low + high) / 2
        at_s = arrival_s * (own_per_s / middle)
        waits = done + np.maximum.accumulate(at_s - before) - at_s
        kept = np.quantile(waits[settled], 0.95) <= limit_s
        low, high = (middle, high) if kept else (low, middle)
    return low


def season_case(seed: int) -> list[float]:
    """Share of the 168 hours in the band, and whether their peak stayed under its bound."""
    draw = np.random.default_rng([seed, 0x5EA5])
    hour = np.arange(15 * WEEK)
    level = draw.uniform(-0.01, 0.05) * hour / WEEK
    level += np.maximum(hour / WEEK - draw.uniform(4, 12), 0) * draw.uniform(-0.03, 0.03)  # growth breaks
    shape = draw.uniform(0.2, 0.8) * np.sin(2 * np.pi * hour / 24) + draw.uniform(0.05, 0.3) * np.sin(
        2 * np.pi * hour / WEEK
    )
    spikes = np.where(draw.random(len(hour)) < 0.003, draw.uniform(0.2, 0.8), 0.0)
    load = 20 * np.exp(level + shape + noise(draw, len(hour), draw.uniform(0.05, 0.2), 0.7) + spikes)
    found, ahead = season_forecast(load[:-WEEK], WEEK), load[-WEEK:]
    return [float(((ahead >= found.low) & (ahead <= found.high)).mean()), float(ahead.max() <= found.peak)]


def live_case(seed: int) -> list[float]:
    """Share of the 60 minutes in the band."""
    draw = np.random.default_rng([seed, 0x11FE])
    minute = np.arange(180.0)
    level = draw.uniform(0.1, 0.6) * np.sin(2 * np.pi * (minute / 1440 + draw.random()))
    slow, fast = (noise(draw, 180, draw.uniform(0.02, 0.15), memory) for memory in (0.95, 0.3))
    load = np.asarray(draw.uniform(2, 50) * np.exp(level + slow + fast), dtype=np.float64)
    found = forecast(minute[:120] * 60.0, load[:120], 3600.0)
    assert found is not None
    return [float(((load[120:] >= found.low) & (load[120:] <= found.high)).mean())]


def noise(draw: np.random.Generator, count: int, spread: float, memory: float = MEMORY) -> FloatArray:
    """Logarithms of which each resembles the one before."""
    fresh = draw.normal(0, spread * np.sqrt(1 - memory**2), count)
    return np.asarray(lfilter([1.0], [1.0, -memory], fresh))


def load(draw: np.random.Generator, per_s: float) -> Trace:
    """Poisson arrivals of 120 requests."""
    return Workload("made", per_s, 120 / per_s, output=48).trace(int(draw.integers(2**31)))


KINDS: dict[str, tuple[Callable[[int], list[float]], tuple[str, ...]]] = {
    "latency": (latency_case, tuple(f"90% interval of {name} holds" for name in STATISTICS)),
    "capacity": (
        capacity_case,
        ("90% interval of the highest rate holds (goal 87 to 93)", "95% interval of the search alone holds"),
    ),
    "season": (season_case, ("90% band of a week's hours holds (goal 87 to 93)", "95% bound of a week's peak holds")),
    "live": (live_case, ("90% band of an hour's minutes holds (goal 87 to 93)",)),
}


if __name__ == "__main__":
    main()
