"""The paged cache of keys and values.

Memory is cut into blocks of ``block_size`` tokens. A sequence owns a list of block ids (its block table, kept by the
scheduler); the token at position p lies in slot ``table[p // block_size] * block_size + p % block_size``.
How a block is laid out inside is the business of the operations that read it.
"""

from dataclasses import dataclass

import torch

from probe_engine.errors import ModelError
from probe_engine.model.config import ModelConfig

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KVCache:
    """Keys and values, one tensor each per layer, blocks first."""

    keys: tuple[torch.Tensor, ...]
    values: tuple[torch.Tensor, ...]
    block_size: int


def allocate(
    config: ModelConfig, *, num_blocks: int, key_block: Shape, value_block: Shape, like: torch.Tensor, block_size: int
) -> KVCache:
    """An empty cache of ``num_blocks`` blocks of these shapes, of ``like``'s dtype, on its device.

    Zeros, since padding reads blocks that were never written. Raises ``ModelError`` where memory doesn't suffice.
    """
    if num_blocks < 1 or block_size < 1:
        raise ModelError(f"KV cache: num_blocks is {num_blocks}, block_size {block_size}; both must be at least 1")
    try:
        keys, values = (
            torch.zeros((config.layers, num_blocks, *block), dtype=like.dtype, device=like.device).unbind(0)
            for block in (key_block, value_block)
        )
    except RuntimeError as error:
        needed = block_bytes(config, block_size, like.dtype) * num_blocks
        raise ModelError(f"KV cache: no room for {num_blocks} blocks ({needed} bytes) on {like.device}") from error
    return KVCache(keys, values, block_size)


def block_bytes(config: ModelConfig, block_size: int, dtype: torch.dtype) -> int:
    """Bytes that one block of ``block_size`` tokens takes, all layers together."""
    return config.kv_bytes_per_token(dtype.itemsize) * block_size
