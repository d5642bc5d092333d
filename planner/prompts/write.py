"""Prompts written out, as token ids or as text: same trace and seed, same bytes on every machine."""

from collections.abc import Iterator

import numpy as np

from planner.prompts.layout import pieces
from planner.prompts.stream import base_key, draw, keys
from planner.prompts.words import WordPool
from planner.traces.trace import IntArray, Trace


def token_prompts(trace: Trace, low: int, high: int, seed: int = 0, only: IntArray | None = None) -> Iterator[IntArray]:
    """One int64 array of ids in [low, high) per request, in the trace's order, of ``prompt_lengths`` each.

    ``only`` are the places in the trace of the requests that are wanted.
    """
    for one in pieces(trace, seed, only=only):
        yield draw(one.streams, one.counts, high - low).view(np.int64) + low


def text_prompts(
    trace: Trace, pool: WordPool, seed: int = 0, spare: int = 0, only: IntArray | None = None
) -> Iterator[str]:
    """One text per request, of ``prompt_lengths`` tokens less ``spare``: those that the server itself puts around.

    At least one token each. Requests that share a block share its words, and so its tokens.
    """
    table, openers = pool.table(), base_key(seed, "opener")
    for one in pieces(trace, seed, spare, only):
        opener = int(draw(keys(openers, one.streams[:1]), np.ones(1, dtype=np.int64), len(pool.first))[0])
        yield pool.text(opener, draw(one.streams, one.counts, len(pool.words))[1:], table)


def own_words(trace: Trace, pool: WordPool, seed: int, row: int, count: int) -> str:
    """``count`` words of the request at ``row`` that no other has, one token each after other words."""
    stream = keys(base_key(seed, "row"), trace.row_id[row : row + 1].astype(np.uint64))
    return pool.joiner.join(pool.words[i] for i in draw(stream, np.array([count]), len(pool.words)).tolist())
