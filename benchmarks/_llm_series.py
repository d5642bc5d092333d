"""Two scraped targets of an inference fleet: 2,000 series, counters and histograms with a restart, and gauges.

The shape is that of vLLM's metrics behind ten instances: request counters by model and reason, latency histograms of 20
buckets, GPU gauges. Values follow a day's swing and are drawn from a seed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from collector.model.labels import Labels, from_mapping
from collector.model.series import Float64Array, Int64Array

BOUNDS = (
    "0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5",
    "10", "20", "40", "80", "+Inf",
)  # fmt: skip
REASONS = ("stop", "length", "abort", "error", "timeout", "oom", "shed", "invalid", "quota", "other")
HISTOGRAMS = (("llm_ttft_seconds", -1.5, 0.9), ("llm_itl_seconds", -3.7, 0.5), ("llm_e2e_seconds", 1.2, 0.8))
INSTANCES = 10


@dataclass(frozen=True, slots=True)
class Target:
    """One scraped target: ``labels`` (series,), ``timestamps_ms`` (steps,), ``values`` (steps, series)."""

    key: str
    labels: tuple[Labels, ...]
    timestamps_ms: Int64Array
    values: Float64Array


def targets(end_ms: int, steps: int, interval_ms: int, seed: int = 7) -> tuple[Target, Target]:
    """Both targets; the second is scraped half an interval before the first."""
    rng = np.random.default_rng(seed)
    rows: list[list[tuple[Labels, Float64Array]]] = [[], []]
    for instance in range(INSTANCES):
        name = {"instance": f"10.0.0.{instance + 1}:8000", "job": "vllm"}
        restart = int(rng.integers(steps // 4, steps))
        seconds = np.arange(steps) * interval_ms / 1000
        for labels, values, counts in _instance(rng, name, seconds, interval_ms / 1000):
            shown = _restarted(np.cumsum(values), restart) if counts else values
            rows[instance >= INSTANCES // 2].append((from_mapping(labels), shown))
    times = end_ms - interval_ms * np.arange(steps - 1, -1, -1, dtype=np.int64)
    made = [
        Target(
            f"target-{number}",
            tuple(labels for labels, _ in some),
            times - number * (interval_ms // 2),
            np.ascontiguousarray(np.stack([values for _, values in some], axis=1)),
        )
        for number, some in enumerate(rows)
    ]
    return made[0], made[1]


def _restarted(counter: Float64Array, restart: int) -> Float64Array:
    counter[restart:] -= counter[restart - 1]
    return counter


def _instance(
    rng: np.random.Generator, name: dict[str, str], seconds: Float64Array, interval_s: float
) -> Iterator[tuple[dict[str, str], Float64Array, bool]]:
    """Labels, values, and whether these are increments of a counter."""
    steps = len(seconds)
    day = 1 + 0.6 * np.sin(2 * np.pi * seconds / 86_400)
    for model in range(5):
        for number, reason in enumerate(REASONS):
            rate = (0.2 + 0.3 * model) * (0.05 if number > 2 else 1.0) * day * interval_s
            labels = {"__name__": "llm_requests_total", "model": f"model-{model}", "reason": reason}
            yield name | labels, rng.poisson(rate).astype(float), True
    for metric, centre, spread in HISTOGRAMS:
        observed = rng.poisson(3 * day * interval_s)
        drift = centre + 0.4 * np.sin(2 * np.pi * seconds / 21_600)
        edges = np.log(np.array([float(bound) for bound in BOUNDS[:-1]]))
        below = np.vstack([0.5 * (1 + erf((edges[:, None] - drift) / (spread * np.sqrt(2)))), np.ones(steps)])
        left, counted, before = observed.copy(), np.zeros(steps), np.zeros(steps)
        model_name = name | {"model": "model-0"}
        for bound, share in zip(BOUNDS, below, strict=True):
            chance = np.clip((share - before) / np.maximum(1 - before, 1e-12), 0, 1)
            here = rng.binomial(left, chance)
            left, counted, before = left - here, counted + here, share
            yield model_name | {"__name__": f"{metric}_bucket", "le": bound}, counted.copy(), True
        yield model_name | {"__name__": f"{metric}_count"}, observed.astype(float), True
        yield model_name | {"__name__": f"{metric}_sum"}, observed * np.exp(drift) * rng.uniform(0.8, 1.2, steps), True
    for gpu in range(10):
        busy = np.clip(60 * day / 1.6 + np.cumsum(rng.normal(0, 2, steps)) % 40, 0, 100)
        on_gpu = name | {"gpu": str(gpu)}
        yield on_gpu | {"__name__": "gpu_util_percent"}, np.round(busy), False
        power = np.round(200 + 4 * busy + rng.normal(0, 5, steps), 3)
        yield on_gpu | {"__name__": "gpu_power_watts"}, power, False
        usage = np.clip(busy / 100 + rng.normal(0, 0.01, steps), 0, 1)
        yield on_gpu | {"__name__": "llm_kv_cache_usage_ratio"}, usage, False
        yield on_gpu | {"__name__": "llm_requests_running"}, rng.poisson(8 * day).astype(float), False
        tokens = rng.poisson(900 * day * interval_s).astype(float)
        yield on_gpu | {"__name__": "llm_generation_tokens_total"}, tokens, True
        prompt = rng.poisson(4000 * day * interval_s).astype(float)
        yield on_gpu | {"__name__": "llm_prompt_tokens_total"}, prompt, True
    for sensor in range(24):
        heat = np.round(55 + 6 * day + 0.4 * np.sin(seconds / 600 + sensor))
        yield name | {"__name__": "gpu_temp_celsius", "sensor": str(sensor)}, heat, False
