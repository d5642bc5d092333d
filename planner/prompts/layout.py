"""Which streams a prompt is made of, and how long it is.

A prefix hash stands for one block of ``block_tokens`` tokens; what lies beyond the hashed blocks is the row's own. A
row without hashes but with a session takes its tokens from the session's stream: its context grows by what was said.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from planner.prompts.stream import Counts, UInts, base_key, key_of, keys
from planner.traces.trace import IntArray, Ragged, Trace


@dataclass(frozen=True, slots=True)
class Pieces:
    """A prompt as pieces of streams: the first ``counts[i]`` numbers of ``streams[i]``."""

    streams: UInts
    counts: Counts


def prompt_lengths(trace: Trace) -> IntArray:
    """Tokens of each prompt, (rows,): the trace's own, and for turns told as what they add, all that went before too.

    Under ``context_mode`` delta, a turn's prompt is its session's earlier prompts and answers, by their recorded
    lengths, and then its own tokens.
    """
    modes, sessions = trace.column("context_mode"), trace.column("session_id")
    if modes is None or sessions is None or isinstance(modes, Ragged) or isinstance(sessions, Ragged):
        return trace.input_tokens
    lengths = trace.input_tokens.copy()
    told: dict[str, int] = {}
    for row in np.flatnonzero(modes == "delta").tolist():
        if (session := sessions[row]) is not None:
            lengths[row] += told.get(session, 0)
            told[session] = int(lengths[row] + trace.output_tokens[row])
    return lengths


def pieces(trace: Trace, seed: int, spare: int = 0, only: IntArray | None = None) -> Iterator[Pieces]:
    """The pieces of every prompt, in the trace's order, each ``spare`` tokens shorter than it is to be (0 at least).

    ``only`` are the places in the trace of those that are wanted.
    """
    hashes, sizes, sessions = (trace.column(name) for name in ("prefix_hashes", "block_tokens", "session_id"))
    lengths = np.maximum(prompt_lengths(trace) - spare, 0)
    of_row, of_block, of_session = (base_key(seed, kind) for kind in ("row", "block", "session"))
    rows = keys(of_row, trace.row_id.astype(np.uint64))
    blocks = Ragged(keys(of_block, hashes.values), hashes.offsets) if isinstance(hashes, Ragged) else None
    wanted = np.arange(len(trace)) if only is None else only
    for row, length in zip(wanted.tolist(), lengths[wanted].tolist(), strict=True):
        own = rows[row : row + 1]
        shared = blocks.row(row) if blocks is not None else own[:0]
        if length and len(shared) and sizes is not None and not isinstance(sizes, Ragged):
            yield _blocks(shared, int(sizes[row]), own, length)
        elif sessions is not None and not isinstance(sessions, Ragged) and sessions[row] is not None:
            yield Pieces(key_of(of_session, str(sessions[row])), np.array([length]))
        else:
            yield Pieces(own, np.array([length]))


def _blocks(shared: UInts, size: int, own: UInts, length: int) -> Pieces:
    whole = min(len(shared), length // size)
    counts = np.full(whole, size, dtype=np.int64)
    rest = length - whole * size
    if not rest:
        return Pieces(shared[:whole], counts)
    if whole < len(shared):
        return Pieces(shared[: whole + 1], np.append(counts, rest))
    return Pieces(np.concatenate([shared, own]), np.append(counts, rest))
