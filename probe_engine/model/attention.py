"""Attention of one step's rows over the paged cache.

A step's rows (tokens to compute) are laid out in this order: first one row per sequence that computes a single token,
sorted by context length and cut into groups of similar length; then the rows of each longer chunk. Groups are padded,
gathered from the cache and attended in one call; chunks are attended one by one, straight from their own keys where
nothing precedes them.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from probe_engine.runtime.kv_cache import LayerCache


@dataclass(frozen=True, slots=True)
class SingleGroup:
    """Sequences of similar context that each compute one token: rows [first, last) of the step."""

    first: int
    last: int
    tables: torch.Tensor  # (sequences, blocks) int64, padded with block 0
    mask: torch.Tensor  # (sequences, 1, 1, blocks * block_size): 0 where a key counts, -inf where not


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """One sequence that computes several tokens: rows [first, last), positions [start, start + last - first)."""

    first: int
    last: int
    start: int
    table: torch.Tensor  # (1, blocks) int64
    mask: torch.Tensor | None  # (rows, start + rows); None where start is 0: plainly causal


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Everything about a step that the decoder needs; all tensors on the model's device."""

    token_ids: torch.Tensor  # (rows,) int64
    positions: torch.Tensor  # (rows,) int64
    slots: torch.Tensor  # (rows,) int64: where the row's key and value are stored
    groups: tuple[SingleGroup, ...]
    chunks: tuple[ChunkSpan, ...]
    sampled_rows: torch.Tensor  # (sampled,) int64: rows whose logits are wanted


def attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, cache: LayerCache, batch: StepBatch
) -> torch.Tensor:
    """Store this step's keys and values in the cache and attend.

    ``queries`` (rows, heads, head_dim), ``keys`` and ``values`` (rows, kv_heads, head_dim), already rotated.
    Returns (rows, heads * head_dim).
    """
    cache.write(batch.slots, keys, values)
    attended = torch.empty_like(queries, memory_format=torch.contiguous_format)
    for group in batch.groups:
        _attend_group(queries[group.first : group.last], cache, group, attended[group.first : group.last])
    for chunk in batch.chunks:
        rows = slice(chunk.first, chunk.last)
        if chunk.mask is None:
            past_keys, past_values = keys[rows], values[rows]
        else:
            context = chunk.start + chunk.last - chunk.first
            read_keys, read_values = cache.read(chunk.table)
            past_keys, past_values = read_keys[0, :context], read_values[0, :context]
        _attend_chunk(queries[rows], past_keys, past_values, chunk.mask, attended[rows])
    return attended.flatten(1)


def _attend_group(queries: torch.Tensor, cache: LayerCache, group: SingleGroup, attended: torch.Tensor) -> None:
    sequences, heads, head_dim = queries.shape
    keys, values = cache.read(group.tables)
    kv_heads = keys.shape[2]
    # Queries that share a key head stand as rows of one small matrix: grouped heads cost nothing more to read.
    grouped = queries.reshape(sequences, kv_heads, heads // kv_heads, head_dim)
    answer = scaled_dot_product_attention(grouped, keys.transpose(1, 2), values.transpose(1, 2), attn_mask=group.mask)
    attended.copy_(answer.reshape(sequences, heads, head_dim))


def _attend_chunk(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, attended: torch.Tensor
) -> None:
    rows, heads, head_dim = queries.shape
    context, kv_heads, _ = keys.shape
    shared = heads // kv_heads
    grouped = queries.reshape(rows, kv_heads, shared, head_dim).permute(1, 2, 0, 3)
    expanded = (kv_heads, shared, context, head_dim)
    answer = scaled_dot_product_attention(
        grouped,
        keys.transpose(0, 1).unsqueeze(1).expand(expanded),
        values.transpose(0, 1).unsqueeze(1).expand(expanded),
        attn_mask=mask,
        is_causal=mask is None,
    )
    attended.copy_(answer.permute(2, 0, 1, 3).reshape(rows, heads, head_dim))
