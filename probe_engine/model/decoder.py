"""The Llama decoder: one forward pass over a step's rows, batched across sequences."""

from dataclasses import dataclass

import torch
from torch.nn.functional import embedding

from probe_engine.model.attention import StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import Layer, Weights
from probe_engine.model.linear import Linear, Prepare
from probe_engine.model.ops import Ops
from probe_engine.runtime.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class _Stage:
    """One layer with its matrices prepared; ``next_norm`` is the weight of the norm that follows it."""

    qkv: Linear
    output: Linear
    mlp_norm: torch.Tensor
    gate_up: Linear
    down: Linear
    next_norm: torch.Tensor


class Decoder:
    """A model ready to run: weights on one device in one dtype, and the operations between its matrix products.

    ``weights`` are not kept where ``prepare`` makes copies of them.
    """

    def __init__(self, config: ModelConfig, weights: Weights, ops: Ops, prepare: Prepare) -> None:
        self.config = config
        self.ops = ops
        self.dtype = weights.embedding.dtype
        self.device = weights.embedding.device
        self._embedding = weights.embedding
        self._first_norm = weights.layers[0].attention_norm
        next_norms = (*(layer.attention_norm for layer in weights.layers[1:]), weights.norm)
        self._stages = [
            _stage(layer, next_norm, prepare) for layer, next_norm in zip(weights.layers, next_norms, strict=True)
        ]
        self._head = prepare(weights.head)

    @torch.inference_mode()
    def forward(self, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Logits (sampled rows, vocabulary) of the step; its keys and values are in ``cache`` afterwards.

        ``cache`` must be one of ``ops.new_cache``.
        """
        ops = self.ops
        attention = ops.attention(batch, cache)
        hidden = embedding(batch.token_ids, self._embedding)
        normed = ops.norm(hidden, self._first_norm)
        for index, stage in enumerate(self._stages):
            attended = attention(index, stage.qkv(normed))
            if index == len(self._stages) - 1:  # nothing after this mixes rows: go on with those that are sampled
                attended, hidden = attended[batch.sampled_rows], hidden[batch.sampled_rows]
            hidden, normed = ops.add_norm(hidden, stage.output(attended), stage.mlp_norm)
            gated = ops.gated(stage.gate_up(normed))
            hidden, normed = ops.add_norm(hidden, stage.down(gated), stage.next_norm)
        return self._head(normed)


def _stage(layer: Layer, next_norm: torch.Tensor, prepare: Prepare) -> _Stage:
    return _Stage(
        qkv=prepare(layer.qkv),
        output=prepare(layer.output),
        mlp_norm=layer.mlp_norm,
        gate_up=prepare(layer.gate_up),
        down=prepare(layer.down),
        next_norm=next_norm,
    )
