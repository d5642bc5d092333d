"""The decoder's operations on a GPU: torch's, but attention of single rows in Triton, straight over the block table."""

import importlib.util

import torch

from probe_engine.model.attention import StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.torch_ops import PaddedGroup, TorchAttention, TorchOps
from probe_engine.runtime.kv_cache import KVCache


class TritonOps(TorchOps):
    """Operations for ``config``; a step of single rows reads nothing on the host, so it can be a CUDA graph."""

    name = "triton"

    @staticmethod
    def supports(config: ModelConfig) -> bool:
        """Whether Triton is installed and its kernel computes this model."""
        dim = config.head_dim
        return importlib.util.find_spec("triton") is not None and dim >= 16 and dim & (dim - 1) == 0

    def attention(self, batch: StepBatch, cache: KVCache) -> "TritonAttention":
        """Attention for every layer of one step."""
        angles = self._cosines[batch.positions], self._sines[batch.positions]
        return TritonAttention(self._config, batch, cache, angles)


class TritonAttention(TorchAttention):
    """Attention of one step, without groups: rows of any context go together."""

    def _group(self) -> list[PaddedGroup]:
        return []

    def _attend_singles(self, layer: int, queries: torch.Tensor, attended: torch.Tensor) -> None:
        from probe_engine.model.paged_triton import attend_paged

        batch, cache = self._batch, self._cache
        singles = len(batch.contexts)
        if singles:
            keys, values = cache.keys[layer], cache.values[layer]
            found = attend_paged(queries[:singles], keys, values, batch.tables, batch.contexts, self._config.window)
            attended[:singles] = found
