"""Decoding with the shape of Llama-3-8B on a GPU: tokens per second, share of the roofline, transformers beside it.

    python -m benchmarks.engine_gpu [--batches 1 32 256] [--prompt-tokens 1024] [--bandwidth 4.8e12]

Weights are random (nothing is downloaded), bfloat16, greedy. The roofline of a decode step is its weights, read once,
and its keys and values, over ``--bandwidth`` (bytes/s; the vendor's figure for an H200). transformers' continuous
batching runs the same prompts in the same process afterwards. Without a CUDA device it says that nothing was measured.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers

from benchmarks._transformers_burst import continuous_batch
from probe_engine.model.loading import LoadedModel, load_model
from probe_engine.profile.bench import burst_config, random_prompts, serve_burst
from probe_engine.runtime.runner import Runner

SEED = 11
SHAPE: dict[str, Any] = {
    "vocab_size": 128_256,
    "hidden_size": 4096,
    "intermediate_size": 14_336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}


def main() -> None:
    """Measure, or say that there is nothing to measure with."""
    options = _options()
    if not torch.cuda.is_available():
        print("not measured: no CUDA device")
        print(json.dumps({"benchmark": "engine_gpu", "rows": []}))
        return
    config = transformers.LlamaConfig(**SHAPE)
    with tempfile.TemporaryDirectory() as directory:
        config.save_pretrained(Path(directory))
        loaded = load_model(directory, "bfloat16", "cuda", SEED, dummy_weights=True)
    ours = {batch: decode(loaded, batch, options) for batch in options.batches}
    del loaded
    gc.collect()
    torch.cuda.empty_cache()
    peer = None if options.no_transformers else _transformers(config, options)
    rows = []
    for batch, figures in ours.items():
        for what, value, unit in figures:
            rows.append({"what": f"batch {batch}: {what}", "ours": value, "unit": unit})
        if peer is not None:
            rows[-1] |= {"peer": peer[batch], "peer_name": "transformers continuous batching"}
    print(torch.cuda.get_device_name())
    for row in rows:
        print(f"{row['what']:<50} {row['ours']:>12,.2f} {row['unit']}")
    print(json.dumps({"benchmark": "engine_gpu", "rows": rows}))


def decode(loaded: LoadedModel, batch: int, options: argparse.Namespace) -> list[tuple[str, float, str]]:
    """Figures of one burst: its last steps, in which all decode, against the roofline; and the whole of it."""
    prompt_tokens, output_tokens = options.prompt_tokens, options.output_tokens
    config = burst_config(batch, prompt_tokens, output_tokens)
    runner = Runner(loaded, config)
    prompts = random_prompts(loaded.config.vocab_size, batch, prompt_tokens, SEED)
    serve_burst(runner, config, prompts, 4)  # kernels are compiled, the graph is recorded
    started = time.perf_counter()
    times_s, _ = serve_burst(runner, config, prompts, output_tokens)
    whole_s = time.perf_counter() - started
    step_s = statistics.median(times_s[-output_tokens // 2 :])
    context = prompt_tokens + output_tokens * 3 / 4  # of the median of those steps
    read_bytes = weight_bytes(loaded) + batch * context * loaded.model.kv_bytes_per_token
    return [
        ("decode", batch / step_s, "tok/s"),
        ("share of the memory roofline", 100 * read_bytes / options.bandwidth / step_s, "%"),
        ("whole burst, prefill included", batch * output_tokens / whole_s, "tok/s"),
    ]


def weight_bytes(loaded: LoadedModel) -> int:
    """Bytes of weights that a decode step reads: all but the embedding, of which it reads a row per sequence."""
    config = loaded.config
    return loaded.model.weight_bytes - config.vocab_size * config.hidden_size * loaded.model.dtype.itemsize


def _transformers(config: Any, options: argparse.Namespace) -> dict[int, float]:
    """Output tokens per second of whole bursts."""
    with torch.device("cuda"):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()
    found = {}
    for batch in options.batches:
        prompts = random_prompts(config.vocab_size, batch, options.prompt_tokens, SEED)
        continuous_batch(model, prompts, 4)
        started = time.perf_counter()
        tokens = continuous_batch(model, prompts, options.output_tokens)
        found[batch] = tokens / (time.perf_counter() - started)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--prompt-tokens", type=int, default=1024)
    parser.add_argument("--output-tokens", type=int, default=128)
    parser.add_argument("--bandwidth", type=float, default=4.8e12, help="Bytes per second that the memory delivers.")
    parser.add_argument("--no-transformers", action="store_true", help="Leave the peer out.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
