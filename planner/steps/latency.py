"""How long one engine step takes, given its size: the models that the twin runs on, and the file they live in.

A model is a sum of non-negative costs, so more work never takes less time:

    seconds = base + a * prefill tokens + b * prefill attention + c * decode sequences + d * decode KV tokens
              + sum of bend * min(variable, knot) + sum of bend * max(variable - knot, 0)

The bends up to a knot (hinge form) let cost per token fall off where batching helps (weights read once, experts
shared); those beyond one (bend form) let it rise where computing begins to take longer than reading. Kernels that are
chosen by batch size make stairs that no sum of costs has: factors by size, learnt from what was seen of each size.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planner.errors import ModelError
from planner.slo import first_fault
from probe_engine.sched import SchedulerConfig, SchedulerError, StepStats

COSTS = ("steps", "prefill_tokens", "prefill_attention", "decode_seqs", "decode_kv_tokens")
"""Names of the linear costs; ``steps`` is the cost of a step as such."""

LEAST_RESIDUALS = 20


class LatencyModel(Protocol):
    """Anything that says how long a step takes."""

    def step_seconds(self, stats: StepStats) -> float:
        """Seconds that a step of this size takes."""
        ...


@dataclass(frozen=True, slots=True)
class ConstantModel:
    """Every step takes the same time; for tests against closed forms and for what-ifs."""

    seconds: float

    def step_seconds(self, stats: StepStats) -> float:
        """The constant."""
        return self.seconds


@dataclass(frozen=True, slots=True)
class LinearModel:
    """Costs in seconds per step, prefill token, prefill query-key pair, decode sequence and decode KV token."""

    step_s: float
    prefill_token_s: float
    prefill_attention_s: float
    decode_seq_s: float
    decode_kv_token_s: float

    def step_seconds(self, stats: StepStats) -> float:
        """Seconds of a step of this size."""
        return (
            self.step_s
            + self.prefill_token_s * stats.prefill_tokens
            + self.prefill_attention_s * stats.prefill_attention
            + self.decode_seq_s * stats.decode_seqs
            + self.decode_kv_token_s * stats.decode_kv_tokens
        )


class Hinge(BaseModel):
    """A cost of ``seconds`` per unit of ``variable`` up to ``knot`` and none beyond, or the other way round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variable: Literal["tokens", "prefill_tokens", "decode_seqs"]
    knot: float = Field(gt=0)
    seconds: float = Field(ge=0)
    side: Literal["upto", "beyond"] = "upto"


@dataclass(frozen=True, slots=True)
class HingeModel:
    """A linear model and bends in the number of tokens, prefill tokens or decode sequences of a step.

    ``hinges`` and ``beyond`` hold (variable, knot, seconds): a cost per unit up to the knot, and beyond it.
    """

    linear: LinearModel
    hinges: tuple[tuple[str, float, float], ...]
    beyond: tuple[tuple[str, float, float], ...] = ()

    def step_seconds(self, stats: StepStats) -> float:
        """Seconds of a step of this size."""
        seconds = self.linear.step_seconds(stats)
        for variable, knot, cost in self.hinges:
            amount = _amount(variable, stats)
            seconds += cost * (amount if amount < knot else knot)
        for variable, knot, cost in self.beyond:
            amount = _amount(variable, stats)
            if amount > knot:
                seconds += cost * (amount - knot)
        return seconds


def _amount(variable: str, stats: StepStats) -> int:
    if variable == "tokens":
        return stats.prefill_tokens + stats.decode_seqs
    return stats.prefill_tokens if variable == "prefill_tokens" else stats.decode_seqs


Factors = tuple[tuple[float, float], ...]
"""(size from which on, factor), sizes rising; below the first, the first factor holds."""


def factor_at(factors: Factors, size: float) -> float:
    """The factor for a size; 1 where there are none."""
    if not factors:
        return 1.0
    return factors[max(bisect_right(factors, size, key=lambda pair: pair[0]) - 1, 0)][1]


@dataclass(frozen=True, slots=True)
class CorrectedModel:
    """A model times a factor by size: of decode sequences for steps that only decode, of tokens for the others."""

    base: LinearModel | HingeModel
    decode: Factors
    prefill: Factors

    def step_seconds(self, stats: StepStats) -> float:
        """Seconds of a step of this size."""
        seconds = self.base.step_seconds(stats)
        if stats.prefill_tokens:
            return seconds * factor_at(self.prefill, stats.prefill_tokens + stats.decode_seqs)
        return seconds * factor_at(self.decode, stats.decode_seqs)


class Overhead(BaseModel):
    """What a client waits beyond the engine's own clock before its first token: handling, tokenising, network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixed_s: float = Field(default=0.0, ge=0)
    per_prompt_token_s: float = Field(default=0.0, ge=0)
    requests: int = Field(
        default=0, description="requests that it was measured on; 0: it was not measured and is taken as 0"
    )


class Error(BaseModel):
    """Errors of predictions against observed wall times, as ratios; ``bias`` is summed predicted / observed - 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observations: int
    median: float
    mean: float
    p90: float
    bias: float


class StepModel(BaseModel):
    """A fitted step-time model with its evidence; the file that ``plan calibrate`` writes.

    ``residual_quantiles`` are evenly spaced quantiles of observed / predicted - 1; ``residuals`` are some of them as
    they followed each other, in stretches of ``residual_stretch``. ``basis`` says whether they are of single steps or
    of sums over intervals (which hide the noise of single steps). ``forward`` is the mean error of each form on the
    busiest steps after a fit without them. ``hull`` is the largest observed value of each cost's unit; beyond it the
    model extrapolates. ``step_gap_s`` is the time between two steps of a busy engine that its step clock does not
    count. ``decode_factors`` and ``prefill_factors`` correct the costs by the size of a step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["loadline-model"] = "loadline-model"
    version: Literal[1] = 1
    source: str
    engine: dict[str, str] = {}
    form: Literal["linear", "hinge", "bend"]
    costs_s: dict[str, float]
    hinges: tuple[Hinge, ...] = ()
    costs_drawn: tuple[tuple[float, ...], ...] = Field(
        default=(), description="costs, then bends, as other stretches of the same evidence would have given them"
    )
    decode_factors: Factors = ()
    prefill_factors: Factors = ()
    step_gap_s: float = Field(default=0.0, ge=0)
    overhead: Overhead = Overhead()
    scheduler: dict[str, Any] | None = None
    basis: Literal["step", "interval"]
    residual_quantiles: tuple[float, ...] = ()
    residuals: tuple[float, ...] = ()
    residual_stretch: int = Field(default=1, ge=1)
    residual_prompts: tuple[int, ...] = Field(default=(), description="which residuals are of steps with prompts")
    hull: dict[str, float] = {}
    fit: Error
    held_out: Error | None = None
    forward: dict[str, float] = Field(
        default={}, description="mean error of each form on the busiest steps, fitted without them"
    )
    notes: tuple[str, ...] = ()

    def latency_model(self) -> LatencyModel:
        """The model as something that the twin can run on; mean time, gap between steps included."""
        return self._with([*(self.costs_s.get(name, 0.0) for name in COSTS), *(hinge.seconds for hinge in self.hinges)])

    def drawn_models(self) -> tuple[LatencyModel, ...]:
        """The model as it might have been fitted, once per draw; none where there was too little evidence to tell."""
        return tuple(self._with(costs) for costs in self.costs_drawn)

    def slower(self, ratio: float) -> "StepModel":
        """The same engine on a machine on which every step takes ``ratio`` times as long."""
        return self.model_copy(
            update={
                "costs_s": {name: cost * ratio for name, cost in self.costs_s.items()},
                "hinges": tuple(hinge.model_copy(update={"seconds": hinge.seconds * ratio}) for hinge in self.hinges),
                "costs_drawn": tuple(tuple(cost * ratio for cost in drawn) for drawn in self.costs_drawn),
                "step_gap_s": self.step_gap_s * ratio,
            }
        )

    def _with(self, costs: Sequence[float]) -> LatencyModel:
        linear = LinearModel(costs[0] + self.step_gap_s, *costs[1 : len(COSTS)])
        base: LinearModel | HingeModel = linear
        if self.hinges:
            bends = tuple(zip(self.hinges, costs[len(COSTS) :], strict=True))
            upto, beyond = (
                tuple((hinge.variable, hinge.knot, cost) for hinge, cost in bends if hinge.side == side)
                for side in ("upto", "beyond")
            )
            base = HingeModel(linear, upto, beyond)
        if not (self.decode_factors or self.prefill_factors):
            return base
        return CorrectedModel(base, self.decode_factors, self.prefill_factors)

    def noise(self, *, prompts: bool = False) -> tuple[float, ...]:
        """Factors around 1 to draw a step's time from; of mean 1; empty when there is no evidence.

        Stretches of ``residual_stretch`` of them followed each other: what slows one step often slows the next, of
        whatever kind. Steps with ``prompts`` are longer and vary less: for the two kinds the same residuals are scaled
        to the spread that each kind has, so that factors at one place of both answers belong together.
        """
        if self.basis != "step":
            return ()
        if not self.residuals:
            return _of_mean_1([1.0 + residual for residual in self.residual_quantiles])
        with_prompts = frozenset(self.residual_prompts)
        logs = [log(max(1.0 + residual, 1e-3)) for residual in self.residuals]
        spread = {
            kind: _spread([one for at, one in enumerate(logs) if (at in with_prompts) == kind] or logs)
            for kind in (False, True)
        }
        if min(len(with_prompts), len(logs) - len(with_prompts)) < LEAST_RESIDUALS or not min(spread.values()):
            return _of_mean_1([exp(one) for one in logs])
        wanted = spread[prompts]
        return _of_mean_1([exp(one * wanted / spread[at in with_prompts]) for at, one in enumerate(logs)])

    def scheduler_config(self, **overrides: Any) -> SchedulerConfig:
        """The scheduler that the engine ran with, some of its limits replaced (None: kept).

        Raises ModelError when a limit is known from nowhere.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        limits = {**(self.scheduler or {}), **given}
        if "num_blocks" not in limits:
            raise ModelError("the model does not say how many KV blocks the engine has; give --num-blocks")
        try:
            return SchedulerConfig(**limits)
        except (TypeError, SchedulerError) as error:
            raise ModelError(f"scheduler limits {limits}: {error}") from error

    def write(self, path: Path) -> None:
        """Write as JSON. Raises ModelError."""
        try:
            path.write_bytes(orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n")
        except OSError as error:
            raise ModelError(f"{path}: cannot be written: {error.strerror}") from error


def _spread(logs: list[float]) -> float:
    """Root mean square around 0."""
    return sqrt(sum(one * one for one in logs) / len(logs))


def _of_mean_1(factors: list[float]) -> tuple[float, ...]:
    mean = sum(factors) / max(len(factors), 1)
    return tuple(factor / mean for factor in factors)


def read_model(path: Path) -> StepModel:
    """Read a model file. Raises ModelError with file, field and value."""
    try:
        return StepModel.model_validate(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise ModelError(f"{path}: is not JSON: {error}") from error
    except ValidationError as error:
        raise ModelError(f"{path}: is not a step-time model: {first_fault(error)}") from error


def scheduler_limits(found: Mapping[str, object]) -> dict[str, Any]:
    """Scheduler limits out of an engine's metadata or info labels; texts become numbers, other keys are left out."""
    limits: dict[str, Any] = {}
    for name in ("num_blocks", "block_size", "max_num_batched_tokens", "max_num_seqs", "max_model_len"):
        value = found.get(name)
        if isinstance(value, int | float | str) and str(value).strip():
            limits[name] = int(float(value))
    cache = found.get("prefix_cache")
    if cache is not None:
        limits["prefix_cache"] = str(cache).lower() in ("true", "1", "on", "yes")
    return limits
