"""The paged cache of keys and values.

Memory is cut into blocks of ``block_size`` tokens. A sequence owns a list of block ids (its block table, kept by the
scheduler); token at position p lies in slot ``table[p // block_size] * block_size + p % block_size``.
Per layer, keys and values are two tensors (num_blocks, block_size, kv_heads, head_dim): one block is one run of memory,
so reading a sequence is a gather of whole rows.
"""

import torch

from probe_engine.errors import ModelError
from probe_engine.model.config import ModelConfig


class KVCache:
    """Keys and values of every layer; knows blocks and slots, not sequences."""

    def __init__(
        self, config: ModelConfig, *, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ModelError(
                f"KV cache: num_blocks is {num_blocks} and block_size {block_size}; both must be at least 1"
            )
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (config.layers, 2, num_blocks, block_size, config.kv_heads, config.head_dim)
        needed = block_bytes(config, block_size, dtype) * num_blocks
        try:
            memory = torch.zeros(shape, dtype=dtype, device=device)
        except RuntimeError as error:
            raise ModelError(f"KV cache: no room for {num_blocks} blocks ({needed} bytes) on {device}") from error
        self._layers = [LayerCache(memory[index]) for index in range(config.layers)]

    def layer(self, index: int) -> "LayerCache":
        """The part of the cache that belongs to one layer."""
        return self._layers[index]


class LayerCache:
    """Keys and values of one layer: ``memory`` is (2, num_blocks, block_size, kv_heads, head_dim)."""

    def __init__(self, memory: torch.Tensor) -> None:
        _, self._num_blocks, self._block_size, *self._row_shape = memory.shape
        self._slots = memory.view(2, -1, *self._row_shape)
        self._blocks = memory.view(2, self._num_blocks, -1)

    def write(self, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Store ``keys`` and ``values`` (tokens, kv_heads, head_dim) in ``slots`` (tokens,)."""
        self._slots[0].index_copy_(0, slots, keys)
        self._slots[1].index_copy_(0, slots, values)

    def read(self, tables: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the blocks in ``tables`` (sequences, blocks).

        Each is (sequences, blocks * block_size, kv_heads, head_dim).
        """
        sequences, blocks = tables.shape
        shape = (sequences, blocks * self._block_size, *self._row_shape)
        wanted = tables.reshape(-1)
        return self._blocks[0].index_select(0, wanted).view(shape), self._blocks[1].index_select(0, wanted).view(shape)


def block_bytes(config: ModelConfig, block_size: int, dtype: torch.dtype) -> int:
    """Bytes that one block of ``block_size`` tokens takes, all layers together."""
    return config.kv_bytes_per_token(dtype.itemsize) * block_size
