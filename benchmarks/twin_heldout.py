"""How far the twin is from the engine on this machine, on workloads that it was not calibrated on.

    python -m benchmarks.twin_heldout [--model tiny|DIRECTORY] [--quick] [--only process|http] [--keep FOLDER]

Plays four workloads against the engine, a short part of each before, between and after twelve others of other rates,
lengths, burstiness and shares of common prefixes; fits a step-time model on what the engine did in all parts of the
four, and holds the twin against each of the twelve. The twin (the mean of five seeds) knows the arrivals and lengths
that were asked for and nothing else of the twelve. A machine's speed changes with its neighbours, so errors are told
three times, each time with the same costs per token:

* ``once``: at the mean speed of all parts, as with a calibration that nobody renews;
* ``beside``: at the speed of the parts just before and after, as with one renewed from live telemetry; the goals are
  for this;
* ``at its own speed``: at the speed of the run itself, which no forecast knows: what is left is the model's error, and
  what ``beside`` has more is the machine's.

Where the speed was measured the twin's noise is that of steps about it (``planner.sim.spread.steady``). Two ways:
``process``
runs the engine in this process on the CPU clock of its thread, so that waiting for a core does not count; ``http``
starts a server and plays as ``loadline replay`` does, in wall time. Both need a quiet machine: neighbours slow the
CPU's clock and caches by tens of percent. ``--keep`` writes the recorded runs into a folder, ``--runs FOLDER`` takes
them from there.
Goals: median error of end to end at most
3%, TTFT p50 5%, TTFT p99 10%, time per token p99 5%.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks._workloads import Workload
from planner.compare import compare
from planner.replay.exchange import Exchange
from planner.replay.session import Outline, Playing, replay
from planner.replay.target import Target
from planner.result import Run, read_run
from planner.sim import Twin, simulate
from planner.sim.spread import steady
from planner.steps.calibrate import from_run, merge, slowness
from planner.steps.latency import StepModel
from probe_engine.settings import EngineSettings

PORT = 21520
WARM_UP = Workload("warm up", 10, 10)
CALIBRATION = (
    Workload("calibrate slow", 4, 2),
    Workload("calibrate even", 11, 2, gap_cv=0.5, prompt=160, output=40),
    Workload("calibrate bursts", 9, 2, gap_cv=2.0, prompt=96, output=48),
    Workload("calibrate long", 4, 2, prompt=300, output=120),
)
HELD_OUT = (
    Workload("few", 2, 30),
    Workload("Poisson", 9, 30),
    Workload("busy", 14, 30),
    Workload("even", 13, 30, gap_cv=0.4),
    Workload("bursts", 8, 30, gap_cv=2.5),
    Workload("long prompts", 6, 30, prompt=320, prompt_cv=0.5, output=16),
    Workload("long outputs", 5, 30, prompt=64, output=160, output_cv=0.5),
    Workload("fixed lengths", 11, 30, prompt_cv=0.05, output_cv=0.05),
    Workload("wide lengths", 8, 30, prompt_cv=1.6, output_cv=1.6),
    Workload("half shared", 12, 30, shared_ratio=0.5),
    Workload("all shared bursts", 10, 30, shared_ratio=1.0, gap_cv=2.0),
    Workload("chat, shared", 9, 30, prompt=96, output=64, shared_ratio=0.7),
)
REQUEST_S = 0.09  # what a request of the warm-up costs the engine for which the rates above are meant
LEAST_PER_S = 10
SEEDS = 5
LIMITS = {"max_num_seqs": 64, "num_blocks": 4096}
SPEEDS = ("once", "beside", "at its own speed")
GOALS = {
    ("e2e_sent_s", "p50"): 3.0,
    ("e2e_sent_s", "p99"): 3.0,
    ("ttft_sent_s", "p50"): 5.0,
    ("ttft_sent_s", "p99"): 10.0,
    ("tpot_s", "p50"): 5.0,
    ("tpot_s", "p99"): 5.0,
}
WORDS = {"e2e_sent_s": "end to end", "ttft_sent_s": "TTFT", "tpot_s": "time per token"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What was asked for, with which seed, and what the engine did."""

    workload: Workload
    seed: int
    run: Run

    @property
    def learnt(self) -> bool:
        """Whether it is part of the calibration."""
        return self.workload.name.startswith("calibrate")


def main() -> None:
    """Print a table and, as the last line, JSON."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", default="tiny", help="as for loadline engine serve")
    arguments.add_argument("--quick", action="store_true", help="every third workload, a third as long")
    arguments.add_argument("--only", choices=("process", "http"), help="one of the two ways")
    arguments.add_argument("--keep", type=Path, help="folder to write the recorded runs into")
    arguments.add_argument("--runs", type=Path, help="folder to take recorded runs from")
    arguments.add_argument("--port", type=int, default=PORT)
    given = arguments.parse_args()
    planned = plan(quick=given.quick)
    rows: list[dict[str, object]] = []
    for way in ("process", "http") if given.only is None else (given.only,):
        if given.runs is not None:
            recorded = [load(given.runs / way, one, seed) for one, seed in planned]
        else:
            keep = None if given.keep is None else given.keep / way
            recorded = WAYS[way](given, planned, keep)
        model = merge([from_run(one.run, one.workload.name) for one in recorded if one.learnt]).fit()
        for speed, ratios in speeds(model, recorded).items():
            print("  ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items()), file=sys.stderr)
            errors = dict(errors_of(model, recorded, ratios))
            print(table(f"{way}, {speed}", errors), flush=True)
            rows += [{**figure, "what": f"{way}, {speed}: {figure['what']}"} for figure in figures(errors)]
    print(json.dumps({"benchmark": "twin_heldout", "rows": rows}))


def in_process(given: argparse.Namespace, planned: Sequence[tuple[Workload, int]], keep: Path | None) -> list[Recorded]:
    """Play all on the engine in this process, on the CPU clock of its thread."""
    from benchmarks._engine_in_process import EngineInProcess

    served = EngineInProcess(EngineSettings(model=given.model, **LIMITS))
    served.play(WARM_UP.trace(0), 0)
    faster = REQUEST_S / busy_s(served.play(WARM_UP.trace(1), 1))
    return [
        kept(Recorded(one, seed, served.play(one.trace(seed), seed)), keep)
        for one, seed in ((at_speed(one, faster), seed) for one, seed in planned)
    ]


def over_http(given: argparse.Namespace, planned: Sequence[tuple[Workload, int]], keep: Path | None) -> list[Recorded]:
    """Play all against a server of its own process, as ``loadline replay`` does."""
    with engine(given.model, given.port) as url:
        record(url, WARM_UP, 0)
        faster = REQUEST_S / busy_s(record(url, WARM_UP, 1).run)
        return [kept(record(url, at_speed(one, faster), seed), keep) for one, seed in planned]


def busy_s(run: Run) -> float:
    """Seconds in steps per request."""
    return sum(step.wall_s for step in run.observations) / len(run.requests)


def at_speed(workload: Workload, faster: float) -> Workload:
    """The workload for an engine that is so many times as fast: the same load on it, at least as many requests."""
    requests = max(workload.per_s * workload.seconds, workload.seconds * LEAST_PER_S)
    return replace(workload, per_s=workload.per_s * faster, seconds=requests / (workload.per_s * faster))


WAYS = {"process": in_process, "http": over_http}


def plan(*, quick: bool) -> list[tuple[Workload, int]]:
    """Workloads in the order in which they are played, each with its seed: all of ``CALIBRATION`` about each other."""
    order = parts(0)
    for at, one in enumerate(HELD_OUT[::3] if quick else HELD_OUT, 1):
        order += [replace(one, seconds=one.seconds * (0.3 if quick else 1.0)), *parts(at)]
    return [(one, 100 + at) for at, one in enumerate(order)]


def parts(number: int) -> list[Workload]:
    """A part of each workload to calibrate on."""
    return [replace(one, name=f"{one.name} {number}") for one in CALIBRATION]


def speeds(model: StepModel, recorded: Sequence[Recorded]) -> dict[str, dict[str, float]]:
    """How many times as long as the model says each held-out run's steps take, by what is known of that."""
    beside, own, count = {}, {}, len(CALIBRATION)
    for at, one in enumerate(recorded):
        if not one.learnt:
            around = [*recorded[at - count : at], *recorded[at + 1 : at + 1 + count]]
            beside[one.workload.name] = slowness(model, [step for near in around for step in near.run.observations])
            own[one.workload.name] = slowness(model, one.run.observations)
    return dict(zip(SPEEDS, (dict.fromkeys(own, 1.0), beside, own), strict=True))


@contextmanager
def engine(model: str, port: int) -> Iterator[str]:
    """An engine of one thread in a process of its own, as its base address."""
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "loadline.py", "engine", "serve", "--model", model, "--port", str(port)]
    options = ["--threads", "1", *(f"--{name.replace('_', '-')}={value}" for name, value in LIMITS.items())]
    with subprocess.Popen(
        [*command, *options], cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "listening on" in line:
                break
        try:
            yield url
        finally:
            process.terminate()
            process.stderr.read()


def record(url: str, workload: Workload, seed: int) -> Recorded:
    """Play one workload against a server."""
    playing = Playing(url=url, seed=seed, timeout_s=60.0)
    return Recorded(workload, seed, asyncio.run(replay(workload.trace(seed), playing, Quiet(), asyncio.Event())))


def kept(recorded: Recorded, folder: Path | None) -> Recorded:
    """Tell of a run, and write it where a folder is given."""
    lag = recorded.run.header.details.get("lag")
    late = "" if lag is None else f", lag p99 {lag['p99_s'] * 1e3:.1f} ms"
    print(f"{recorded.workload.name}: {len(recorded.run.requests)} requests{late}", file=sys.stderr, flush=True)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        recorded.run.write(file_of(folder, recorded.workload))
    return recorded


def load(folder: Path, workload: Workload, seed: int) -> Recorded:
    """A recorded run; its own arrivals tell how fast its workload was played."""
    run = read_run(file_of(folder, workload))
    requests = len(run.requests)
    trial = replace(workload, seconds=requests / workload.per_s)
    factor = trial.trace(seed).duration_s / float(run.requests.due_s[-1] - run.requests.due_s[0])
    return Recorded(replace(trial, per_s=trial.per_s * factor, seconds=trial.seconds / factor), seed, run)


def file_of(folder: Path, workload: Workload) -> Path:
    """Where a workload's run is kept."""
    return folder / f"{workload.name.replace(' ', '-').replace(',', '')}.json"


class Quiet:
    """A replay that tells nothing."""

    def started(self, target: Target, outline: Outline) -> None:
        """Nothing."""

    def sent(self, count: int = 1) -> None:
        """Nothing."""

    def ended(self, exchange: Exchange) -> None:
        """Nothing."""


Errors = dict[str, tuple[float, ...]]
"""Signed errors of each workload, percent (above 0 the twin is too slow), in the order of ``GOALS``."""


def errors_of(
    model: StepModel, recorded: Sequence[Recorded], ratios: Mapping[str, float]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Held-out workloads and errors, means over the twin's seeds; ``ratios`` are those of ``speeds``."""
    for one in recorded:
        if one.learnt:
            continue
        ratio = ratios[one.workload.name]
        trace, fleet = one.workload.trace(one.seed), Twin.of(model.slower(ratio))
        fleet = fleet if ratio == 1.0 else steady(fleet)
        found = [compare(one.run, simulate(trace, fleet, seed=seed)) for seed in range(SEEDS)]
        means = (np.mean([seeded.metrics[metric].error[q] for seeded in found]) for metric, q in GOALS)
        yield one.workload.name, tuple(float(mean) * 100 for mean in means)


def table(way: str, errors: Errors) -> str:
    """A line per workload, then medians of the sizes, the goals, and whether they are met."""
    names = [f"{WORDS[metric]} {q}" for metric, q in GOALS]
    medians = [median(abs(one) for one in column) for column in zip(*errors.values(), strict=True)]
    lines = [f"{way}: error of the twin, %".ljust(48) + "".join(name.rjust(20) for name in names)]
    lines += [name.ljust(48) + "".join(f"{one:+20.1f}" for one in found) for name, found in errors.items()]
    lines.append("median of the sizes".ljust(48) + "".join(f"{one:20.1f}" for one in medians))
    lines.append("goal".ljust(48) + "".join(f"{goal:20.1f}" for goal in GOALS.values()))
    kept = ["yes" if one <= goal else "no" for one, goal in zip(medians, GOALS.values(), strict=True)]
    lines.append("kept".ljust(48) + "".join(one.rjust(20) for one in kept))
    return "\n".join(lines)


def figures(errors: Errors) -> Iterator[dict[str, object]]:
    """Signed errors per workload, then medians of their sizes."""
    for at, (metric, q) in enumerate(GOALS):
        for name, found in errors.items():
            yield row(f"{name}: {WORDS[metric]} {q}, error", found[at])
    for at, ((metric, q), goal) in enumerate(GOALS.items()):
        sizes = [abs(found[at]) for found in errors.values()]
        yield row(f"median of {len(sizes)}: {WORDS[metric]} {q} (goal {goal:g})", median(sizes))
    largest = max(abs(found[list(GOALS).index(("ttft_sent_s", "p99"))]) for found in errors.values())
    yield row("TTFT p99 over all, largest error", largest)


def row(what: str, percent: float) -> dict[str, object]:
    """One figure."""
    return {"what": what, "ours": round(percent, 1), "unit": "%"}


if __name__ == "__main__":
    main()
