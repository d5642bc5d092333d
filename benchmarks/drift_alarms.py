"""How often a day of an engine that did not change raises a drift alarm, and how soon a 10% slowdown does.

    python -m benchmarks.drift_alarms [--days 1000] [--seed 1000] [--quick]

Steps of 20 ms all day, noise of which each step resembles the one before (0.8) and one in 200 stalls for 4.5 times as
long; 20 models, each calibrated on 4,000 such steps. Batch means are made as the monitor makes them, and drawn anew for
each batch of each day; the days are judged together, by the monitor's sums. The alarm's margin was set on seed 7.
"""

import argparse
import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.signal import lfilter

from benchmarks._workloads import Workload
from planner.result import Observation
from planner.sim import Twin, simulate
from planner.steps.drift import BATCH, DAY_S, FALSE_PER_DAY, SHIFT, Band, band_of
from planner.steps.first_tokens import TOGETHER, compared, limit_for, raised, slowed
from planner.steps.fit import fit
from planner.steps.latency import LinearModel
from planner.traces.replayed import trace_of
from probe_engine.sched import SchedulerConfig, StepStats

FloatArray = npt.NDArray[np.float64]
STEP_S = 0.02
SPREAD, MEMORY = 0.05, 0.8
STALL, STALL_RATIO = 1.5, 0.005
CALIBRATIONS = 20
POOL = 20_000  # batch means of each to draw from
DELAYS = 2000
WITHIN = 500
RUNS, REQUESTS, PER_S = 24, 800, 20.0
PIECE = 4  # neighbouring windows that stay together


def main() -> None:
    """Print a table and, as the last line, JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--days", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=1000)
    arguments.add_argument("--quick", action="store_true", help="100 days")
    given = arguments.parse_args()
    rows = list(measure(100 if given.quick else given.days, given.seed))
    for row in rows:
        print(f"{row['what']:<70} {row['ours']:>9,.2f} {row['unit']}")
    print(json.dumps({"benchmark": "drift_alarms", "rows": rows}))


def measure(days: int, seed: int) -> Iterator[dict[str, object]]:
    """One row per figure."""
    draw = np.random.default_rng(seed)
    engines = [calibrated(draw) for _ in range(CALIBRATIONS)]
    limits = np.array([(band.slack, band.limit) for band, _ in engines]).T
    usual = np.array([scores(band, noise(draw, POOL * BATCH) - level) for band, level in engines])
    alarmed = days_alarmed(usual, limits, days, round(DAY_S / STEP_S / BATCH), draw)
    what = f"days of {days} with a false alarm (goal: {FALSE_PER_DAY:.0%} at most)"
    yield {"what": what, "ours": round(alarmed.mean() * 100, 2), "unit": "%"}
    slower = np.array([scores(band, noise(draw, POOL * BATCH) - level + np.log(1 + SHIFT)) for band, level in engines])
    delays = steps_until(slower, limits, draw)
    seen = round(float((delays <= WITHIN).mean()) * 100, 1)
    yield {"what": "a 10% slowdown is seen within 500 steps", "ours": seen, "unit": "%"}
    yield {"what": "a 10% slowdown is seen after, median", "ours": float(np.median(delays)), "unit": "steps"}
    yield from first_tokens(days // 5, draw)


def first_tokens(days: int, draw: np.random.Generator) -> Iterator[dict[str, object]]:
    """The same of waits for first tokens; days are made of pieces of ``RUNS`` runs, steps are those of the run."""
    usual = [watched(draw, 0.0) for _ in range(RUNS)]
    pieces = np.array([one[at : at + PIECE] for one, _, _ in usual for at in range(0, len(one) - PIECE + 1, PIECE)])
    per_day = round(DAY_S * PER_S / TOGETHER)
    over, alarmed = np.zeros((2, days)), np.zeros(days, dtype=np.bool_)
    for _ in range(per_day // PIECE):
        for score, shift in pieces[draw.integers(0, len(pieces), days)].transpose(1, 2, 0):
            over = np.maximum(over, 0.0) + shift * (np.array([score, -score]) - shift / 2)
            alarmed |= (over > limit_for(per_day)).any(axis=0)
    what = f"waits for first tokens: days of {days} with a false alarm"
    yield {"what": what, "ours": round(alarmed.mean() * 100, 2), "unit": "%"}
    delays = []
    for one, steps, requests in (watched(draw, SHIFT) for _ in range(RUNS)):
        alarms = raised(one[:, 0], one[:, 1], limit_for(per_day))
        delays.append(alarms[0].at * steps / requests if alarms else np.inf)
    seen = round(float((np.array(delays) <= WITHIN).mean()) * 100, 1)
    yield {"what": f"waits: a 10% slowdown is seen within {WITHIN} steps", "ours": seen, "unit": "%"}
    yield {"what": "waits: a 10% slowdown is seen after, median", "ours": float(np.median(delays)), "unit": "steps"}


def watched(draw: np.random.Generator, ratio: float) -> tuple[FloatArray, int, int]:
    """(scores and shifts of one run, (windows, 2), its steps, its requests) of an engine slower by ``ratio``."""
    noise_of = tuple(np.exp(noise(draw, 4096)).tolist())
    config = SchedulerConfig(num_blocks=4000, max_num_batched_tokens=512, max_num_seqs=64)
    twin = Twin(config, LinearModel(4e-3, 2e-5, 2e-9, 1.5e-4, 1e-7), noise=noise_of, noise_stretch=128)
    load = Workload("made", PER_S, REQUESTS / PER_S, output=32).trace(int(draw.integers(2**31)))
    run = simulate(load, slowed(twin, ratio), seed=int(draw.integers(2**31)))
    _, score, shift = compared(run, trace_of(run, "made"), twin)
    return np.column_stack([score, shift]), int(run.header.details["steps"]), len(load)


def calibrated(draw: np.random.Generator) -> tuple[Band, float]:
    """A model fitted on some minutes of steps: its band, and the logarithm of how far its level is off."""
    size = {"prefill_tokens": 0, "prefill_attention": 0, "decode_seqs": 8, "decode_kv_tokens": 800}
    steps = [Observation(wall_s=STEP_S * factor, **size) for factor in np.exp(noise(draw, 4000)).tolist()]
    model = fit(steps, source="made", form="linear")
    level = float(np.log(model.latency_model().step_seconds(StepStats(**size)) / STEP_S))
    return band_of(model, step_s=STEP_S), level


def noise(draw: np.random.Generator, count: int) -> FloatArray:
    """Logarithms of step noise."""
    fresh = draw.normal(0, SPREAD * np.sqrt(1 - MEMORY**2), count)
    return np.asarray(lfilter([1.0], [1.0, -MEMORY], fresh)) + np.where(draw.random(count) < STALL_RATIO, STALL, 0.0)


def scores(band: Band, logs: FloatArray) -> FloatArray:
    """Batch means in standard deviations from the centre, as the monitor makes them."""
    clipped = np.clip(logs, band.low, band.high + SHIFT)
    return np.asarray((clipped.reshape(-1, BATCH).mean(axis=1) - band.center) / band.deviation)


def days_alarmed(
    pools: FloatArray, limits: FloatArray, days: int, batches: int, draw: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which days raise an alarm, (days,): each day one calibration's, its batches drawn from that one's pool.

    ``pools``: scores, (calibrations, batches); ``limits``: slack and limit, (2, calibrations).
    """
    engine = np.arange(days) % len(pools)
    slack, limit = limits[:, engine]
    slower, faster, alarmed = np.zeros(days), np.zeros(days), np.zeros(days, dtype=np.bool_)
    for _ in range(batches):
        score = pools[engine, draw.integers(0, pools.shape[1], days)]
        slower = np.maximum(slower + score - slack, 0.0)
        faster = np.maximum(faster - score - slack, 0.0)
        alarmed |= (slower > limit) | (faster > limit)
    return alarmed


def steps_until(pools: FloatArray, limits: FloatArray, draw: np.random.Generator) -> FloatArray:
    """Steps until each of some monitors that begin with the slowdown raises its alarm; infinite after 10,000."""
    engine = np.arange(DELAYS) % len(pools)
    slack, limit = limits[:, engine]
    over, delays = np.zeros(DELAYS), np.full(DELAYS, np.inf)
    for batch in range(1, 10_001):
        over = np.maximum(over + pools[engine, draw.integers(0, pools.shape[1], DELAYS)] - slack, 0.0)
        delays[(over > limit) & np.isinf(delays)] = batch * BATCH
        if np.isfinite(delays).all():
            break
    return delays


if __name__ == "__main__":
    main()
