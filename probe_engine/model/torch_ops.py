"""The decoder's operations in torch, for any device.

Sequences that compute a single token are cut into groups of similar context; each group is padded, gathered from the
cache and attended in one call. Blocks are (block_size, kv_heads, head_dim), so a gather copies whole runs of memory.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu

from probe_engine.model.attention import ChunkSpan, StepBatch, attend_chunk, causal_mask
from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import rotary_tables, rotate
from probe_engine.model.sampling import greedy
from probe_engine.runtime.kv_cache import KVCache, allocate


@dataclass(frozen=True, slots=True)
class PaddedGroup:
    """Single rows [first, last) with their padded block tables (rows, blocks) and mask (rows, 1, 1, tokens)."""

    first: int
    last: int
    tables: torch.Tensor
    mask: torch.Tensor


class TorchOps:
    """Operations for ``config``, in the dtype and on the device of ``like``."""

    name = "torch"

    def __init__(self, config: ModelConfig, like: torch.Tensor) -> None:
        self._config = config
        self._like = like
        cosines, sines = rotary_tables(config)
        self._cosines, self._sines = (
            torch.cat((table, table), dim=-1).unsqueeze(1).to(device=like.device, dtype=like.dtype)
            for table in (cosines, sines)
        )

    def new_cache(self, num_blocks: int, block_size: int) -> KVCache:
        """An empty cache in the layout of these operations."""
        block = (block_size, self._config.kv_heads, self._config.head_dim)
        return allocate(
            self._config,
            num_blocks=num_blocks,
            key_block=block,
            value_block=block,
            like=self._like,
            block_size=block_size,
        )

    def attention(self, batch: StepBatch, cache: KVCache) -> "TorchAttention":
        """Attention for every layer of one step."""
        angles = self._cosines[batch.positions], self._sines[batch.positions]
        return TorchAttention(self._config, batch, cache, angles)

    def norm_heads(self, qkv: torch.Tensor, norms: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """``qkv`` (rows, (heads + 2 kv_heads) * head_dim) with each query and key head normed."""
        config = self._config
        parts = qkv.view(-1, config.heads + 2 * config.kv_heads, config.head_dim)
        queries, keys, values = parts.tensor_split((config.heads, config.heads + config.kv_heads), dim=1)
        return torch.cat((self.norm(queries, norms[0]), self.norm(keys, norms[1]), values), dim=1).view_as(qkv)

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMS norm over the last dimension."""
        return rms_norm(hidden, weight.shape, weight, self._config.norm_eps)

    def add_norm(
        self, hidden: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``hidden + delta``, and the norm of that."""
        added = hidden + delta
        return added, self.norm(added, weight)

    def gated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of (rows, 2 * intermediate)."""
        gate, up = gate_up.chunk(2, dim=-1)
        return silu(gate) * up

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The first (int64) of the likeliest tokens of each row of (rows, vocabulary)."""
        return greedy(logits)


class TorchAttention:
    """Attention of one step: call it with each layer's index and stacked queries, keys and values."""

    def __init__(
        self, config: ModelConfig, batch: StepBatch, cache: KVCache, angles: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        self._config = config
        self._batch = batch
        self._cache = cache
        self._angles = angles
        self._groups = self._group()
        self._chunks = [(chunk, causal_mask(chunk, angles[0], config.window)) for chunk in batch.chunks]

    def __call__(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Store the keys and values of ``qkv`` (rows, (heads + 2 kv_heads) * head_dim) and attend.

        Returns (rows, heads * head_dim).
        """
        heads, kv_heads, head_dim = self._config.heads, self._config.kv_heads, self._config.head_dim
        parts = qkv.view(-1, heads + 2 * kv_heads, head_dim)
        turned = rotate(parts[:, : heads + kv_heads], *self._angles)
        queries, keys, values = turned[:, :heads], turned[:, heads:], parts[:, heads + kv_heads :]
        self._cache.keys[layer].view(-1, kv_heads, head_dim).index_copy_(0, self._batch.slots, keys)
        self._cache.values[layer].view(-1, kv_heads, head_dim).index_copy_(0, self._batch.slots, values)
        attended = qkv.new_empty(len(qkv), heads * head_dim)
        self._attend_singles(layer, queries, attended)
        for chunk, mask in self._chunks:
            rows = slice(chunk.first, chunk.last)
            seen = self._read_chunk(layer, chunk) if chunk.start else (keys[rows], values[rows])
            attended[rows] = attend_chunk(queries[rows], *seen, mask)
        return attended

    def _group(self) -> list[PaddedGroup]:
        return list(_groups(self._batch, self._cache.block_size, self._angles[0].dtype, self._config.window))

    def _attend_singles(self, layer: int, queries: torch.Tensor, attended: torch.Tensor) -> None:
        """Fill the single rows of ``attended`` (rows, heads * head_dim)."""
        for group in self._groups:
            rows = slice(group.first, group.last)
            attended[rows] = _attend_group(queries[rows], *self._read(layer, group.tables), group.mask)

    def _read(self, layer: int, tables: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of block tables (sequences, blocks): each (sequences, tokens, kv_heads, head_dim)."""
        shape = (len(tables), -1, self._config.kv_heads, self._config.head_dim)
        wanted = tables.reshape(-1)
        return (
            self._cache.keys[layer].index_select(0, wanted).view(shape),
            self._cache.values[layer].index_select(0, wanted).view(shape),
        )

    def _read_chunk(self, layer: int, chunk: ChunkSpan) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self._read(layer, chunk.table.unsqueeze(0))
        return keys[0, : chunk.context], values[0, : chunk.context]


def _groups(batch: StepBatch, block_size: int, dtype: torch.dtype, window: int | None) -> list[PaddedGroup]:
    """Cut single rows, sorted by context, so that padding never more than doubles what a group reads."""
    contexts = batch.contexts.tolist()
    borders, last = [len(contexts)], len(contexts)
    for row in range(len(contexts) - 1, -1, -1):
        if contexts[row] * 2 < contexts[last - 1]:
            last = row + 1
            borders.append(last)
    borders.append(0)
    groups = []
    for last, first in pairwise(borders):
        if first == last:
            continue
        width = -(-contexts[last - 1] // block_size)
        places = torch.arange(width * block_size, device=batch.contexts.device)
        mask = torch.zeros((last - first, 1, 1, len(places)), dtype=dtype, device=places.device)
        seen = batch.contexts[first:last, None, None, None]
        mask.masked_fill_(places >= seen, float("-inf"))
        if window is not None:
            mask.masked_fill_(places < seen - window, float("-inf"))
        groups.append(PaddedGroup(first, last, batch.tables[first:last, :width], mask))
    return groups


def _attend_group(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    sequences, heads, head_dim = queries.shape
    kv_heads = keys.shape[2]
    # Queries that share a key head stand as rows of one small matrix: grouped heads cost nothing more to read.
    grouped = queries.reshape(sequences, kv_heads, heads // kv_heads, head_dim)
    answer = scaled_dot_product_attention(grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=mask)
    return answer.reshape(sequences, heads * head_dim)
