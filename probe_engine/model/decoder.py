"""The Llama decoder: one forward pass over a step's rows, batched across sequences."""

import torch
from torch.nn.functional import embedding, linear, rms_norm, silu

from probe_engine.model.attention import StepBatch, attend
from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import Layer, Weights, rotary_tables, rotate
from probe_engine.runtime.kv_cache import KVCache, LayerCache


class Decoder:
    """A model ready to run: weights on one device in one dtype."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self.dtype = weights.embedding.dtype
        self.device = weights.embedding.device
        self._cosines, self._sines = rotary_tables(config, self.dtype, self.device)

    @torch.inference_mode()
    def forward(self, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Logits (sampled rows, vocabulary) of the step; its keys and values are in ``cache`` afterwards."""
        weights = self.weights
        hidden = embedding(batch.token_ids, weights.embedding)
        angles = self._cosines[batch.positions], self._sines[batch.positions]
        last = len(weights.layers) - 1
        for index, layer in enumerate(weights.layers):
            attended = self._attention(layer, hidden, angles, cache.layer(index), batch)
            if index == last:  # nothing after this mixes rows: go on with those that are sampled
                attended, hidden = attended[batch.sampled_rows], hidden[batch.sampled_rows]
            hidden = hidden + linear(attended, layer.output)
            hidden = hidden + self._mlp(layer, hidden)
        return linear(self._norm(hidden, weights.norm), weights.head)

    def _attention(
        self,
        layer: Layer,
        hidden: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        cache: LayerCache,
        batch: StepBatch,
    ) -> torch.Tensor:
        config = self.config
        rotated = config.heads + config.kv_heads
        qkv = linear(self._norm(hidden, layer.attention_norm), layer.qkv)
        heads = qkv.view(-1, rotated + config.kv_heads, config.head_dim)
        turned = rotate(heads[:, :rotated], *angles)
        queries, keys = turned[:, : config.heads], turned[:, config.heads :]
        return attend(queries, keys, heads[:, rotated:], cache, batch)

    def _mlp(self, layer: Layer, hidden: torch.Tensor) -> torch.Tensor:
        gate, up = linear(self._norm(hidden, layer.mlp_norm), layer.gate_up).chunk(2, dim=-1)
        return linear(silu(gate) * up, layer.down)

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden, weight.shape, weight, self.config.norm_eps)
