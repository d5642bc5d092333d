"""Prompts: exact lengths, exact sharing, the same on every machine."""

import hashlib
from dataclasses import replace

import numpy as np

from planner.prompts import token_prompts
from planner.trace import Ragged, from_lengths

TRACE = from_lengths([0.0, 0.5, 1.0], [7, 40, 20], [1, 2, 3])


def with_hashes(rows: list[list[int]], block_tokens: int):
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    hashes = Ragged(np.array([one for row in rows for one in row], dtype=np.uint64), offsets)
    return replace(TRACE, columns={"prefix_hashes": hashes, "block_tokens": np.full(3, block_tokens)})


def test_every_prompt_has_the_traces_length_and_stays_in_the_range_of_ids():
    prompts = list(token_prompts(TRACE, 10, 20))
    assert [len(prompt) for prompt in prompts] == [7, 40, 20]
    assert all(((prompt >= 10) & (prompt < 20)).all() for prompt in prompts)


def test_a_seed_gives_the_same_ids_on_every_machine():
    digest = hashlib.sha256(b"".join(p.astype("<i8").tobytes() for p in token_prompts(TRACE, 0, 32000, seed=1)))
    assert digest.hexdigest() == "f2bde6f29e4aa90d947b47bea56c06662844f28a7939e53d83eb0ef8eef2bd2f"


def test_another_seed_gives_other_prompts():
    one, other = (np.concatenate(list(token_prompts(TRACE, 0, 32000, seed=seed))) for seed in (1, 2))
    assert (one != other).any()


def test_prompts_share_exactly_the_blocks_whose_hashes_are_equal():
    trace = with_hashes([[5], [5, 6, 7], [5, 6]], block_tokens=16)
    first, second, third = token_prompts(trace, 0, 32000)
    assert (first == second[:7]).all()
    assert (second[:20] == third).all()
    assert len(second) == 40


def test_what_lies_beyond_the_hashed_blocks_is_the_rows_own():
    trace = with_hashes([[5], [5], [5]], block_tokens=8)
    _, second, third = token_prompts(trace, 0, 32000)
    assert (second[:8] == third[:8]).all()
    assert (second[8:20] != third[8:20]).any()
