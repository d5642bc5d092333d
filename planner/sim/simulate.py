"""Play a trace against the twin: requests in, one row per request out, in the schema that a replay has."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from planner.errors import ModelError
from planner.result import Observation, Requests, Run, RunHeader
from planner.sim.clock import Arrival, Clock
from planner.sim.gateway import Gateway, routing_only
from planner.sim.pace import to_s, to_ticks
from planner.sim.replica import Replica, StepLog
from planner.sim.router import GATEWAY_ROUTERS, ROUTERS, least_load
from planner.slo import Slo
from planner.steps.latency import LatencyModel, Overhead, StepModel
from planner.traces.trace import Ragged, Trace
from probe_engine.gateway.settings import UpGatewaySettings
from probe_engine.sched import Request, SchedulerConfig

FloatArray = npt.NDArray[np.float64]
_NOISE_STREAM = 0x5EED
_ROWS = 4096  # taken from arrays at once

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Twin:
    """A fleet to simulate: scheduler limits and step-time model of a replica, how many there are, how they are fed.

    ``noise`` are factors of a step's time (``StepModel.noise()``), drawn ``noise_stretch`` at once; empty for a step
    that always takes its mean. ``prompt_noise`` are those of steps with prompts, if other. ``hull`` bounds what the
    model was fitted on; ``overhead`` is what a client waits beyond the engine's clock. ``deadline_s`` is how long
    each request waits for its first admission before it is dropped. ``drawn`` are models as they might have been
    fitted on other evidence: how far the model may be trusted. ``gateway`` is what stands in front of the replicas; its
    routing then takes the place of ``router``.
    """

    scheduler: SchedulerConfig
    model: LatencyModel
    replicas: int = 1
    router: str = "least_load"
    noise: tuple[float, ...] = ()
    hull: MappingProxyType[str, float] = field(default_factory=lambda: MappingProxyType({}))
    overhead: Overhead = Overhead()
    noise_stretch: int = 1
    prompt_noise: tuple[float, ...] = ()
    deadline_s: float | None = None
    drawn: tuple[LatencyModel, ...] = ()
    gateway: UpGatewaySettings | None = None

    def __post_init__(self) -> None:
        if self.gateway is not None and self.gateway.upstream and len(self.gateway.upstream) != self.replicas:
            upstreams = len(self.gateway.upstream)
            raise ModelError(f"the gateway has {upstreams} upstreams, the twin {self.replicas} replicas")
        if self.deadline_s is not None and not self.deadline_s > 0:
            raise ModelError(f"deadline {self.deadline_s:g} s: must be above 0")
        if self.replicas < 1:
            raise ModelError(f"replicas {self.replicas}: must be at least 1")
        if self.prompt_noise and len(self.prompt_noise) != len(self.noise):
            raise ModelError(
                f"{len(self.prompt_noise)} factors for prompts: must be as many as noise ({len(self.noise)})"
            )
        if self.router not in ROUTERS and self.router not in GATEWAY_ROUTERS:
            raise ModelError(f"router {self.router!r}: must be one of {', '.join((*ROUTERS, *GATEWAY_ROUTERS))}")

    def front(self) -> Gateway | None:
        """A gateway for one play: the one that was given, or one that only routes; None where neither is needed."""
        if self.gateway is not None:
            return Gateway(self.gateway, self.scheduler.block_size)
        if self.router in ROUTERS:
            return None
        return Gateway(routing_only(GATEWAY_ROUTERS[self.router]), self.scheduler.block_size, guarded=False)

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
            prompt_noise=model.noise(prompts=True) if noise else (),
            hull=MappingProxyType(dict(model.hull)),
            overhead=model.overhead,
            noise_stretch=model.residual_stretch if noise else 1,
            drawn=model.drawn_models(),
        )


@dataclass(frozen=True, slots=True)
class Played:
    """What a simulation gave; arrays are (rows,) in the order of the trace, seconds, NaN where it never came.

    ``attempts`` counts how often each request was sent: more than once when its replica was lost. ``alive_s`` is the
    time that each replica was there.
    """

    due_s: FloatArray
    first_token_s: FloatArray
    last_token_s: FloatArray
    cached_tokens: FloatArray
    preemptions: npt.NDArray[np.int64]
    attempts: npt.NDArray[np.int64]
    refusals: dict[int, str]
    token_times_s: tuple[FloatArray, ...] | None
    logs: tuple[StepLog, ...]
    alive_s: FloatArray
    end_s: float
    breakers_opened: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    def gaps(self) -> tuple[FloatArray, FloatArray]:
        """Gaps between tokens, pooled: their lengths in seconds (to 0.1%) and how many tokens had each."""
        parts = [log.gaps.arrays() for log in self.logs]
        return np.concatenate([lengths for lengths, _ in parts]), np.concatenate([counts for _, counts in parts])

    @property
    def steps(self) -> int:
        """Steps of all replicas."""
        return sum(log.steps for log in self.logs)

    @property
    def outside_ratio(self) -> float:
        """Share of steps larger than any that the model was fitted on."""
        return sum(log.outside for log in self.logs) / max(self.steps, 1)


def play(
    trace: Trace,
    twin: Twin,
    *,
    seed: int = 0,
    token_times: bool = False,
    skip: bool = True,
    warm_up_ratio: float = 0.0,
    script: "Script | None" = None,
    progress: Progress | None = None,
) -> Played:
    """Simulate every request of ``trace`` to its end. Same trace, twin and seed: same result, bit for bit.

    ``skip`` passes over uniform decode steps at once; without it each is played, with the same result. Gaps between
    tokens are counted from the due time of the row after the first ``warm_up_ratio``. ``script`` sets timers that fail
    or add replicas. ``progress(done, total)`` is called now and then.
    """
    stage = Stage(trace, twin, seed, token_times, skip, warm_up_ratio, progress)
    gateway = twin.front()
    clock = Clock(
        [stage.new_replica() for _ in range(twin.replicas)],
        ROUTERS.get(twin.router, least_load),
        stage.finished,
        stage.refused,
        stage.dropped,
        gateway,
    )
    if script is not None:
        script(clock, stage)
    end = clock.run(stage.arrivals())
    played = stage.played(clock, end)
    return played if gateway is None else replace(played, breakers_opened=gateway.opened)


class Stage:
    """One simulation's rows: makes its requests and replicas, and notes how each request ended."""

    def __init__(
        self,
        trace: Trace,
        twin: Twin,
        seed: int,
        token_times: bool,
        skip: bool,
        warm_up_ratio: float,
        progress: Progress | None,
    ) -> None:
        rows = len(trace)
        self.due_s = trace.arrival_ns / 1e9
        self._trace, self._twin, self._seed, self._skip, self._progress = trace, twin, seed, skip, progress
        self._first, self._last, self._cached = (np.full(rows, np.nan) for _ in range(3))
        self._preemptions = np.zeros(rows, dtype=np.int64)
        self._attempts = np.ones(rows, dtype=np.int64)
        self._refusals: dict[int, str] = {}
        self._times: list[list[float]] | None = [[] for _ in range(rows)] if token_times else None
        self._settled = to_ticks(float(self.due_s[int(rows * warm_up_ratio)])) if rows and warm_up_ratio else 0
        self._made = 0
        self._done = 0
        self._own = 0
        self._prefix = trace.column("prefix_hashes")
        self._block_tokens = trace.column("block_tokens")
        tenants = trace.column("tenant")
        self._tenants = None if tenants is None or isinstance(tenants, Ragged) else tenants
        self.on_first_token: Callable[[int, float], None] | None = None

    def new_replica(self) -> Replica:
        """Another replica of the fleet, with a stream of noise of its own."""
        generator = np.random.default_rng([self._seed, _NOISE_STREAM, self._made])
        self._made += 1
        twin = self._twin
        return Replica(
            twin.scheduler,
            twin.model,
            noise=twin.noise,
            noise_stretch=twin.noise_stretch,
            prompt_noise=twin.prompt_noise,
            generator=generator,
            hull=twin.hull,
            skip=self._skip,
            settled=self._settled,
            token_times=self._times is not None,
            counted=not (isinstance(self._prefix, Ragged) and twin.scheduler.prefix_cache),
        )

    def arrivals(self) -> Iterator[Arrival]:
        """Requests as they reach the engine, made when their time comes, sorted by it."""
        overhead = self._twin.overhead
        at = self._trace.arrival_ns / 1e9 + overhead.fixed_s + overhead.per_prompt_token_s * self._trace.input_tokens
        order = np.argsort(at, kind="stable")
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            for row, at_s in zip(rows.tolist(), at[rows].tolist(), strict=True):
                tick = to_ticks(at_s)
                yield tick, self._request(row, tick)

    def again(self, lost: Request, tick: int) -> Request:
        """The request that a client sends when the replica that had ``lost`` is gone."""
        row = int(lost.request_id)
        self._attempts[row] += 1
        if self._times is not None:
            self._times[row] = []
        return self._request(row, tick)

    def attempts(self, lost: Request) -> int:
        """How often a request has been sent."""
        return int(self._attempts[int(lost.request_id)])

    def finished(self, request: Request) -> None:
        """A request ended."""
        row = int(request.request_id)
        timeline = request.timeline
        self._first[row] = timeline.first_token_s
        self._last[row] = timeline.last_token_s
        self._cached[row] = request.cached_tokens
        self._preemptions[row] = request.preemptions
        if self.on_first_token is not None and timeline.first_token_s is not None:
            self.on_first_token(row, timeline.first_token_s)
        self._tick()

    def refused(self, request: Request, refusal: Exception) -> None:
        """A request can never be served, or the gateway turned it away."""
        self._refusals[int(request.request_id)] = str(refusal)
        self._tick()

    def dropped(self, request: Request) -> None:
        """A request's deadline passed before it was admitted."""
        self._refusals[int(request.request_id)] = "its deadline passed while it waited"
        self._tick()

    def given_up(self, request: Request) -> None:
        """A client has tried often enough."""
        self._refusals[int(request.request_id)] = "its replica was lost, and so were those of its retries"
        self._tick()

    def played(self, clock: Clock, end: int) -> Played:
        """The rows as they are now."""
        return Played(
            due_s=self.due_s,
            first_token_s=self._first,
            last_token_s=self._last,
            cached_tokens=self._cached,
            preemptions=self._preemptions,
            attempts=self._attempts,
            refusals=self._refusals,
            token_times_s=None if self._times is None else tuple(np.array(row) for row in self._times),
            logs=tuple(replica.log for replica in clock.replicas),
            alive_s=np.array([to_s((end if r.stopped is None else r.stopped) - r.started) for r in clock.replicas]),
            end_s=to_s(end),
        )

    def _request(self, row: int, tick: int) -> Request:
        prompt, output = int(self._trace.input_tokens[row]), int(self._trace.output_tokens[row])
        arrival_s = to_s(tick)
        patience_s = self._twin.deadline_s
        deadline_s = None if patience_s is None else arrival_s + patience_s
        tenant = None if self._tenants is None or self._tenants[row] is None else str(self._tenants[row])
        request = Request(
            str(row),
            prompt,
            output,
            arrival_s,
            self._hashes(row, prompt, output),
            tenant=tenant,
            deadline_s=deadline_s,
        )
        if self._times is not None:
            request.timeline.token_times = self._times[row]
        return request

    def _hashes(self, row: int, prompt: int, output: int) -> list[int]:
        """Content of every full block that a request will have: what the trace tells, then what only it has.

        None where the trace tells nothing of what is shared.
        """
        sizes, size = self._block_tokens, self._twin.scheduler.block_size
        hashes: list[int] = []
        if not isinstance(self._prefix, Ragged):
            return hashes
        if sizes is not None and not isinstance(sizes, Ragged):
            hashes = split_blocks(self._prefix.row(row).tolist(), int(sizes[row]), size, prompt)
        before = self._own  # ids below 0: no trace has any
        self._own -= max((prompt + output) // size - len(hashes), 0)
        hashes += range(before - 1, self._own - 1, -1)
        return hashes

    def _tick(self) -> None:
        self._done += 1
        if self._progress is not None and self._done % 256 == 0:
            self._progress(self._done, len(self.due_s))


Script = Callable[[Clock, Stage], None]


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
        "router": twin.router if twin.gateway is None else twin.gateway.routing,
        "gateway": None if twin.gateway is None else _gateway_details(played, twin.gateway),
        "steps": played.steps,
        "steps_outside_hull_ratio": round(played.outside_ratio, 6),
        "preemptions": int(played.preemptions.sum()),
        "kv_peak_ratio": round(max(log.kv_peak_ratio for log in played.logs), 6),
        "busy_ratio": round(sum(log.busy_s for log in played.logs) / max(played.end_s * twin.replicas, 1e-12), 6),
        "scheduler": scheduler_limits_of(twin.scheduler),
        "noise": "drawn from calibration residuals" if twin.noise else "none",
    }


def _gateway_details(played: Played, gateway: UpGatewaySettings) -> dict[str, Any]:
    told = gateway.model_dump(mode="json", exclude_defaults=True, exclude={"upstream"})
    return {"settings": told, "refused": len(played.refusals), "breakers_opened": dict(played.breakers_opened)}


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
