"""Prompts: exact lengths, exact sharing, the same on every machine, as token ids and as text under any tokenizer."""

import hashlib
import string
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from planner.errors import ReplayError
from planner.prompts import prompt_lengths, text_prompts, token_prompts
from planner.prompts.words import build, of_server, of_tokenizer, syllables
from planner.readers import read_trace
from planner.traces.trace import Ragged, from_lengths

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
    assert digest.hexdigest() == "116e9f982823a6baa172c1aae9a40982dd446e603a5094b71de58a8a333c7dfe"


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


def corpus() -> list[str]:
    """Words in sentences, such as tokenizers are trained on."""
    words, generator = syllables(), np.random.default_rng(5)
    return [" ".join(words[i] for i in generator.integers(0, 600, 12)).capitalize() + "." for _ in range(1000)]


def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def sentencepiece() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=700, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=700, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def unsplit_bpe() -> Tokenizer:
    """As older Llamas have it: trained on words, but nothing splits a text into them."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return tokenizer


FAMILIES = [byte_level, sentencepiece, wordpiece, unsplit_bpe]


def tree(rows: int = 60, block_tokens: int = 16):
    """A trace whose prompts share prefixes as a tree of blocks, last blocks often partial."""
    generator = np.random.default_rng(3)
    chains: list[list[int]] = [[0]]
    for fresh in range(1, rows):
        stem = chains[int(generator.integers(0, len(chains)))]
        kept = stem[: int(generator.integers(1, len(stem) + 1))]
        chains.append([*kept, *range(fresh * 100, fresh * 100 + int(generator.integers(0, 6)))])
    lengths = [len(chain) * block_tokens - int(generator.integers(0, block_tokens)) for chain in chains]
    return chains, replace(
        from_lengths(np.arange(rows), lengths, np.ones(rows)),
        columns={"prefix_hashes": Ragged.of(chains), "block_tokens": np.full(rows, block_tokens)},
    )


def shared(a: list[int], b: list[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def assert_exact(prompts: list[list[int]], chains: list[list[int]], lengths: list[int], block_tokens: int) -> None:
    assert [len(ids) for ids in prompts] == lengths
    for one, other in combinations(range(len(chains)), 2):
        due = min(shared(chains[one], chains[other]) * block_tokens, lengths[one], lengths[other])
        assert shared(prompts[one], prompts[other]) // block_tokens == due // block_tokens


def test_token_ids_share_exactly_the_trees_blocks():
    chains, trace = tree()
    assert_exact([p.tolist() for p in token_prompts(trace, 0, 32000)], chains, trace.input_tokens.tolist(), 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_have_exact_lengths_and_share_exactly_the_trees_blocks(family: Callable[[], Tokenizer], tmp_path: Path):
    tokenizer = family()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chains, trace = tree()
    texts = list(text_prompts(trace, of_tokenizer(tmp_path / "tokenizer.json"), seed=2))
    prompts = [list(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts]
    assert_exact(prompts, chains, trace.input_tokens.tolist(), 16)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pool_is_found_by_only_asking_the_servers_tokenizer(family: Callable[[], Tokenizer]):
    tokenizer = family()
    asked = []

    def encode(text: str) -> list[int]:
        asked.append(text)
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    pool = of_server(encode, "http://x")
    text = pool.joiner.join([pool.first[0], *pool.words])
    assert len(encode(text)) == 1 + len(pool.words)
    assert len(pool.words) >= 16


def test_syllables_that_come_apart_cost_only_themselves():
    """Letters and some syllables are tokens; "ab" is "a" and a piece: it must not pass for the probe's word."""
    whole = {word: 1000 + number for number, word in enumerate([*string.ascii_lowercase, *syllables()[40:90]])}

    def encode(text: str) -> list[int]:
        parts = ([whole[word]] if word in whole else [whole[word[0]], *word[1:].encode()] for word in text.split(" "))
        return [token for part in parts for token in part]

    assert len(build(encode, ["ab", "az", *syllables()], "pieces").words) >= 60


def test_a_tokenizer_of_bytes_gets_letters_without_spaces():
    pool = build(lambda text: list(text.encode()), syllables(), "bytes")
    assert pool.joiner == ""
    assert [len(text) for text in text_prompts(TRACE, pool)] == [7, 40, 20]


def test_a_tokenizer_without_words_is_refused():
    with pytest.raises(ReplayError, match="too few words of one token"):
        build(lambda text: list(text.encode()) * 2, syllables(), "doubling")


def test_what_the_server_puts_around_is_left_room_for():
    pool = build(lambda text: list(text.encode()), syllables(), "bytes")
    assert [len(text) for text in text_prompts(TRACE, pool, spare=3)] == [4, 37, 17]


def with_sessions(mode: str):
    sessions = np.array(["s", "s", "t"], dtype=object)
    modes = np.array([mode] * 3, dtype=object)
    return replace(TRACE, columns={"session_id": sessions, "context_mode": modes})


def test_a_turn_begins_with_all_that_its_session_said_before():
    first, second, third = token_prompts(with_sessions("full"), 0, 32000)
    assert (second[:7] == first).all()
    assert (third[:7] != first).any()


def test_a_turn_told_as_what_it_adds_is_as_long_as_prompt_answer_and_addition():
    trace = with_sessions("delta")
    assert prompt_lengths(trace).tolist() == [7, 7 + 1 + 40, 20]
    assert [len(prompt) for prompt in token_prompts(trace, 0, 32000)] == [7, 48, 20]


def test_a_prompt_of_no_tokens_is_empty_as_ids_and_one_token_as_text():
    trace = replace(with_hashes([[5], [5], [5]], 8), input_tokens=np.zeros(3, dtype=np.int64))
    assert [len(prompt) for prompt in token_prompts(trace, 0, 100)] == [0, 0, 0]
    pool = build(lambda text: list(text.encode()), syllables(), "bytes")
    assert [len(text) for text in text_prompts(trace, pool)] == [1, 1, 1]


def test_every_row_of_the_mooncake_traces_has_its_length_and_its_blocks(shared_data: Path):
    """The first 16 tokens of a block are its own: the same wherever its hash stands, and nowhere else."""
    for path in (shared_data / "traces" / "mooncake").glob("*.jsonl"):
        trace = read_trace(path).trace
        hashes = trace.column("prefix_hashes")
        assert isinstance(hashes, Ragged)
        seen: dict[int, bytes] = {}
        owners: dict[bytes, int] = {}
        for row, prompt in enumerate(token_prompts(trace, 0, 32000)):
            assert len(prompt) == trace.input_tokens[row]
            for place, block in enumerate(hashes.row(row).tolist()):
                piece = prompt[place * 512 : place * 512 + 16].tobytes()
                assert seen.setdefault(block, piece) == piece
                assert len(piece) < 128 or owners.setdefault(piece, block) == block
