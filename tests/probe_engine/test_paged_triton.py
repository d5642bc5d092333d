"""The GPU's attention in Triton's interpreter, beside plain attention over the gathered keys, alone and in the engine.

Runs where Triton is installed (it is no dependency: it comes with CUDA builds of torch), in a process of its own,
since Triton decides once whether it interprets.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

CHECK = """
import itertools, torch
from probe_engine.model.paged_triton import attend_paged, split
generator = torch.Generator().manual_seed(5)
SHAPES = [(4, 4, 64, 16, None), (8, 2, 32, 8, None), (4, 1, 128, 16, 20), (6, 2, 16, 4, 7)]
for heads, kv_heads, dim, size, window in SHAPES:
    contexts = torch.tensor([1, 2, 15, 16, 17, 63, 64, 65, 150])
    width = -(-150 // size)
    tables = torch.randperm(len(contexts) * width, generator=generator).view(len(contexts), width)
    keys, values = (torch.randn(tables.numel(), size, kv_heads, dim, generator=generator) for _ in range(2))
    whole = torch.randn(len(contexts), heads + 3, dim, generator=generator)
    queries = whole[:, :heads]
    found = attend_paged(queries, keys, values, tables, contexts, window).view(len(contexts), heads, dim)
    for at, context in enumerate(contexts.tolist()):
        begin = 0 if window is None else max(0, context - window)
        seen = [cache[tables[at]].reshape(-1, kv_heads, dim)[begin:context].repeat_interleave(heads // kv_heads, 1)
                for cache in (keys, values)]
        weights = torch.einsum("hd,thd->ht", queries[at], seen[0]).mul(dim ** -0.5).softmax(-1)
        expected = torch.einsum("ht,thd->hd", weights, seen[1])
        torch.testing.assert_close(found[at], expected, atol=2e-5, rtol=2e-5)
assert [split(1, 40), split(1, 4096), split(512, 4096), split(64, 4096)] == [1, 16, 1, 8]
print("equal")
"""

SERVE = """
import torch
from probe_engine.model.loading import load_model
from probe_engine.model.sampling import SamplingParams
from probe_engine.runtime.decode_graph import run_eagerly
from probe_engine.runtime.runner import Runner
from probe_engine.sched import Request, Scheduler, SchedulerConfig
CONFIG = SchedulerConfig(
    num_blocks=20, block_size=8, max_num_batched_tokens=32, max_num_seqs=6, max_model_len=64, prefix_cache=False
)
def served(kernels, capture):
    loaded, tokens = load_model("tiny", device="cpu", kernels=kernels), {}
    runner, scheduler = Runner(loaded, CONFIG, capture=capture), Scheduler(CONFIG)
    assert runner.kernels == kernels
    for index, length in enumerate((3, 9, 17, 1)):
        scheduler.add(Request(f"r{index}", length, 8, 0.0))
        prompt = [(index * 37 + at) % 256 for at in range(length)]
        runner.add(f"r{index}", prompt, SamplingParams(temperature=0.0))
    while (output := scheduler.schedule(0.0)) is not None:
        for request_id, token in runner.execute(output).items():
            tokens.setdefault(request_id, []).append(token)
        for request in scheduler.update(output, {}, 0.0):
            runner.remove(request.request_id)
    return tokens
torch.set_num_threads(1)
assert len(served("torch", None)) == 4
assert served("torch", None) == served("triton", None) == served("triton", run_eagerly)
print("equal")
"""


@pytest.mark.parametrize("check", [CHECK, SERVE], ids=["attention", "served tokens"])
def test_it_equals_what_torch_computes_from_gathered_keys(check: str) -> None:
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "equal", done.stderr[-2000:]
