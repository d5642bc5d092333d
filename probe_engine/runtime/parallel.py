"""One model in several processes: this one is rank 0, the workers compute the other parts of every step.

Rank 0 schedules, samples and talks; a worker only carries out orders (``worker.py``). Weights, keys and values are
divided, so each process holds about 1/N of them. A worker that is lost ends the model for good.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import torch
from torch._C._distributed_c10d import TCPStore

from probe_engine.errors import ModelError, WorkerLost
from probe_engine.model.attention import StepBatch
from probe_engine.model.collective import LOOPBACK, ProcessCollective
from probe_engine.model.decoder import Model
from probe_engine.model.loading import LoadedModel, Share, load_model, pick_device, whole_config
from probe_engine.model.shard import Shard, shard_config
from probe_engine.runtime.kv_cache import KVCache
from probe_engine.runtime.orders import Load, MakeCache, frame, moved, ready_key

START_LIMIT_S = 600.0
POLL_S = 0.02
LAST_WORDS_S = 2.0  # what a dying worker gets until its exit code is known, and a closed one to end
CPU = torch.device("cpu")


def load(
    model: str,
    dtype: str = "float32",
    device: str = "auto",
    seed: int = 0,
    *,
    kernels: str = "auto",
    quantization: str = "none",
    tensor_parallel: int = 1,
    dummy_weights: bool = False,
) -> LoadedModel:
    """``load_model``, over ``tensor_parallel`` processes; close the answer's ``model`` to end the workers.

    Every process uses as many threads as torch has here now. Raises ``ModelError`` or ``WorkerLost``.
    """
    if tensor_parallel < 1:
        raise ModelError(f"tensor_parallel is {tensor_parallel}; it must be at least 1")
    if tensor_parallel == 1:
        return load_model(
            model, dtype, device, seed, kernels=kernels, quantization=quantization, dummy_weights=dummy_weights
        )
    shard_config(whole_config(model), Shard(0, tensor_parallel))  # before anything is started for nothing
    on_device = pick_device(device).type
    if on_device == "cuda" and torch.cuda.device_count() < tensor_parallel:
        raise ModelError(f"tensor_parallel is {tensor_parallel}; torch sees {torch.cuda.device_count()} CUDA devices")
    places = [f"cuda:{rank}" if on_device == "cuda" else on_device for rank in range(tensor_parallel)]
    store = TCPStore(LOOPBACK, 0, tensor_parallel, is_master=True, wait_for_workers=False, timeout=_limit())
    workers: list[Worker] = []

    def connect(place: torch.device) -> ProcessCollective:
        _await_all(workers, store)
        return ProcessCollective(store, 0, tensor_parallel, place)

    try:
        for rank in range(1, tensor_parallel):
            shard = Shard(rank, tensor_parallel)
            order = Load(
                model=model,
                dtype=dtype,
                device=places[rank],
                seed=seed,
                kernels=kernels,
                quantization=quantization,
                shard=shard,
                threads=torch.get_num_threads(),
                port=store.port,
                dummy_weights=dummy_weights,
            )
            workers.append(Worker(rank, order))
        loaded = load_model(
            model,
            dtype,
            places[0],
            seed,
            kernels=kernels,
            quantization=quantization,
            share=Share(Shard(0, tensor_parallel), connect),
            dummy_weights=dummy_weights,
        )
    except BaseException:
        for worker in workers:
            worker.end()
        raise
    return replace(loaded, model=ParallelModel(loaded.model, workers))


class Worker:
    """The process of one rank, as rank 0 sees it."""

    def __init__(self, rank: int, first_order: Load) -> None:
        self.rank = rank
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "probe_engine.runtime.worker"],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno() if _has_descriptor() else subprocess.DEVNULL,
            bufsize=0,
            env=environment,
        )
        self.send(frame(first_order))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, order: bytes) -> None:
        """Give an order, as ``frame`` makes it; OSError when the worker has ended."""
        stdin = self._process.stdin
        left = memoryview(order)
        while stdin is not None and left:
            left = left[stdin.write(left) :]

    def epitaph(self) -> str | None:
        """How the worker ended; None while it lives."""
        code = self._process.poll()
        return None if code is None else f"tensor-parallel worker {self.rank} (pid {self.pid}) ended with code {code}"

    def end(self) -> None:
        """End the process; harmless when it has ended."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ParallelModel:
    """Rank 0's part of a model together with the workers that have the rest; one cache at a time.

    ``forward`` raises ``WorkerLost`` once a rank has failed, and from then on.
    """

    def __init__(self, own: Model, workers: Sequence[Worker]) -> None:
        self._own = own
        self._workers = tuple(workers)
        self._lost: str | None = None
        self.kernels = own.kernels
        self.concurrent = False  # the ranks compute the same step at the same time
        self.dtype = own.dtype
        self.device = own.device
        self.weight_bytes = own.weight_bytes
        self.kv_bytes_per_token = own.kv_bytes_per_token

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The other ranks."""
        return self._workers

    def new_cache(self, num_blocks: int, block_size: int) -> KVCache:
        """An empty cache here and in every worker; steps on an older one are wrong from now on."""
        if self._lost is not None:
            raise WorkerLost(self._lost)
        try:
            self._order(MakeCache(num_blocks, block_size))
        except OSError as error:
            raise self._give_up(error) from error
        return self._own.new_cache(num_blocks, block_size)

    def forward(self, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Logits (sampled rows, vocabulary) of the step."""
        if self._lost is not None:
            raise WorkerLost(self._lost)
        try:
            self._order(moved(batch, CPU))
            return self._own.forward(batch, cache)
        except Exception as error:  # whatever it was, the ranks are no longer at the same place
            raise self._give_up(error) from error

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The first (int64) of the likeliest tokens of each row of (rows, vocabulary)."""
        return self._own.likeliest(logits)

    def close(self) -> None:
        """End the workers."""
        self._lost = self._lost or "the model is closed"
        for worker in self._workers:
            worker.end()

    def _order(self, order: object) -> None:
        message = frame(order)
        for worker in self._workers:
            worker.send(message)

    def _give_up(self, error: Exception) -> WorkerLost:
        self._lost = _epitaph(self._workers) or f"the tensor-parallel ranks lost each other: {error}"
        self.close()
        return WorkerLost(self._lost)


def _epitaph(workers: Sequence[Worker]) -> str | None:
    """How the first worker that ended did so, after waiting a little for one to."""
    until = time.monotonic() + LAST_WORDS_S
    while True:
        ended = next((text for worker in workers if (text := worker.epitaph())), None)
        if ended is not None or time.monotonic() >= until:
            return ended
        time.sleep(POLL_S)


def _await_all(workers: Sequence[Worker], store: TCPStore) -> None:
    until = time.monotonic() + START_LIMIT_S
    keys = [ready_key(worker.rank) for worker in workers]
    while not store.check(keys):
        ended = next((text for worker in workers if (text := worker.epitaph())), None)
        if ended is not None:
            raise WorkerLost(f"{ended} while loading; its message is above")
        if time.monotonic() >= until:
            raise WorkerLost(f"the tensor-parallel workers were not ready after {START_LIMIT_S:.0f} s")
        time.sleep(POLL_S)


def _limit() -> timedelta:
    return timedelta(seconds=START_LIMIT_S)


def _has_descriptor() -> bool:
    """Whether stderr is a real file, which a process can inherit."""
    try:
        sys.stderr.fileno()
    except (OSError, ValueError):
        return False
    return True
