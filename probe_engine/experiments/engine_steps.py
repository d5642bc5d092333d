"""The engine's own steps, for experiments: the real model computes, and its time is taken. Drags in torch."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from probe_engine.experiments.steps import StepCost, fit
from probe_engine.experiments.trace import TraceRequest
from probe_engine.model.loading import LoadedModel
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.steps import grid, profile_steps
from probe_engine.runtime.runner import Runner
from probe_engine.sched import Request, Scheduler, SchedulerConfig, SchedulerOutput, StepStats

GREEDY = SamplingParams(temperature=0.0)


@dataclass(frozen=True, slots=True)
class Decoded:
    """Output token ids of each request, in order, and how long all of them took (s, by the wall's clock)."""

    tokens: list[list[int]]
    wall_s: float


def step_clock(device: str) -> Callable[[], float]:
    """What a step's time is taken with: on one CPU thread, that thread's processor time, which "
    "neighbours don't move."""
    return time.thread_time if device == "cpu" else time.perf_counter


class EngineSteps:
    """``Steps`` that compute, with random prompts (seeded) of the requests' lengths.

    clock: see ``step_clock``; the caller holds torch to one thread for it to be true.
    """

    def __init__(self, loaded: LoadedModel, config: SchedulerConfig, seed: int, clock: Callable[[], float]) -> None:
        self.runner = Runner(loaded, config, seed)
        self._vocabulary = range(loaded.config.vocab_size)
        self._rng = random.Random(seed)
        self._clock = clock

    def begin(self, request: Request) -> None:
        """Make its prompt."""
        self.runner.add(request.request_id, self._rng.choices(self._vocabulary, k=request.prompt_tokens), GREEDY)

    def execute(self, output: SchedulerOutput) -> float:
        """Compute it."""
        before = self._clock()
        self.runner.execute(output)
        return self._clock() - before

    def end(self, request: Request) -> None:
        """Forget it."""
        self.runner.remove(request.request_id)


def measured_cost(model: str, *, dtype: str = "float32", seed: int = 0, quick: bool = False) -> StepCost:
    """The linear cost of ``model``'s steps on one thread of this machine, fitted to single measured steps."""
    shapes = grid()[::4] if quick else grid()
    profile = profile_steps(
        model, dtype=dtype, threads=1, seed=seed, repeats=1 if quick else 3, shapes=shapes, clock=step_clock("cpu")
    )
    observed = [
        (StepStats(one.prefill_tokens, one.prefill_attention, one.decode_seqs, one.decode_kv_tokens), one.wall_s)
        for one in profile.observations
    ]
    what = f"{profile.model} {profile.dtype}, {len(observed)} steps measured here on one {profile.device} thread"
    return fit(observed, what)


def written(loaded: LoadedModel, tokens: int, window: int, seed: int) -> list[int]:
    """About ``tokens`` token ids that the model wrote at temperature 1, in texts of ``window`` tokens."""
    texts = max(1, tokens // window)
    config = SchedulerConfig(
        num_blocks=texts * -(-window // 16), max_model_len=window, max_num_seqs=texts, prefix_cache=False
    )
    runner, scheduler, rng = Runner(loaded, config, seed), Scheduler(config), random.Random(seed)
    ids = {f"text-{at}": [rng.randrange(loaded.config.vocab_size)] for at in range(texts)}
    for name, text in ids.items():
        scheduler.add(Request(name, 1, window - 1, 0.0))
        runner.add(name, list(text), SamplingParams(temperature=1.0))
    while (output := scheduler.schedule(0.0)) is not None:
        for name, token in runner.execute(output).items():
            ids[name].append(token)
        for ended in scheduler.update(output, {}, 0.0):
            runner.remove(ended.request_id)
    return [token for text in ids.values() for token in text]


def greedy(loaded: LoadedModel, trace: Sequence[TraceRequest], config: SchedulerConfig, seed: int) -> Decoded:
    """Serve ``trace`` at once, greedily, on random prompts (seeded)."""
    runner, scheduler, rng = Runner(loaded, config, seed), Scheduler(config), random.Random(seed)
    tokens: dict[str, list[int]] = {}
    for at, row in enumerate(trace):
        name = f"r{at}"
        tokens[name] = []
        scheduler.add(Request(name, row.prompt_tokens, row.output_tokens, 0.0))
        runner.add(name, rng.choices(range(loaded.config.vocab_size), k=row.prompt_tokens), GREEDY)
    began_s = time.perf_counter()
    while (output := scheduler.schedule(0.0)) is not None:
        for name, token in runner.execute(output).items():
            tokens[name].append(token)
        for ended in scheduler.update(output, {}, 0.0):
            runner.remove(ended.request_id)
    return Decoded(list(tokens.values()), time.perf_counter() - began_s)
