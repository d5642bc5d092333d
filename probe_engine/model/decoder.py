"""The Llama decoder: one forward pass over a step's rows, batched across sequences."""

import torch
from torch.nn.functional import embedding, linear

from probe_engine.model.attention import StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import Weights
from probe_engine.model.ops import Ops
from probe_engine.runtime.kv_cache import KVCache


class Decoder:
    """A model ready to run: weights on one device in one dtype, and the operations between its matrix products."""

    def __init__(self, config: ModelConfig, weights: Weights, ops: Ops) -> None:
        self.config = config
        self.weights = weights
        self.ops = ops
        self.dtype = weights.embedding.dtype
        self.device = weights.embedding.device

    @torch.inference_mode()
    def forward(self, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Logits (sampled rows, vocabulary) of the step; its keys and values are in ``cache`` afterwards.

        ``cache`` must be one of ``ops.new_cache``.
        """
        ops, layers = self.ops, self.weights.layers
        attention = ops.attention(batch, cache)
        hidden = embedding(batch.token_ids, self.weights.embedding)
        normed = ops.norm(hidden, layers[0].attention_norm)
        next_norms = (*(layer.attention_norm for layer in layers[1:]), self.weights.norm)
        for index, (layer, next_norm) in enumerate(zip(layers, next_norms, strict=True)):
            attended = attention(index, linear(normed, layer.qkv))
            if index == len(layers) - 1:  # nothing after this mixes rows: go on with those that are sampled
                attended, hidden = attended[batch.sampled_rows], hidden[batch.sampled_rows]
            hidden, normed = ops.add_norm(hidden, linear(attended, layer.output), layer.mlp_norm)
            gated = ops.gated(linear(normed, layer.gate_up))
            hidden, normed = ops.add_norm(hidden, linear(gated, layer.down), next_norm)
        return linear(normed, self.weights.head)
