"""From settings to a loaded model with its engine; the only place where all the parts meet."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict

import torch

from probe_engine.errors import SettingsError
from probe_engine.model.loading import LoadedModel
from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.parallel import load
from probe_engine.runtime.promises import ModelRunner
from probe_engine.runtime.runner import Runner, fit_num_blocks
from probe_engine.runtime.startup import process_age_s
from probe_engine.sched import ConfigError, Request, RequestRefused, Scheduler, SchedulerConfig
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics

log = logging.getLogger(__name__)

WARM_UP_TOKENS = 32


def build_engine(settings: EngineSettings, metrics: EngineMetrics) -> tuple[LoadedModel, Engine, dict[str, float]]:
    """Load the model, size the KV cache and make the engine; also how long each phase took (s).

    ``base`` is what the process did before, then the model's phases, the KV cache and the warm-up.

    Raises ``ModelError`` or ``SettingsError``.
    """
    base_s = process_age_s()
    torch.set_num_threads(settings.threads or max(1, default_threads() // settings.tensor_parallel))
    loaded = load(
        settings.model,
        dtype=settings.dtype,
        device=settings.device,
        seed=settings.seed,
        quantization=settings.quantization,
        tensor_parallel=settings.tensor_parallel,
        dummy_weights=settings.dummy_weights,
    )
    began = time.perf_counter()
    config = scheduler_config(settings, loaded)
    runner = Runner(loaded, config, seed=settings.seed)
    engine = Engine(
        runner,
        loaded.tokenizer,
        config,
        metrics,
        record_tokens=settings.otlp_endpoint is not None,
        launch=runner.launch if loaded.model.device.type == "cuda" else None,
    )
    filled = time.perf_counter()
    warm_up(runner, config, loaded.config.vocab_size)
    phases_s = {"base": base_s, **loaded.phases_s, "kv_cache": filled - began, "warm_up": time.perf_counter() - filled}
    log.info(
        "%s: %.1fM weights in %s on %s, %d threads, %d KV blocks of %d tokens; cold start %.1f s (%s)",
        loaded.name,
        loaded.config.parameters / 1e6,
        loaded.dtype,
        loaded.device,
        torch.get_num_threads(),
        config.num_blocks,
        config.block_size,
        sum(phases_s.values()),
        ", ".join(f"{phase} {took:.2f}" for phase, took in phases_s.items()),
    )
    return loaded, engine, phases_s


def default_threads() -> int:
    """All cores but one, which the server and its neighbours need: a step waits for its slowest thread."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def warm_up(runner: ModelRunner, config: SchedulerConfig, vocab_size: int) -> None:
    """Serve two short prompts past the engine, so that the first request does not pay for what is made on first use."""
    scheduler = Scheduler(config)
    prompt_tokens = max(1, min(WARM_UP_TOKENS, config.max_model_len // 2, config.num_blocks * config.block_size // 4))
    for name in ("warm-up-0", "warm-up-1"):
        request = Request(name, prompt_tokens, min(3, config.max_model_len - prompt_tokens), 0.0)
        try:
            scheduler.check(request)
        except RequestRefused:
            return  # a cache too small to warm up in serves next to nothing anyway
        scheduler.add(request)
        runner.add(name, [index % vocab_size for index in range(prompt_tokens)], SamplingParams(temperature=0.0))
    while (output := scheduler.schedule(0.0)) is not None:
        runner.execute(output)
        for ended in scheduler.update(output, {}, 0.0):
            runner.remove(ended.request_id)


def scheduler_config(settings: EngineSettings, loaded: LoadedModel) -> SchedulerConfig:
    """The scheduler's limits for this model; raises ``SettingsError`` for limits that contradict each other."""
    blocks = settings.num_blocks or fit_num_blocks(loaded, settings.block_size, settings.kv_memory_bytes)
    longest = min(loaded.config.max_tokens, blocks * settings.block_size)
    try:
        return SchedulerConfig(
            num_blocks=blocks,
            block_size=settings.block_size,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_num_seqs=settings.max_num_seqs,
            max_model_len=settings.max_model_len or longest,
            prefix_cache=settings.prefix_cache,
            **settings.scheduling(),
        )
    except ConfigError as error:
        raise SettingsError(str(error)) from error


def model_shape(loaded: LoadedModel) -> Mapping[str, object]:
    """The model's shape, for ``/metadata``."""
    shape = asdict(loaded.config)
    shape.pop("eos_ids")
    return {
        "loaded_from": loaded.name,
        "kernels": loaded.model.kernels,
        "quantization": loaded.quantization,
        "weight_bytes": loaded.model.weight_bytes,
        "parameters": loaded.config.parameters,
        **shape,
    }
