"""How a model is cut for several ranks (tensor parallelism, after Megatron-LM).

Each rank has its share of the heads and of the MLP's width: matrices that read the hidden state are cut by rows, those
that write it by columns, so that one sum over the ranks follows attention and one the MLP. The head is cut by
vocabulary. Embedding, norms and the small rest are whole on every rank.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from probe_engine.errors import ModelError
from probe_engine.model.config import ModelConfig
from probe_engine.model.weights import EMBEDDING, HEAD, Source

Cut = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Shard:
    """Rank ``rank`` of ``ranks``."""

    rank: int
    ranks: int


def shard_config(config: ModelConfig, shard: Shard) -> ModelConfig:
    """The shapes that one rank computes; ``ModelError`` names what cannot be divided.

    With fewer key heads than ranks, several ranks keep the same one. The head counts as untied: it is a part.
    """
    for name, size in (("heads", config.heads), ("intermediate_size", config.intermediate_size)):
        if size % shard.ranks:
            raise ModelError(f"tensor_parallel is {shard.ranks}; it must divide the model's {name}, {size}")
    if config.kv_heads % shard.ranks and shard.ranks % config.kv_heads:
        raise ModelError(
            f"tensor_parallel is {shard.ranks}; it must divide the model's kv_heads, {config.kv_heads}, or be a "
            f"multiple of them"
        )
    return replace(
        config,
        heads=config.heads // shard.ranks,
        kv_heads=max(1, config.kv_heads // shard.ranks),
        intermediate_size=config.intermediate_size // shard.ranks,
        tied=False,
    )


def shard_source(config: ModelConfig, tensor: Source, shard: Shard) -> Source:
    """A source of one rank's part of each tensor of the whole model ``config``."""
    head_dim = config.head_dim
    queries = _cut(0, config.heads // shard.ranks * head_dim, shard.rank)
    kept = max(1, config.kv_heads // shard.ranks)
    keys = _cut(0, kept * head_dim, shard.rank * config.kv_heads // shard.ranks // kept)
    inner = config.intermediate_size // shard.ranks
    cuts: dict[str, Cut] = {
        "q_proj.weight": queries,
        "q_proj.bias": queries,
        "k_proj.weight": keys,
        "k_proj.bias": keys,
        "v_proj.weight": keys,
        "v_proj.bias": keys,
        "o_proj.weight": _cut(1, config.heads // shard.ranks * head_dim, shard.rank),
        "gate_proj.weight": _cut(0, inner, shard.rank),
        "up_proj.weight": _cut(0, inner, shard.rank),
        "down_proj.weight": _cut(1, inner, shard.rank),
    }

    def part(name: str) -> torch.Tensor:
        if name == HEAD:
            return _vocabulary_part(tensor(EMBEDDING if config.tied else HEAD), shard)
        cut = cuts.get(".".join(name.rsplit(".", 2)[-2:]))
        return tensor(name) if cut is None else cut(tensor(name))

    return part


def _cut(dimension: int, size: int, index: int) -> Cut:
    def cut(whole: torch.Tensor) -> torch.Tensor:
        return whole.narrow(dimension, index * size, size).clone(memory_format=torch.contiguous_format)

    return cut


def _vocabulary_part(head: torch.Tensor, shard: Shard) -> torch.Tensor:
    """One rank's rows; the last is filled up with zeros so that all have equally many."""
    size = -(-len(head) // shard.ranks)
    part = head[shard.rank * size : (shard.rank + 1) * size]
    filled = head.new_zeros(size, head.shape[1])
    filled[: len(part)] = part
    return filled
