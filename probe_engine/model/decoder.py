"""The decoder: one forward pass over a step's rows, batched across sequences."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.functional import embedding

from probe_engine.model.attention import StepBatch
from probe_engine.model.config import ModelConfig
from probe_engine.model.layers import Layer, Weights
from probe_engine.model.linear import Linear, Linears, PlainLinear
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
    head_norms: tuple[torch.Tensor, torch.Tensor] | None

    @property
    def linears(self) -> tuple[Linear, ...]:
        return self.qkv, self.output, self.gate_up, self.down


class Model(Protocol):
    """A model that computes steps, in this process alone or with others."""

    @property
    def kernels(self) -> str:
        """Whose operations run between the matrix products: ``native`` or ``torch``."""

    @property
    def dtype(self) -> torch.dtype:
        """Of weights, keys and values."""

    @property
    def device(self) -> torch.device:
        """Where a step's tensors must be."""

    @property
    def weight_bytes(self) -> int:
        """Memory that the weights take in this process."""

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token keeps in this process."""

    @property
    def concurrent(self) -> bool:
        """Whether threads may be in ``forward`` at once, each with requests of its own."""

    def new_cache(self, num_blocks: int, block_size: int) -> KVCache:
        """An empty cache for ``forward``; a parallel model has one at a time."""

    def forward(self, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Logits (sampled rows, vocabulary) of the step."""

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The first (int64) of the likeliest tokens of each row of (rows, vocabulary)."""

    def close(self) -> None:
        """Give up what the model holds besides memory."""


class Decoder:
    """A model ready to run: weights on one device in one dtype, and the operations between its matrix products.

    ``weights`` are not kept where ``linears`` make copies of them. ``config`` may be one rank's share of a model.
    """

    def __init__(self, config: ModelConfig, weights: Weights, ops: Ops, linears: Linears) -> None:
        self.config = config
        self.ops = ops
        self.dtype = weights.embedding.dtype
        self.device = weights.embedding.device
        self._embedding = weights.embedding
        self._first_norm = weights.layers[0].attention_norm
        next_norms = (*(layer.attention_norm for layer in weights.layers[1:]), weights.norm)
        self._stages = [
            _stage(layer, next_norm, linears) for layer, next_norm in zip(weights.layers, next_norms, strict=True)
        ]
        self._gates = linears.gated is not None
        self._head = linears.head(weights.head, None)
        self._head_is_embedding = weights.head is weights.embedding and isinstance(self._head, PlainLinear)

    @property
    def kernels(self) -> str:
        """Whose operations run between the matrix products: ``native`` or ``torch``."""
        return self.ops.name

    @property
    def weight_bytes(self) -> int:
        """Memory that embedding and matrices take; norms and biases are next to nothing."""
        linears = [linear for stage in self._stages for linear in stage.linears]
        head = 0 if self._head_is_embedding else self._head.weight_bytes
        return self._embedding.nbytes + head + sum(linear.weight_bytes for linear in linears)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that one token keeps."""
        return self.config.kv_bytes_per_token(self.dtype.itemsize)

    @property
    def concurrent(self) -> bool:
        """True on the CPU."""
        return self.device.type == "cpu"

    def new_cache(self, num_blocks: int, block_size: int) -> KVCache:
        """An empty cache in the layout of the model's operations."""
        return self.ops.new_cache(num_blocks, block_size)

    def likeliest(self, logits: torch.Tensor) -> torch.Tensor:
        """The first (int64) of the likeliest tokens of each row of (rows, vocabulary)."""
        return self.ops.likeliest(logits)

    def close(self) -> None:
        """Nothing to give up."""

    @torch.inference_mode()
    def forward(self, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Logits (sampled rows, vocabulary) of the step; its keys and values are in ``cache`` afterwards.

        ``cache`` must be one of ``new_cache``.
        """
        ops = self.ops
        attention = ops.attention(batch, cache)
        hidden = embedding(batch.token_ids, self._embedding)
        normed = ops.norm(hidden, self._first_norm)
        for index, stage in enumerate(self._stages):
            qkv = stage.qkv(normed)
            if stage.head_norms is not None:
                qkv = ops.norm_heads(qkv, stage.head_norms)
            attended = attention(index, qkv)
            if index == len(self._stages) - 1:  # nothing after this mixes rows: go on with those that are sampled
                attended, hidden = attended[batch.sampled_rows], hidden[batch.sampled_rows]
            hidden, normed = ops.add_norm(hidden, stage.output(attended), stage.mlp_norm)
            gate_up = stage.gate_up(normed)
            gated = gate_up if self._gates else ops.gated(gate_up)
            hidden, normed = ops.add_norm(hidden, stage.down(gated), stage.next_norm)
        return self._head(normed)


def _stage(layer: Layer, next_norm: torch.Tensor, linears: Linears) -> _Stage:
    return _Stage(
        qkv=linears.column(layer.qkv, layer.qkv_bias),
        output=linears.row(layer.output, None),
        mlp_norm=layer.mlp_norm,
        gate_up=(linears.gated or linears.column)(layer.gate_up, None),
        down=linears.row(layer.down, None),
        next_norm=next_norm,
        head_norms=layer.head_norms,
    )
