"""Play a trace against the twin: requests in, one row per request out, in the schema that a replay has."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.errors import ModelError
from planner.latency import LatencyModel, Overhead, StepModel
from planner.result import Observation, Requests, Run, RunHeader
from planner.sim.clock import Arrival, run
from planner.sim.replica import Replica, StepLog
from planner.sim.router import ROUTERS
from planner.slo import Slo
from planner.trace import Ragged, Trace
from probe_engine.sched import Request, RequestRefused, SchedulerConfig

FloatArray = npt.NDArray[np.float64]
_NOISE_STREAM = 0x5EED

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Twin:
    """A fleet to simulate: scheduler limits and step-time model of a replica, how many there are, how they are fed.

    ``noise`` are factors of a step's time (``StepModel.noise()``), empty for a step that always takes its mean.
    ``hull`` bounds what the model was fitted on; ``overhead`` is what a client waits beyond the engine's clock.
    """

    scheduler: SchedulerConfig
    model: LatencyModel
    replicas: int = 1
    router: str = "least_load"
    noise: tuple[float, ...] = ()
    hull: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    overhead: Overhead = Overhead()

    def __post_init__(self) -> None:
        if self.replicas < 1:
            raise ModelError(f"replicas {self.replicas}: must be at least 1")
        if self.router not in ROUTERS:
            raise ModelError(f"router {self.router!r}: must be one of {', '.join(ROUTERS)}")

    @classmethod
    def of(
        cls, model: StepModel, *, replicas: int = 1, router: str = "least_load", noise: bool = True, **limits: Any
    ) -> "Twin":
        """The fleet that a fitted model describes; ``limits`` replace scheduler limits. Raises ModelError."""
        return cls(
            scheduler=model.scheduler_config(**limits),
            model=model.latency_model(),
            replicas=replicas,
            router=router,
            noise=model.noise() if noise else (),
            hull=MappingProxyType(dict(model.hull)),
            overhead=model.overhead,
        )


@dataclass(frozen=True, slots=True)
class Played:
    """What a simulation gave; arrays are (rows,) in the order of the trace, seconds, NaN where it never came."""

    due_s: FloatArray
    first_token_s: FloatArray
    last_token_s: FloatArray
    cached_tokens: FloatArray
    preemptions: npt.NDArray[np.int64]
    refusals: dict[int, str]
    token_times_s: tuple[FloatArray, ...] | None
    logs: tuple[StepLog, ...]
    end_s: float

    def gaps(self) -> tuple[FloatArray, FloatArray]:
        """Gaps between tokens, pooled: their lengths in seconds and how many tokens had each."""
        lengths = [np.array(part) for log in self.logs for part in (log.gap_s, log.long_gaps_s)]
        counts = [np.array(part) for log in self.logs for part in (log.gap_tokens, np.ones(len(log.long_gaps_s)))]
        return np.concatenate(lengths), np.concatenate(counts).astype(np.float64)

    @property
    def steps(self) -> int:
        """Steps of all replicas."""
        return sum(log.steps for log in self.logs)

    @property
    def outside_ratio(self) -> float:
        """Share of steps larger than any that the model was fitted on."""
        return sum(log.outside for log in self.logs) / max(self.steps, 1)


def play(
    trace: Trace, twin: Twin, *, seed: int = 0, token_times: bool = False, progress: Progress | None = None
) -> Played:
    """Simulate every request of ``trace`` to its end. Same trace, twin and seed: same result, bit for bit.

    ``progress(done, total)`` is called now and then.
    """
    rows = len(trace)
    due_s = trace.arrival_ns / 1e9
    first, last, cached = (np.full(rows, np.nan) for _ in range(3))
    preemptions = np.zeros(rows, dtype=np.int64)
    refusals: dict[int, str] = {}
    times: list[list[float]] | None = [[] for _ in range(rows)] if token_times else None
    done = 0

    def finished(request: Request) -> None:
        nonlocal done
        row = int(request.request_id)
        timeline = request.timeline
        first[row] = timeline.first_token_s
        last[row] = timeline.last_token_s
        cached[row] = request.cached_tokens
        preemptions[row] = request.preemptions
        tick()

    def refused(request: Request, refusal: RequestRefused) -> None:
        refusals[int(request.request_id)] = str(refusal)
        tick()

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None and done % 256 == 0:
            progress(done, rows)

    generators = [np.random.default_rng([seed, _NOISE_STREAM, index]) for index in range(twin.replicas)]
    replicas = [
        Replica(twin.scheduler, twin.model, noise=twin.noise, generator=generator, hull=twin.hull)
        for generator in generators
    ]
    arrivals = _arrivals(trace, twin, due_s, times)
    end_s = run(arrivals, replicas, ROUTERS[twin.router], finished, refused)
    return Played(
        due_s=due_s,
        first_token_s=first,
        last_token_s=last,
        cached_tokens=cached,
        preemptions=preemptions,
        refusals=refusals,
        token_times_s=None if times is None else tuple(np.array(row) for row in times),
        logs=tuple(replica.log for replica in replicas),
        end_s=end_s,
    )


def simulate(
    trace: Trace,
    twin: Twin,
    *,
    seed: int = 0,
    slo: Slo | None = None,
    shaping: dict[str, Any] | None = None,
    model_name: str = "",
    progress: Progress | None = None,
) -> Run:
    """Play ``trace`` and give a ``Run`` of kind ``twin``, with each token's time."""
    played = play(trace, twin, seed=seed, token_times=True, progress=progress)
    rows = len(trace)
    ended = ~np.isnan(played.last_token_s)
    status = np.where(ended, "ok", "unfinished").astype("<U10")
    errors: list[str | None] = [None] * rows
    for row, reason in played.refusals.items():
        status[row] = "rejected"
        errors[row] = reason
    requests = Requests(
        row_id=trace.row_id,
        due_s=played.due_s,
        sent_s=played.due_s,
        first_token_s=played.first_token_s,
        last_token_s=played.last_token_s,
        end_s=played.last_token_s,
        input_tokens=trace.input_tokens,
        output_tokens=np.where(ended, trace.output_tokens, 0),
        cached_tokens=played.cached_tokens,
        status=status,
        error=tuple(errors),
        token_times_s=played.token_times_s,
    )
    header = RunHeader(
        kind="twin",
        target="twin",
        model=model_name,
        trace=trace.header.source,
        trace_sha256=trace.sha256(),
        shaping=shaping or {},
        seed=seed,
        slo=slo,
        versions=versions(),
        details=_details(played, twin),
    )
    return Run(header, requests, tuple(_observation(log) for log in played.logs if log.steps))


def _arrivals(trace: Trace, twin: Twin, due_s: FloatArray, times: list[list[float]] | None) -> Iterator[Arrival]:
    """Requests as they reach the engine, made when their time comes, sorted by it."""
    at_s = due_s + twin.overhead.fixed_s + twin.overhead.per_prompt_token_s * trace.input_tokens
    prefix = trace.column("prefix_hashes")
    block_tokens = trace.column("block_tokens")
    for row in np.argsort(at_s, kind="stable").tolist():
        prompt = int(trace.input_tokens[row])
        hashes: list[int] = []
        if isinstance(prefix, Ragged) and block_tokens is not None and not isinstance(block_tokens, Ragged):
            hashes = split_blocks(prefix.row(row).tolist(), int(block_tokens[row]), twin.scheduler.block_size, prompt)
        request = Request(
            request_id=str(row),
            prompt_tokens=prompt,
            max_tokens=int(trace.output_tokens[row]),
            arrival_s=float(at_s[row]),
            block_hashes=hashes,
        )
        if times is not None:
            request.timeline.token_times = times[row]
        yield float(at_s[row]), request


def split_blocks(hashes: list[int], block_tokens: int, block_size: int, prompt_tokens: int) -> list[int]:
    """A trace's chained block ids as ids of the engine's smaller full blocks.

    Empty when the trace's block is no multiple of the engine's: sharing is then unknown. Sharing inside a trace block
    is not known either, so what the twin finds cached is a floor.
    """
    if block_tokens % block_size:
        return []
    ratio = block_tokens // block_size
    split = [content * ratio + part for content in hashes for part in range(ratio)]
    return split[: prompt_tokens // block_size]


def _details(played: Played, twin: Twin) -> dict[str, Any]:
    return {
        "replicas": twin.replicas,
        "router": twin.router,
        "steps": played.steps,
        "steps_outside_hull_ratio": round(played.outside_ratio, 6),
        "preemptions": int(played.preemptions.sum()),
        "kv_peak_ratio": round(max(log.kv_peak_ratio for log in played.logs), 6),
        "busy_ratio": round(sum(log.busy_s for log in played.logs) / max(played.end_s * twin.replicas, 1e-12), 6),
        "scheduler": scheduler_limits_of(twin.scheduler),
        "noise": "drawn from calibration residuals" if twin.noise else "none",
    }


def scheduler_limits_of(config: SchedulerConfig) -> dict[str, Any]:
    """The limits as a plain mapping, as model files and run headers keep them."""
    return asdict(config)


def _observation(log: StepLog) -> Observation:
    return Observation(
        steps=log.steps,
        wall_s=log.busy_s,
        prefill_tokens=log.prefill_tokens,
        prefill_attention=log.prefill_attention,
        decode_seqs=log.decode_seqs,
        decode_kv_tokens=log.decode_kv_tokens,
    )


def versions() -> dict[str, str]:
    """What made a result."""
    try:
        return {"loadline": version("loadline")}
    except PackageNotFoundError:
        return {}
