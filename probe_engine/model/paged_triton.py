# mypy: disable-error-code="no-untyped-def,untyped-decorator,import-not-found,no-untyped-call"
# ruff: noqa: N803 (Triton's compile-time constants are written so)
"""Attention of single rows over the block table on a GPU, in Triton: no gather, and long contexts in parts at once.

Each program takes one sequence, one key head and one part of the keys, for all query heads that share the key head;
a second kernel joins the parts (split-KV, "flash decoding"). Sums are in float32. Imported only where Triton is: on a
GPU, or on the CPU with ``TRITON_INTERPRET=1``, which is how the tests run it.
"""

import torch
import triton
import triton.language as tl

LEAST_ROWS = 16  # of a matrix product in Triton: fewer query heads are padded
TILE = 64  # keys at a time
PROGRAMS = 512  # enough for any GPU: a step of fewer sequences is cut into more parts
MOST_PARTS = 16


@triton.jit
def _attend_part(
    queries, keys, values, tables, contexts, parts, tops, sums, query_stride, table_width, scale, window,
    KV_HEADS: tl.constexpr, SHARED: tl.constexpr, ROWS: tl.constexpr, DIM: tl.constexpr, SIZE: tl.constexpr,
    STEP: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    sequence, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    context = tl.load(contexts + sequence)
    first = tl.maximum(context - window, 0)  # keys before it have left the window
    length = tl.cdiv(tl.cdiv(context - first, STEP), PARTS) * STEP
    begin = first + part * length
    end = tl.minimum(begin + length, context)
    head, component, place = tl.arange(0, ROWS), tl.arange(0, DIM), tl.arange(0, STEP)
    own = head < SHARED
    heads = kv_head * SHARED + head
    query = tl.load(
        queries + sequence * query_stride + heads[:, None] * DIM + component[None, :], mask=own[:, None], other=0.0
    )
    top = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    blended = tl.zeros((ROWS, DIM), tl.float32)
    for at in range(begin, end, STEP):
        inside = at + place < end
        block = tl.load(tables + sequence * table_width + (at + place) // SIZE, mask=inside, other=0)
        row = ((block * SIZE + (at + place) % SIZE) * KV_HEADS + kv_head) * DIM
        key = tl.load(keys + row[None, :] + component[:, None], mask=inside[None, :], other=0.0)
        score = tl.where(inside[None, :], tl.dot(query, key) * scale, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        weight = tl.exp(score - higher[:, None])
        fade = tl.exp(top - higher)
        value = tl.load(values + row[:, None] + component[None, :], mask=inside[:, None], other=0.0)
        blended = blended * fade[:, None] + tl.dot(weight.to(value.dtype), value)
        total = total * fade + tl.sum(weight, 1)
        top = higher
    at = (sequence * KV_HEADS * SHARED + heads) * PARTS + part
    tl.store(tops + at, top, mask=own)
    tl.store(sums + at, total, mask=own)
    tl.store(parts + at[:, None] * DIM + component[None, :], blended, mask=own[:, None])


@triton.jit
def _join(parts, tops, sums, out, DIM: tl.constexpr, PARTS: tl.constexpr):
    row, part, component = tl.program_id(0), tl.arange(0, PARTS), tl.arange(0, DIM)
    top = tl.load(tops + row * PARTS + part)
    weight = tl.exp(top - tl.max(top, 0))  # 0 for a part without keys
    total = tl.sum(weight * tl.load(sums + row * PARTS + part), 0)
    blended = tl.load(parts + (row * PARTS + part)[:, None] * DIM + component[None, :])
    tl.store(out + row * DIM + component, tl.sum(weight[:, None] * blended, 0) / total)


def attend_paged(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    tables: torch.Tensor,
    contexts: torch.Tensor,
    window: int | None = None,
) -> torch.Tensor:
    """Attention of ``queries`` (sequences, heads, head_dim) with each sequence's first ``contexts`` keys.

    keys, values: (blocks, block_size, kv_heads, head_dim), contiguous. tables: (sequences, blocks) int64. window: keys
    that a row sees at most, its own included. head_dim is a power of 2 from 16 up. Returns (sequences, heads *
    head_dim). Reads no tensor on the host, so it can be part of a CUDA graph.
    """
    sequences, heads, dim = queries.shape
    size, kv_heads = keys.shape[1:3]
    shared = heads // kv_heads
    parts = split(sequences * kv_heads, tables.shape[1] * size)
    blended = queries.new_empty((sequences, heads, parts, dim), dtype=torch.float32)
    tops, sums = (queries.new_empty((sequences, heads, parts), dtype=torch.float32) for _ in range(2))
    _attend_part[(sequences, kv_heads, parts)](
        queries, keys, values, tables, contexts, blended, tops, sums, queries.stride(0), tables.stride(0), dim**-0.5,
        window or 2**31 - 1,
        KV_HEADS=kv_heads, SHARED=shared, ROWS=max(LEAST_ROWS, triton.next_power_of_2(shared)), DIM=dim, SIZE=size,
        STEP=TILE, PARTS=parts,
    )  # fmt: skip
    out = queries.new_empty((sequences, heads * dim))
    _join[(sequences * heads,)](blended, tops, sums, out, DIM=dim, PARTS=parts)
    return out


def split(programs: int, longest: int) -> int:
    """Parts (a power of 2) into which contexts of at most ``longest`` keys are cut to keep a GPU busy."""
    parts = 1
    while parts < MOST_PARTS and programs * parts < PROGRAMS and parts * TILE < longest:
        parts *= 2
    return parts
