"""How fast the engine is without its server: a burst of equal requests, all there at once.

Greedy, random token ids, no end-of-text: every request gets exactly its tokens, so runs are comparable.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from probe_engine.model.loading import LoadedModel
from probe_engine.model.sampling import SamplingParams
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.parallel import load
from probe_engine.runtime.runner import Runner
from probe_engine.runtime.startup import process_age_s
from probe_engine.sched import Request, Scheduler, SchedulerConfig

BLOCK_SIZE = 16


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What a burst came to.

    ``wall_s`` counts from the first step to the last token; loading and warm-up are not in it.
    ``kernels`` names the attention that ran. ``cold_start_s`` is from the process's start to the end of the warm-up,
    ``phases_s`` what it is made of: base (interpreter and imports), the model's phases, KV cache, warm-up; None where
    the model was there before. ``weight_bytes`` is what the weights take in this process.
    """

    model: str
    dtype: str
    device: str
    kernels: str
    threads: int
    seed: int
    requests: int
    prompt_tokens: int
    output_tokens: int
    wall_s: float
    output_tokens_per_s: float
    steps: int
    step_p50_s: float
    step_p95_s: float
    step_p99_s: float
    first_token_p50_s: float
    quantization: str = "none"
    weight_bytes: int = 0
    cold_start_s: float | None = None
    phases_s: dict[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)


def run_bench(
    model: str,
    requests: int = 64,
    prompt_tokens: int = 128,
    output_tokens: int = 64,
    *,
    dtype: str = "float32",
    threads: int | None = None,
    seed: int = 0,
    device: str = "auto",
    quantization: str = "none",
    tensor_parallel: int = 1,
) -> BenchResult:
    """Load ``model`` (directory or ``tiny``) and serve ``requests`` at once, each of the same size.

    ``threads`` None is torch's own choice; each of ``tensor_parallel`` processes uses so many.
    """
    base_s = process_age_s()
    with torch_threads(threads):
        loaded = load(model, dtype, device, seed, quantization=quantization, tensor_parallel=tensor_parallel)
        try:
            result = bench_loaded(loaded, requests, prompt_tokens, output_tokens, threads=threads, seed=seed)
        finally:
            loaded.model.close()
    phases_s = {"base": base_s, **loaded.phases_s, **(result.phases_s or {})}
    return replace(result, phases_s=phases_s, cold_start_s=sum(phases_s.values()))


def bench_loaded(
    loaded: LoadedModel, requests: int, prompt_tokens: int, output_tokens: int, *, threads: int | None, seed: int
) -> BenchResult:
    """``run_bench`` on a model that is loaded already."""
    prompts = random_prompts(loaded.config.vocab_size, requests, prompt_tokens, seed)
    config = burst_config(requests, prompt_tokens, output_tokens)
    with torch_threads(threads) as used:
        began = time.perf_counter()
        runner = Runner(loaded, config)
        filled = time.perf_counter()
        serve_burst(runner, config, prompts[:2], min(2, output_tokens))  # first calls allocate and choose kernels
        phases_s = {"kv_cache": filled - began, "warm_up": time.perf_counter() - filled}
        times_s, timelines = serve_burst(runner, config, prompts, output_tokens)
    wall_s = sum(times_s)
    return BenchResult(
        model=loaded.name,
        dtype=loaded.dtype,
        device=loaded.device,
        kernels=runner.kernels,
        threads=used,
        seed=seed,
        requests=requests,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        wall_s=wall_s,
        output_tokens_per_s=requests * output_tokens / wall_s,
        steps=len(times_s),
        step_p50_s=quantile(times_s, 0.5),
        step_p95_s=quantile(times_s, 0.95),
        step_p99_s=quantile(times_s, 0.99),
        first_token_p50_s=quantile(timelines, 0.5),
        quantization=loaded.quantization,
        weight_bytes=loaded.model.weight_bytes,
        phases_s=phases_s,
    )


def random_prompts(vocab_size: int, requests: int, tokens: int, seed: int) -> list[list[int]]:
    """Seeded prompts of uniformly drawn token ids."""
    rng = random.Random(seed)
    return [[rng.randrange(vocab_size) for _ in range(tokens)] for _ in range(requests)]


def burst_config(requests: int, prompt_tokens: int, output_tokens: int) -> SchedulerConfig:
    """Room for all of a burst at once, so that nothing is preempted; no prefix cache, since prompts share nothing."""
    longest = prompt_tokens + output_tokens
    return SchedulerConfig(
        num_blocks=requests * -(-longest // BLOCK_SIZE),
        block_size=BLOCK_SIZE,
        max_num_batched_tokens=max(2048, requests),
        max_num_seqs=requests,
        max_model_len=longest,
        prefix_cache=False,
    )


def serve_burst(
    runner: Runner,
    config: SchedulerConfig,
    prompts: Sequence[list[int]],
    output_tokens: int,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[list[float], list[float]]:
    """Serve ``prompts`` to the end: seconds of each step (scheduling included), and of each request's first token."""
    scheduler = Scheduler(config)
    started = clock()
    requests = [Request(f"burst-{index}", len(prompt), output_tokens, started) for index, prompt in enumerate(prompts)]
    for request, prompt in zip(requests, prompts, strict=True):
        scheduler.add(request)
        runner.add(request.request_id, prompt, SamplingParams(temperature=0.0))
    times_s: list[float] = []
    before = clock()
    while (output := scheduler.schedule(before)) is not None:
        runner.execute(output)
        now = clock()
        for request in scheduler.update(output, {}, now):
            runner.remove(request.request_id)
        times_s.append(clock() - before)
        before += times_s[-1]
    first_tokens_s = [request.timeline.ttft_s for request in requests]
    return times_s, [first for first in first_tokens_s if first is not None]


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
