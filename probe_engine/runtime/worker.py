"""One more process of a parallel model: ``python -m probe_engine.runtime.worker``, started by ``parallel.py``.

Its orders come over stdin, one frame each: how to load, then caches and steps. When stdin closes, whoever gave the
orders has gone, and the worker ends at once, whatever it is doing; so none outlives its parent.
"""

import logging
import os
import signal
import sys
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

import torch
from torch._C._distributed_c10d import TCPStore

from probe_engine.model.attention import StepBatch
from probe_engine.model.collective import LOOPBACK, ProcessCollective
from probe_engine.model.loading import Share, load_model
from probe_engine.runtime.kv_cache import KVCache
from probe_engine.runtime.orders import Load, MakeCache, moved, read_frame, ready_key

log = logging.getLogger(__name__)


def follow(orders: "SimpleQueue[Any]") -> None:
    """Load, then carry out orders for ever."""
    load: Load = orders.get()
    torch.set_num_threads(load.threads)
    store = TCPStore(LOOPBACK, load.port, load.shard.ranks, is_master=False)

    def connect(device: torch.device) -> ProcessCollective:
        store.set(ready_key(load.shard.rank), "")
        return ProcessCollective(store, load.shard.rank, load.shard.ranks, device)

    loaded = load_model(
        load.model,
        load.dtype,
        load.device,
        load.seed,
        kernels=load.kernels,
        quantization=load.quantization,
        share=Share(load.shard, connect),
        dummy_weights=load.dummy_weights,
    )
    cache: KVCache | None = None
    while True:
        order = orders.get()
        if isinstance(order, MakeCache):
            cache = None  # the old one's memory first
            cache = loaded.model.new_cache(order.num_blocks, order.block_size)
        elif isinstance(order, StepBatch) and cache is not None:
            loaded.model.forward(moved(order, loaded.model.device), cache)
        else:
            raise TypeError(f"a {type(order).__name__} is no order, or came before a cache was made")


def receive(source: BinaryIO, orders: "SimpleQueue[Any]") -> None:
    """Pass on orders as they come; ends the process when there can be no more."""
    while True:
        order = read_frame(source)
        if order is None:
            os._exit(0)
        orders.put(order)


def main() -> None:
    """Run as a worker until stdin closes; exit code 1 after an error, told in one line on stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides what becomes of us
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    orders: SimpleQueue[Any] = SimpleQueue()
    Thread(target=receive, args=(sys.stdin.buffer, orders), name="orders", daemon=True).start()
    try:
        follow(orders)
    except Exception as error:
        log.error("this tensor-parallel worker ends: %s", error)
        sys.stderr.flush()
        os._exit(1)  # a plain exit would wait for threads of a group that is broken


if __name__ == "__main__":
    main()
