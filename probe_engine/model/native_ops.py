"""The decoder's operations in C++, for float32 and bfloat16 on the CPU.

Single rows and chunks of several tokens attend straight over the block table. Norms, rotation with
the cache's update, and the gate are one call each. See ``kernels.cpp`` for the cache's layout.
"""

import torch
from torch.nn.utils.rnn import pad_sequence

from probe_engine.model.attention import StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.kernels import LANES, Kernels
from probe_engine.model.layers import rotary_tables
from probe_engine.model.sampling import greedy
from probe_engine.runtime.kv_cache import KVCache, allocate


class NativeOps:
    """Operations for ``config``, in the dtype of ``like``; ``supports`` says for which models."""

    name = "native"

    def __init__(self, config: ModelConfig, like: torch.Tensor, kernels: Kernels) -> None:
        self._config = config
        self._like = like
        self.kernels = kernels
        cosines, sines = rotary_tables(config)
        self._cosines, self._sines = cosines.contiguous(), sines.contiguous()

    @staticmethod
    def supports(config: ModelConfig, like: torch.Tensor) -> bool:
        """Whether the kernels compute this model: on the CPU, in whole vectors."""
        sizes = (config.head_dim // 2, config.hidden_size, config.intermediate_size)
        return (
            like.device.type == "cpu"
            and like.dtype in {torch.float32, torch.bfloat16}
            and all(size % LANES == 0 for size in sizes)
        )

    def new_cache(self, num_blocks: int, block_size: int) -> KVCache:
        """An empty cache in the layout of these operations."""
        kv_heads, head_dim = self._config.kv_heads, self._config.head_dim
        width = LANES if block_size % LANES == 0 else block_size
        return allocate(
            self._config,
            num_blocks=num_blocks,
            key_block=(kv_heads, block_size // width, head_dim, width),
            value_block=(kv_heads, block_size, head_dim),
            like=self._like,
            block_size=block_size,
        )

    def attention(self, batch: StepBatch, cache: KVCache) -> "NativeAttention":
        """Attention for every layer of one step."""
        return NativeAttention(self._config, self.kernels, batch, cache, (self._cosines, self._sines))

    def norm_heads(self, qkv: torch.Tensor, norms: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """``qkv`` (rows, (heads + 2 kv_heads) * head_dim) with each query and key head normed, in place."""
        config = self._config
        self.kernels.norm_heads(qkv, norms, (config.heads, config.kv_heads, config.head_dim), config.norm_eps)
        return qkv

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMS norm over the last dimension."""
        normed = torch.empty_like(hidden)
        self.kernels.add_and_norm(hidden, None, weight, normed, self._config.norm_eps)
        return normed

    def add_norm(
        self, hidden: torch.Tensor, delta: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """``hidden + delta``, written over ``hidden``, and the norm of that."""
        normed = torch.empty_like(hidden)
        self.kernels.add_and_norm(hidden, delta, weight, normed, self._config.norm_eps)
        return hidden, normed

    def gated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """``silu(gate) * up`` of (rows, 2 * intermediate)."""
        out = gate_up.new_empty(len(gate_up), gate_up.shape[1] // 2)
        self.kernels.gate(gate_up, out)
        return out

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The first (int64) of the likeliest tokens of each row of (rows, vocabulary)."""
        if logits.dtype != self._like.dtype:  # adjusted, in float32
            return greedy(logits)
        return self.kernels.likeliest(logits.contiguous())


class NativeAttention:
    """Attention of one step: call it with each layer's index and stacked queries, keys and values."""

    def __init__(
        self,
        config: ModelConfig,
        kernels: Kernels,
        batch: StepBatch,
        cache: KVCache,
        angles: tuple[torch.Tensor, torch.Tensor],
    ) -> None:
        self._config = config
        self._kernels = kernels
        self._batch = batch
        self._cache = cache
        self._angles = angles
        spans = [(one.first, one.start, one.last - one.first) for one in batch.chunks]
        self._spans = torch.tensor(spans, dtype=torch.int64).view(-1, 3).t().contiguous()
        tables = [one.table for one in batch.chunks]
        self._tables = pad_sequence(tables, batch_first=True) if tables else batch.tables

    def __call__(self, layer: int, qkv: torch.Tensor) -> torch.Tensor:
        """Store the keys and values of ``qkv`` (rows, (heads + 2 kv_heads) * head_dim) and attend.

        Returns (rows, heads * head_dim).
        """
        config, batch, cache = self._config, self._batch, self._cache
        heads, kv_heads, head_dim = config.heads, config.kv_heads, config.head_dim
        keys, values = cache.keys[layer], cache.values[layer]
        shape = (heads, kv_heads, head_dim, cache.block_size)
        self._kernels.rotate_and_store(qkv, batch.positions, batch.slots, self._angles, (keys, values), shape)
        attended = qkv.new_empty(len(qkv), heads * head_dim)
        if len(batch.contexts):
            self._kernels.attend(qkv, (keys, values), batch.tables, batch.contexts, attended, shape, config.window)
        if batch.chunks:
            self._kernels.attend_chunks(qkv, (keys, values), self._tables, self._spans, attended, shape, config.window)
        return attended
