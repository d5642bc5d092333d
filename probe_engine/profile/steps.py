"""Measure single steps over a grid of sizes: what the planner's step-time model is fitted to.

A step costs the same whatever the cache holds, so contexts of any length are set up by block tables alone, without
computing what would have filled them.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.runner import Runner, fit_num_blocks
from probe_engine.sched import Chunk, Request, SchedulerConfig, SchedulerOutput, StepStats

BLOCK_SIZE = 16
GREEDY = SamplingParams(temperature=0.0)
DECODE_SEQS = (1, 2, 4, 8, 16, 32, 64)
DECODE_CONTEXTS = (32, 128, 512, 1024)
PREFILLS = ((0, 16), (0, 64), (0, 256), (512, 64), (0, 1024), (512, 512))  # (start, tokens)


@dataclass(frozen=True, slots=True)
class StepShape:
    """One point of the grid: ``decode_seqs`` decodes at ``decode_context`` keys each, and one prefill chunk."""

    decode_seqs: int
    decode_context: int
    prefill_start: int
    prefill_tokens: int

    @property
    def stats(self) -> StepStats:
        """The step's size as the scheduler counts it."""
        start, tokens = self.prefill_start, self.prefill_tokens
        return StepStats(
            prefill_tokens=tokens,
            prefill_attention=tokens * start + tokens * (tokens + 1) // 2,
            decode_seqs=self.decode_seqs,
            decode_kv_tokens=self.decode_seqs * self.decode_context,
        )

    @property
    def blocks(self) -> int:
        """Cache blocks that the step's requests own."""
        prefill = -(-(self.prefill_start + self.prefill_tokens) // BLOCK_SIZE) if self.prefill_tokens else 0
        return self.decode_seqs * -(-self.decode_context // BLOCK_SIZE) + prefill


@dataclass(frozen=True, slots=True)
class StepObservation:
    """One measured step; the sizes are those of ``StepStats``."""

    prefill_tokens: int
    prefill_attention: int
    decode_seqs: int
    decode_kv_tokens: int
    wall_s: float


@dataclass(frozen=True, slots=True)
class StepProfile:
    """Observations of one model on one machine; ``left_out`` grid points did not fit the model or the memory."""

    observations: tuple[StepObservation, ...]
    model: str
    dtype: str
    device: str
    threads: int
    seed: int
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """The profile as a JSON object, ``observations`` a list of objects."""
        return asdict(self)


def profile_steps(
    model: str,
    *,
    dtype: str = "float32",
    threads: int | None = None,
    seed: int = 0,
    repeats: int = 3,
    memory_bytes: int = 1 << 30,
    device: str = "auto",
    shapes: Sequence[StepShape] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> StepProfile:
    """Measure every shape ``repeats`` times in seeded random order, after one unmeasured pass.

    ``memory_bytes`` bounds the KV cache; ``shapes`` None is ``grid()``.
    """
    loaded = load_model(model, dtype, device, seed)
    capacity = fit_num_blocks(loaded, BLOCK_SIZE, memory_bytes)
    wanted = grid() if shapes is None else tuple(shapes)
    fitting = [shape for shape in wanted if _fits(shape, loaded, capacity)]
    most_blocks = max((shape.blocks for shape in fitting), default=1)
    config = SchedulerConfig(
        num_blocks=most_blocks,
        block_size=BLOCK_SIZE,
        max_num_seqs=max((shape.decode_seqs for shape in fitting), default=0) + 1,
        max_model_len=min(loaded.config.max_tokens, most_blocks * BLOCK_SIZE),
    )
    rng = random.Random(seed)
    observations: list[StepObservation] = []
    with torch_threads(threads) as used:
        runner = Runner(loaded, config)
        for round_ in range(repeats + 1):
            for shape in rng.sample(fitting, len(fitting)):
                wall_s = _measure(runner, shape, rng, loaded.config.vocab_size, clock)
                if round_:
                    observations.append(StepObservation(**shape.stats._asdict(), wall_s=wall_s))
    return StepProfile(
        observations=tuple(observations),
        model=loaded.name,
        dtype=loaded.dtype,
        device=loaded.device,
        threads=used,
        seed=seed,
        left_out=len(wanted) - len(fitting),
    )


def grid() -> tuple[StepShape, ...]:
    """Decodes alone, prefills alone, and both together at a few sizes."""
    decodes = [(seqs, context) for seqs in DECODE_SEQS for context in DECODE_CONTEXTS]
    alone = [StepShape(seqs, context, 0, 0) for seqs, context in decodes]
    prefills = [StepShape(0, 0, start, tokens) for start, tokens in PREFILLS]
    mixed = [StepShape(seqs, 128, start, tokens) for seqs in (4, 32) for start, tokens in PREFILLS]
    return (*alone, *prefills, *mixed)


def _fits(shape: StepShape, loaded: LoadedModel, capacity: int) -> bool:
    longest = max(shape.decode_context, shape.prefill_start + shape.prefill_tokens)
    return shape.blocks <= capacity and longest <= loaded.config.max_tokens


def _measure(
    runner: Runner, shape: StepShape, rng: random.Random, vocab_size: int, clock: Callable[[], float]
) -> float:
    chunks = [(shape.decode_context - 1, 1)] * shape.decode_seqs
    if shape.prefill_tokens:
        chunks.append((shape.prefill_start, shape.prefill_tokens))
    prefills, taken = [], 0
    for index, (start, tokens) in enumerate(chunks):
        request = Request(f"step-{index}", start + tokens, 1, 0.0)
        blocks = -(-(start + tokens) // BLOCK_SIZE)
        request.block_table = list(range(taken, taken + blocks))
        taken += blocks
        runner.add(
            request.request_id, rng.choices(range(vocab_size), k=start + tokens), SamplingParams(temperature=0.0)
        )
        prefills.append(Chunk(request, start, tokens, samples=True))
    output = SchedulerOutput(
        step=0, decode_step=0, decodes=(), prefills=tuple(prefills), preempted=(), stats=shape.stats
    )
    before = clock()
    runner.execute(output)
    wall_s = clock() - before
    for chunk in prefills:
        runner.remove(chunk.request.request_id)
    return wall_s
