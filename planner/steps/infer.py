"""Evidence of step times from an engine that does not time its steps: worked out from what it does expose.

Used for engines such as vLLM: iterations and their tokens are counted, the gap between tokens is timed. While tokens
flow, the gap is the time of a step. What is assumed is in the notes: a model from here is coarser than a measured one.
"""

import numpy as np

from collector.client import Client
from collector.signals import Present, Vocabulary
from planner.errors import ModelError
from planner.result import Observation
from planner.steps.calibrate import Evidence, limits_from_source

NEEDED = ("itl", "iteration_tokens", "generated_tokens", "running_requests")


def from_iterations(
    client: Client, vocabulary: Vocabulary, start_s: float, end_s: float, step_s: float, pool: str
) -> Evidence:
    """One observation per interval: steps, their tokens, and mean token gap times steps as their time.

    KV tokens are KV use times capacity where exposed, else 0; prefill attention is taken as that of prompts of mean
    length. Raises ModelError when a signal that is needed is absent.
    """
    for signal in NEEDED:
        status = vocabulary.status(signal)
        if not isinstance(status, Present):
            raise ModelError(f"{signal} is {status}")
    where, window, by = f'pool="{pool}"', f"{step_s:g}s", ("pool",)
    asked = {
        "steps": vocabulary.increase("iteration_tokens", window, by, where, part="count"),
        "tokens": vocabulary.increase("iteration_tokens", window, by, where, part="sum"),
        "generated": vocabulary.increase("generated_tokens", window, by, where),
        "gap_s": vocabulary.mean("itl", window, by, where),
    }
    if vocabulary.present("prompt_length"):
        asked["prompt"] = vocabulary.mean("prompt_length", window, by, where)
    if vocabulary.present("kv_usage"):
        asked["kv_usage"] = vocabulary.gauge("kv_usage", "avg", by, where)
    limits = limits_from_source(client, vocabulary, end_s, pool)
    capacity_tokens = limits.get("num_blocks", 0) * limits.get("block_size", 16)
    columns: dict[str, dict[int, float]] = {}
    for name, expression in asked.items():
        for series in client.query_range(expression, start_s + step_s, end_s, step_s):
            columns[name] = dict(zip(series.timestamps_ms.tolist(), series.values.tolist(), strict=True))
    needed = [columns.get(name, {}) for name in ("steps", "tokens", "generated", "gap_s")]
    moments = sorted(set.intersection(*(set(points) for points in needed)))
    found = []
    for at_ms in moments:
        steps, tokens, generated, gap_s = (points[at_ms] for points in needed)
        if not (steps > 0 and gap_s > 0 and all(np.isfinite([steps, tokens, generated, gap_s]))):
            continue
        prefill = max(tokens - generated, 0.0)
        prompt = columns.get("prompt", {}).get(at_ms, 0.0)
        kv_usage = columns.get("kv_usage", {}).get(at_ms, 0.0)
        found.append(
            Observation(
                steps=steps,
                wall_s=gap_s * steps,
                prefill_tokens=prefill,
                prefill_attention=prefill * (prompt if np.isfinite(prompt) else 0.0) / 2,
                decode_seqs=generated,
                decode_kv_tokens=(kv_usage if np.isfinite(kv_usage) else 0.0) * capacity_tokens * steps,
                start_s=at_ms / 1000 - step_s,
                end_s=at_ms / 1000,
            )
        )
    return Evidence(
        source=f"{client.base_url} {pool}: iterations and token gaps",
        observations=tuple(found),
        scheduler=limits,
        engine={"pool": pool},
    )
