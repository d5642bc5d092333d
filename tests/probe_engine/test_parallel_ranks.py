"""A model cut for several ranks computes what it computes whole; workers live and end with their parent."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import safetensors.torch
import tokenizers
import torch

from probe_engine.errors import ModelError, Stopping, WorkerLost
from probe_engine.model.collective import ProcessCollective, backend_of
from probe_engine.model.config import ModelConfig
from probe_engine.model.loading import LoadedModel, Share, load_model, whole_config
from probe_engine.model.sampling import SamplingParams
from probe_engine.model.shard import Shard, shard_config
from probe_engine.model.weights import expected_shapes
from probe_engine.profile.threads import torch_threads
from probe_engine.runtime.async_engine import AsyncEngine
from probe_engine.runtime.generation import Generation
from probe_engine.runtime.parallel import load
from probe_engine.runtime.runner import Runner
from probe_engine.sched import Request, Scheduler, SchedulerConfig

GREEDY = SamplingParams(temperature=0.0)
CONFIG = SchedulerConfig(num_blocks=48, block_size=8, max_num_batched_tokens=16, max_num_seqs=4, max_model_len=64)
PROMPTS = [[5, 9, 3], list(range(30)), [7] * 8]
PARENT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import torch
torch.set_num_threads(1)
from probe_engine.runtime.async_engine import AsyncEngine
from probe_engine.runtime.generation import Generation
from probe_engine.runtime.parallel import load
if __name__ == "__main__":
    loaded = load("tiny", device="cpu", tensor_parallel=2)
    print(json.dumps([worker.pid for worker in loaded.model.workers]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[int]:
    with torch_threads(1) as threads:
        yield threads


def write_checkpoint(directory: Path, **changes: Any) -> Path:
    """Random Qwen2 weights (grouped heads, biases) with a vocabulary that two does not divide."""
    raw = {
        "architectures": ["Qwen2ForCausalLM"],
        "vocab_size": 61,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 64,
    } | changes
    (directory / "config.json").write_text(json.dumps(raw))
    config = whole_config(str(directory))
    generator = torch.Generator().manual_seed(5)
    tensors = {name: torch.randn(shape, generator=generator) * 0.2 for name, shape in expected_shapes(config).items()}
    safetensors.torch.save_file(tensors, directory / "model.safetensors")
    words = tokenizers.models.WordLevel({f"t{index}": index for index in range(61)}, unk_token="t0")
    tokenizers.Tokenizer(words).save(str(directory / "tokenizer.json"))
    return directory


def greedy_tokens(loaded: LoadedModel, count: int = 12) -> dict[str, list[int]]:
    runner, scheduler = Runner(loaded, CONFIG), Scheduler(CONFIG)
    tokens: dict[str, list[int]] = {}
    for index, prompt in enumerate(PROMPTS):
        tokens[f"r{index}"] = []
        scheduler.add(Request(f"r{index}", len(prompt), count, 0.0))
        runner.add(f"r{index}", prompt, GREEDY)
    while (output := scheduler.schedule(0.0)) is not None:
        for request_id, token in runner.execute(output).items():
            tokens[request_id].append(token)
        for request in scheduler.update(output, {}, 0.0):
            runner.remove(request.request_id)
    return tokens


class ThreadCollective:
    """Ranks that are threads of one process: they meet at a barrier and read each other's tensors."""

    def __init__(self, rank: int, barrier: Barrier, board: dict[int, torch.Tensor]) -> None:
        self.rank, self.barrier, self.board = rank, barrier, board

    def _all(self, part: torch.Tensor) -> list[torch.Tensor]:
        self.board[self.rank] = part.clone()
        self.barrier.wait(30)
        parts = [self.board[rank] for rank in range(self.barrier.parties)]
        self.barrier.wait(30)
        return parts

    def sum(self, part: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._all(part)).sum(0)

    def gather(self, part: torch.Tensor) -> list[torch.Tensor] | None:
        parts = self._all(part)
        return parts if self.rank == 0 else None


@pytest.mark.parametrize("kernels", ["torch", "auto"])
@pytest.mark.parametrize(("kv_heads", "ranks", "tied"), [(4, 2, False), (1, 2, True), (2, 4, True), (4, 4, False)])
def test_every_cut_gives_the_tokens_of_the_whole(
    kv_heads: int, ranks: int, tied: bool, kernels: str, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path, num_key_value_heads=kv_heads, tie_word_embeddings=tied)
    whole = greedy_tokens(load_model(str(tmp_path), device="cpu", kernels=kernels))
    barrier, board, found = Barrier(ranks), {}, {}

    def run(rank: int) -> None:
        share = Share(Shard(rank, ranks), lambda _: ThreadCollective(rank, barrier, board))
        loaded = load_model(str(tmp_path), device="cpu", kernels=kernels, share=share)
        runner, scheduler = Runner(loaded, CONFIG), Scheduler(CONFIG)
        tokens: dict[str, list[int]] = {}
        for index, prompt in enumerate(PROMPTS):
            tokens[f"r{index}"] = []
            scheduler.add(Request(f"r{index}", len(prompt), 12, 0.0))
            runner.add(f"r{index}", prompt, GREEDY)
        while (output := scheduler.schedule(0.0)) is not None:
            logits = runner.logits(output)
            barrier.wait(30)
            if rank == 0:
                board[-1] = logits  # the others follow rank 0's tokens
            barrier.wait(30)
            for request_id, token in runner.record(output, board[-1]).items():
                tokens[request_id].append(token)
            for request in scheduler.update(output, {}, 0.0):
                runner.remove(request.request_id)
        found[rank] = tokens

    threads = [Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found[0] == whole


def test_what_cannot_be_divided_is_refused_by_name() -> None:
    config = ModelConfig(
        vocab_size=10, hidden_size=12, intermediate_size=12, layers=1, heads=6, kv_heads=2, head_dim=2, max_tokens=8
    )
    with pytest.raises(ModelError, match="tensor_parallel is 4; it must divide the model's heads, 6"):
        shard_config(config, Shard(0, 4))
    with pytest.raises(ModelError, match="kv_heads, 2"):
        shard_config(config, Shard(0, 3))
    with pytest.raises(ModelError, match="tensor_parallel is 0"):
        load("tiny", device="cpu", tensor_parallel=0)


def test_two_processes_give_the_tokens_of_one_until_one_of_them_dies(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    whole = load_model(str(tmp_path), device="cpu")
    parallel = load(str(tmp_path), device="cpu", tensor_parallel=2)
    try:
        assert greedy_tokens(parallel) == greedy_tokens(whole)
        assert parallel.model.kv_bytes_per_token * 2 == whole.model.kv_bytes_per_token
        (worker,) = parallel.model.workers
        os.kill(worker.pid, signal.SIGKILL)
        lost = rf"tensor-parallel worker 1 \(pid {worker.pid}\) ended with code -9"
        for _ in range(2):
            with pytest.raises(WorkerLost, match=lost):
                greedy_tokens(parallel)
    finally:
        parallel.model.close()


def test_an_engine_that_lost_a_worker_tells_it_and_takes_nothing_more(engine_of) -> None:
    engine, runner = engine_of(CONFIG)

    def lose() -> None:
        raise WorkerLost("tensor-parallel worker 1 (pid 7) ended with code -9")

    runner.before_step = lose

    async def main() -> str | None:
        served = AsyncEngine(engine, max_queue=4)
        served.start()
        (output,) = [one async for batch in served.submit([Generation("a", [1, 2], 3, 0.0)]) for one in batch]
        with pytest.raises(Stopping, match="worker 1"):
            served.submit([Generation("b", [1, 2], 3, 0.0)])
        await served.stop()
        return output.error

    assert "worker 1 (pid 7) ended with code -9" in (asyncio.run(main()) or "")
    assert engine.scheduler.free_blocks == engine.scheduler.num_blocks


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        parent.kill()
        assert len(pids) == 1
        until = time.monotonic() + 20
        while any(alive(pid) for pid in pids) and time.monotonic() < until:
            time.sleep(0.01)
        assert not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_device_chooses_what_carries_the_messages() -> None:
    assert backend_of(torch.device("cuda", 1)) == "nccl"
    with pytest.raises(ModelError, match="tensor parallel on 'meta'; allowed: cpu, cuda"):
        backend_of(torch.device("meta"))
    alone = ProcessCollective(torch.distributed.HashStore(), 0, 1, torch.device("cpu"))
    assert alone.backend == "gloo"
    assert alone.sum(torch.ones(3)).tolist() == [1.0, 1.0, 1.0]
    parts = alone.gather(torch.arange(2.0))
    assert parts is not None
    assert [part.tolist() for part in parts] == [[0.0, 1.0]]
