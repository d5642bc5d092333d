"""The engine beside transformers on one checkpoint, workload and thread count.

    python -m benchmarks.engine_vs_transformers [--dtype bfloat16] [--threads 1] [--size 15m] [--repeats 3] [--details]

Prints a table, and as its last line one JSON object with the rows; ``--details`` prints every run before it. Weights
and prompts are random; every request gets exactly its tokens, greedily. All sides run in this process, one after
another, several times; the best run of each counts. On a busy machine compare tokens per CPU second, with
``--threads 1``: waiting threads spin.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers

from benchmarks._checkpoints import SHAPES, VOCABULARY, make_checkpoint
from benchmarks._transformers_burst import continuous_batch
from probe_engine.model.loading import load_model
from probe_engine.profile.bench import bench_loaded, random_prompts


def static_batch(model: Any, prompts: list[list[int]], count: int) -> int:
    """All prompts as one batch through ``generate``: transformers' best case, since all lengths are equal."""
    ids = torch.tensor(prompts)
    with torch.inference_mode():
        answer = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
    return int(answer[:, ids.shape[1] :].numel())


def timed(run: Callable[[], int], expected: int) -> dict[str, Any]:
    """Output tokens per second of one run, or why there is no figure."""
    started, cpu_started = time.perf_counter(), time.process_time()
    try:
        tokens = run()
    except Exception as error:  # a peer that cannot run here is reported, never a failure of the comparison
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    if tokens != expected:
        return {"error": f"made {tokens} tokens; {expected} were asked for"}
    return {
        "output_tokens_per_s": tokens / (time.perf_counter() - started),
        "output_tokens_per_cpu_s": tokens / (time.process_time() - cpu_started),
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Run all sides on one fresh checkpoint."""
    expected = options.requests * options.output_tokens
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        make_checkpoint(directory, options.size, options.dtype, options.seed)
        loaded = load_model(name, options.dtype, "cpu")
        model = transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype=getattr(torch, options.dtype), attn_implementation="sdpa"
        ).eval()
    prompts = random_prompts(VOCABULARY, options.requests, options.prompt_tokens, options.seed)

    def ours() -> dict[str, Any]:
        cpu_started = time.process_time()
        result = bench_loaded(
            loaded,
            options.requests,
            options.prompt_tokens,
            options.output_tokens,
            threads=options.threads,
            seed=options.seed,
        )
        return {
            "output_tokens_per_s": result.output_tokens_per_s,
            "output_tokens_per_cpu_s": expected / (time.process_time() - cpu_started),
            "kernels": result.kernels,
        }

    sides: dict[str, Callable[[], dict[str, Any]]] = {
        "loadline": ours,
        "transformers_static": lambda: timed(lambda: static_batch(model, prompts, options.output_tokens), expected),
        "transformers_continuous": lambda: timed(
            lambda: continuous_batch(model, prompts, options.output_tokens), expected
        ),
    }
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(options.repeats):
        for side, run in sides.items():
            runs[side].append(run())
    best = {side: max(found, key=lambda run: run.get("output_tokens_per_s", 0.0)) for side, found in runs.items()}
    return {
        "workload": vars(options),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "best": best,
        "runs": runs,
        "ratios": ratios(runs, "output_tokens_per_s"),
        "cpu_ratios": ratios(runs, "output_tokens_per_cpu_s"),
    }


def ratios(runs: dict[str, list[dict[str, Any]]], figure: str) -> dict[str, float]:
    """The best of ours over the best of each side that has a figure."""
    best = {side: max((run.get(figure, 0.0) for run in found), default=0.0) for side, found in runs.items()}
    return {side: best["loadline"] / value for side, value in best.items() if value}


def table(result: dict[str, Any]) -> str:
    """The comparison for people."""
    lines = [f"{'side':26}{'output tok/s':>14}{'ours / theirs':>16}{'by CPU time':>14}"]
    for side, run in result["best"].items():
        if "error" in run:
            lines.append(f"{side:26}  {run['error']}")
        else:
            by_time, by_cpu = result["ratios"][side], result["cpu_ratios"][side]
            lines.append(f"{side:26}{run['output_tokens_per_s']:>14,.0f}{by_time:>16.2f}{by_cpu:>14.2f}")
    return "\n".join(lines)


def rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Ours beside each peer, by time and by CPU time."""
    options, best = result["workload"], result["best"]
    what = f"{options['size']} {options['dtype']}, {options['requests']} x ({options['prompt_tokens']} in, "
    what += f"{options['output_tokens']} out), {options['threads']} threads"
    found = []
    for figure, unit in (("output_tokens_per_s", "tok/s"), ("output_tokens_per_cpu_s", "tok per CPU s")):
        for side in ("transformers_continuous", "transformers_static"):
            found.append(
                {
                    "what": what,
                    "ours": best["loadline"][figure],
                    "peer": best[side].get(figure),
                    "peer_name": side,
                    "unit": unit,
                }
            )
    return found


def main() -> None:
    """Read the command line, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="15m")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--details", action="store_true", help="Print every run as JSON too.")
    options = parser.parse_args()
    result = compare(options)
    print(table(result))
    if options.details:
        print(json.dumps(result))
    print(json.dumps({"benchmark": "engine_vs_transformers", "rows": rows(result)}))


if __name__ == "__main__":
    main()
