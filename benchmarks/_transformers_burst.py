"""One burst through transformers' continuous batching, in a process of its own: wall and CPU seconds as JSON.

Arguments: checkpoint directory, dtype, threads, seed.
"""

import json
import os
import sys
import time
from typing import Any

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import transformers

from benchmarks._burst import Burst

PAGE_TOKENS = 256


def continuous_batch(model: Any, prompts: list[list[int]], count: int) -> int:
    """The prompts through ``generate_batch``, transformers' continuous batching; how many tokens came.

    It gets room for all at once and our token budget; left to itself it would first fill most of the memory with cache.
    """
    pages = sum(-(-(len(prompt) + count) // PAGE_TOKENS) for prompt in prompts)
    room = transformers.ContinuousBatchingConfig(page_size=PAGE_TOKENS, num_blocks=pages + 1, max_batch_tokens=2048)
    wanted = transformers.GenerationConfig(max_new_tokens=count, do_sample=False, eos_token_id=-1, pad_token_id=0)
    answers = model.generate_batch(inputs=prompts, generation_config=wanted, continuous_batching_config=room)
    return sum(len(answer.generated_tokens) for answer in answers.values())


def main() -> None:
    """Load, run a few tokens unmeasured, then the burst."""
    directory, dtype, threads, seed = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), attn_implementation="sdpa"
    ).eval()
    burst = Burst()
    continuous_batch(model, burst.prompts(int(seed))[:2], 2)
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = continuous_batch(model, burst.prompts(int(seed)), burst.output_tokens)
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    if tokens != burst.requests * burst.output_tokens:
        sys.exit(f"made {tokens} tokens; {burst.requests * burst.output_tokens} were asked for")
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    main()
