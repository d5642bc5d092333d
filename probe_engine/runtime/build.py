"""From settings to a loaded model with its engine; the only place where all the parts meet."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict

import torch

from probe_engine.errors import SettingsError
from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.runtime.engine import Engine
from probe_engine.runtime.runner import Runner, fit_num_blocks
from probe_engine.sched import ConfigError, SchedulerConfig
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics

log = logging.getLogger(__name__)


def build_engine(settings: EngineSettings, metrics: EngineMetrics) -> tuple[LoadedModel, Engine, dict[str, float]]:
    """Load the model, size the KV cache and make the engine; also how long each phase took (s).

    Raises ``ModelError`` or ``SettingsError``.
    """
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    loaded = load_model(settings.model, dtype=settings.dtype, device=settings.device, seed=settings.seed)
    began = time.perf_counter()
    config = scheduler_config(settings, loaded)
    runner = Runner(loaded, config, seed=settings.seed)
    engine = Engine(runner, loaded.tokenizer, config, metrics, record_tokens=settings.otlp_endpoint is not None)
    phases_s = {**loaded.phases_s, "kv_cache": time.perf_counter() - began}
    log.info(
        "%s: %.1fM weights in %s on %s, %d threads, %d KV blocks of %d tokens",
        loaded.name,
        loaded.config.parameters / 1e6,
        loaded.dtype,
        loaded.device,
        torch.get_num_threads(),
        config.num_blocks,
        config.block_size,
    )
    return loaded, engine, phases_s


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
        )
    except ConfigError as error:
        raise SettingsError(str(error)) from error


def model_shape(loaded: LoadedModel) -> Mapping[str, object]:
    """The model's shape, for ``/metadata``."""
    shape = asdict(loaded.config)
    shape.pop("eos_ids")
    return {"loaded_from": loaded.name, "parameters": loaded.config.parameters, **shape}
