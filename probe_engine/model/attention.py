"""What one step computes, laid out for the model, and attention of a chunk with the keys before it.

A step's rows (tokens to compute) come in this order: first one row per sequence that computes a single token, sorted by
context length; then the rows of each longer chunk.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True, slots=True)
class ChunkSpan:
    """One sequence that computes several tokens: rows [first, last), positions [start, start + last - first)."""

    first: int
    last: int
    start: int
    table: torch.Tensor  # (blocks,) int64

    @property
    def context(self) -> int:
        """Keys that the chunk's last row sees."""
        return self.start + self.last - self.first


@dataclass(frozen=True, slots=True)
class StepBatch:
    """Everything about a step that the decoder needs; all tensors on the model's device."""

    token_ids: torch.Tensor  # (rows,) int64
    positions: torch.Tensor  # (rows,) int64
    slots: torch.Tensor  # (rows,) int64: where the row's key and value are stored
    contexts: torch.Tensor  # (singles,) int64, rising: keys that each single row sees, its own included
    tables: torch.Tensor  # (singles, blocks) int64: block tables of the single rows, padded with zeros
    chunks: tuple[ChunkSpan, ...]
    sampled_rows: torch.Tensor  # (sampled,) int64: rows whose logits are wanted


def causal_mask(chunk: ChunkSpan, like: torch.Tensor, window: int | None = None) -> torch.Tensor | None:
    """0 where a row of the chunk sees a key, -inf where not: (rows, context); None where plainly causal.

    ``window``: keys that a row sees at most, its own included.
    """
    windowed = window is not None and chunk.context > window
    if not chunk.start and not windowed:
        return None
    hidden = torch.full((chunk.last - chunk.first, chunk.context), float("-inf"), dtype=like.dtype, device=like.device)
    mask = hidden.triu(chunk.start + 1)
    return mask if window is None else mask + hidden.tril(chunk.start - window)


def attend_chunk(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of one sequence's rows.

    ``queries`` (rows, heads, head_dim); ``keys`` and ``values`` (context, kv_heads, head_dim); ``mask`` of
    ``causal_mask``. Returns (rows, heads * head_dim).
    """
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
    return answer.permute(2, 0, 1, 3).reshape(rows, heads * head_dim)
