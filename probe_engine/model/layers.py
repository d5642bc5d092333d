"""The decoder's small parts: rotary embedding tables and its rotation, the weights of one layer."""

import math
from dataclasses import dataclass

import torch

from probe_engine.model.config import ModelConfig, Rope


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one decoder layer; matrices are (out, in), those that read the same input stacked into one."""

    attention_norm: torch.Tensor  # (hidden,)
    qkv: torch.Tensor  # ((heads + 2 * kv_heads) * head_dim, hidden): queries, keys, values
    output: torch.Tensor  # (hidden, heads * head_dim)
    mlp_norm: torch.Tensor  # (hidden,)
    gate_up: torch.Tensor  # (2 * intermediate, hidden): gate, then up
    down: torch.Tensor  # (hidden, intermediate)
    qkv_bias: torch.Tensor | None = None  # ((heads + 2 * kv_heads) * head_dim,)
    head_norms: tuple[torch.Tensor, torch.Tensor] | None = None  # of queries and of keys, each (head_dim,)


@dataclass(frozen=True, slots=True)
class Weights:
    """All weights of a model; ``head`` is ``embedding`` itself where they are tied."""

    embedding: torch.Tensor  # (vocabulary, hidden)
    layers: tuple[Layer, ...]
    norm: torch.Tensor  # (hidden,)
    head: torch.Tensor  # (vocabulary, hidden)


def inverse_frequencies(rope: Rope, head_dim: int) -> torch.Tensor:
    """Radians per position of each of the ``head_dim / 2`` pairs, float32.

    Llama 3 keeps short wavelengths, divides long ones by ``factor`` and blends between
    (``transformers.modeling_rope_utils``, "llama3").
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
    frequencies = 1.0 / (rope.theta**exponents)
    if rope.factor is None:
        return frequencies
    longest = rope.original_max_tokens / rope.low_freq_factor
    shortest = rope.original_max_tokens / rope.high_freq_factor
    wavelengths = 2 * math.pi / frequencies
    smooth = (rope.original_max_tokens / wavelengths - rope.low_freq_factor) / (
        rope.high_freq_factor - rope.low_freq_factor
    )
    blended = (1 - smooth) * frequencies / rope.factor + smooth * frequencies
    scaled = torch.where(wavelengths > longest, frequencies / rope.factor, frequencies)
    between = (wavelengths <= longest) & (wavelengths >= shortest)
    return torch.where(between, blended, scaled)


def rotary_tables(config: ModelConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of every position's angles, each (max_tokens, head_dim / 2) float32."""
    positions = torch.arange(config.max_tokens, dtype=torch.float32)
    angles = torch.outer(positions, inverse_frequencies(config.rope, config.head_dim))
    return angles.cos(), angles.sin()


def rotate(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn each head (rows, heads, head_dim) by its row's angles (rows, 1, head_dim); halves are the pairs."""
    half = heads.shape[-1] // 2
    turned = heads * cosines
    turned[..., :half].addcmul_(heads[..., half:], sines[..., :half], value=-1)
    turned[..., half:].addcmul_(heads[..., :half], sines[..., half:])
    return turned
