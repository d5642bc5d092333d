"""What rank 0 of a parallel model tells its workers, and how an order travels: its length, then a pickle.

In a module of its own, since a worker runs as ``__main__``: the classes must be the same ones on both sides.
"""

import pickle
import struct
from dataclasses import dataclass
from typing import BinaryIO

import torch

from probe_engine.model.attention import ChunkSpan, StepBatch
from probe_engine.model.shard import Shard

LENGTH = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class Load:
    """The first order: what to load, and where rank 0 waits (a port on this machine)."""

    model: str
    dtype: str
    device: str
    seed: int
    kernels: str
    quantization: str
    shard: Shard
    threads: int
    port: int
    dummy_weights: bool = False


@dataclass(frozen=True, slots=True)
class MakeCache:
    """Make an empty cache, in place of the one before."""

    num_blocks: int
    block_size: int


def frame(order: object) -> bytes:
    """An order as bytes: its length (8 bytes, little endian), then a pickle."""
    body = pickle.dumps(order, protocol=pickle.HIGHEST_PROTOCOL)
    return LENGTH.pack(len(body)) + body


def read_frame(source: BinaryIO) -> object | None:
    """The next order; None when the source has ended."""
    header = source.read(LENGTH.size)
    body = source.read(LENGTH.unpack(header)[0]) if len(header) == LENGTH.size else b""
    return pickle.loads(body) if body else None


def ready_key(rank: int) -> str:
    """The store's key that a worker sets once its weights are read."""
    return f"ready/{rank}"


def moved(batch: StepBatch, device: torch.device) -> StepBatch:
    """``batch`` with all its tensors on ``device``."""
    return StepBatch(
        token_ids=batch.token_ids.to(device),
        positions=batch.positions.to(device),
        slots=batch.slots.to(device),
        contexts=batch.contexts.to(device),
        tables=batch.tables.to(device),
        chunks=tuple(ChunkSpan(one.first, one.last, one.start, one.table.to(device)) for one in batch.chunks),
        sampled_rows=batch.sampled_rows.to(device),
    )
