"""Prompts with exact lengths and, where the trace says what is shared, exactly shared prefixes.

Prompts are token ids, so that no tokenizer stands between the trace and the server. Same trace and seed, same ids on
every machine (PCG64 seeded from (seed, row) or (seed, block hash)).
"""

from collections.abc import Iterator

import numpy as np

from planner.trace import IntArray, Ragged, Trace

_OF_ROW, _OF_BLOCK = 1, 2


def token_prompts(trace: Trace, low: int, high: int, seed: int = 0) -> Iterator[IntArray]:
    """One (input_tokens,) int64 array of ids in [low, high) per request, in the trace's order.

    A prefix hash stands for one block of ``block_tokens`` ids; what lies beyond the hashed blocks is the row's own.
    """
    hashes, sizes = trace.column("prefix_hashes"), trace.column("block_tokens")
    for row in range(len(trace)):
        length = int(trace.input_tokens[row])
        if isinstance(hashes, Ragged) and sizes is not None and not isinstance(sizes, Ragged):
            yield _shared(hashes.row(row).tolist(), int(sizes[row]), length, int(trace.row_id[row]), (low, high), seed)
        else:
            yield _draw((seed, _OF_ROW, int(trace.row_id[row])), (low, high), length)


def _shared(blocks: list[int], block_tokens: int, length: int, row: int, ids: tuple[int, int], seed: int) -> IntArray:
    parts = [_draw((seed, _OF_BLOCK, block), ids, block_tokens) for block in blocks]
    prompt = np.concatenate(parts)[:length] if parts else np.zeros(0, dtype=np.int64)
    return np.concatenate([prompt, _draw((seed, _OF_ROW, row), ids, length - len(prompt))])


def _draw(key: tuple[int, int, int], ids: tuple[int, int], count: int) -> IntArray:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))).integers(*ids, count, dtype=np.int64)
