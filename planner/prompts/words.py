"""Words that are one token each wherever they stand, so that text has as many tokens as words.

Found by asking a tokenizer: of a ``tokenizer.json``, or the server's own behind ``/tokenize``. Byte-level BPE,
SentencePiece (BPE and unigram) and WordPiece keep words apart at spaces; for a tokenizer of single bytes, letters are
put together without them.
"""

import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from planner.errors import ReplayError

Encode = Callable[[str], list[int]]
"""Token ids of a text, without the specials put around it."""

MIN_WORDS, MAX_WORDS, MIN_FIRST, MAX_FIRST = 16, 32_768, 4, 64
ANCHORS = ("a", "e", "the", "in", "i", "s", "1", "0")
PROBE_WORDS = 4096
MAX_REPAIRS = 500


@dataclass(frozen=True, slots=True)
class WordPool:
    """Words of one token each: ``first`` at the start of a text, ``words`` after ``joiner``; no two the same token."""

    words: tuple[str, ...]
    first: tuple[str, ...]
    joiner: str

    def text(self, first: int, others: npt.NDArray[np.uint64], table: npt.NDArray[np.object_]) -> str:
        """A text of ``1 + len(others)`` tokens; ``table`` is ``table()``."""
        return self.joiner.join([self.first[first], *table[others].tolist()])

    def table(self) -> npt.NDArray[np.object_]:
        """The words as an array that can be indexed by arrays."""
        return np.array(self.words, dtype=np.object_)


def of_tokenizer(path: Path) -> WordPool:
    """The pool of a ``tokenizer.json``. Raises ReplayError when it cannot be read or has too few words."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ReplayError(f"{path}: is no tokenizer.json: {error}") from error
    vocabulary = {token.lstrip("Ġ▁") for token in tokenizer.get_vocab()}
    names = sorted((word for word in vocabulary if _plain(word)), key=lambda word: (word.lower() != word, word))
    return build(lambda text: list(tokenizer.encode(text, add_special_tokens=False).ids), names, str(path))


def of_server(encode: Encode, url: str) -> WordPool:
    """The pool of a server's tokenizer, found among short syllables. Raises ReplayError when there are too few."""
    return build(encode, syllables(), url)


def syllables() -> list[str]:
    """Letters and short syllables, of which every tokenizer of a chat model knows hundreds as tokens."""
    vowels, others = "aeiou", "bcdfghklmnprstvwy"
    two = ["".join(pair) for pair in (*product(others, vowels), *product(vowels, others))]
    three = ["".join(triple) for triple in product(others, vowels, others)]
    return [*string.ascii_lowercase, *two, *three]


def build(encode: Encode, candidates: Iterable[str], source: str) -> WordPool:
    """A pool out of ``candidates``, verified on a long random text; letters without spaces where words are too few."""
    names = list(dict.fromkeys(candidates))
    for joiner, found in ((" ", _single(encode, names)), ("", list(string.ascii_letters))):
        pool = _verified(encode, found, joiner)
        if pool is not None:
            return pool
    raise ReplayError(f"{source}: its tokenizer has too few words of one token for text prompts; --prompts ids")


def _plain(word: str) -> bool:
    return 0 < len(word) <= 16 and word.isascii() and word.isalpha()


def _single(encode: Encode, names: Sequence[str]) -> list[str]:
    """Those names that are one token between two words, no two the same token.

    Names that begin with the word between them are left out: pieces of them could be taken for it.
    """
    for anchor in ANCHORS:
        ids = encode(" ".join([anchor] * 5))
        if len(ids) != 5 or len(set(ids[1:])) != 1:
            continue
        found: dict[int, str] = {}
        for start in range(0, len(names), PROBE_WORDS):
            part = [name for name in names[start : start + PROBE_WORDS] if not name.startswith(anchor)]
            text = " ".join([anchor, *(word for name in part for word in (name, anchor))])
            between = _between(encode(text)[1:], ids[-1])
            if len(between) == len(part):
                for name, tokens in zip(part, between, strict=True):
                    if len(tokens) == 1:
                        found.setdefault(tokens[0], name)
        return [found[token] for token in sorted(found)][:MAX_WORDS]
    return []


def _between(ids: Sequence[int], mark: int) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts[:-1]


def _verified(encode: Encode, words: list[str], joiner: str) -> WordPool | None:
    """The pool of ``words`` without those that merge with a neighbour; None when too few are left."""
    generator = np.random.Generator(np.random.PCG64(7))
    calm = 0
    for _ in range(MAX_REPAIRS):
        first = _first(encode, words)
        if len(words) < MIN_WORDS or len(first) < MIN_FIRST:
            return None
        text = [first[0], *(words[i] for i in generator.integers(0, len(words), min(PROBE_WORDS, 8 * len(words))))]
        wrong = _merged(encode, text, joiner)
        calm = 0 if wrong else calm + 1
        if calm == 2:
            return WordPool(tuple(words), tuple(first), joiner)
        words = [word for word in words if word not in wrong]
    return None


def _first(encode: Encode, words: Sequence[str]) -> list[str]:
    found: dict[int, str] = {}
    for word in words[: 4 * MAX_FIRST]:
        ids = encode(word)
        if len(ids) == 1:
            found.setdefault(ids[0], word)
        if len(found) == MAX_FIRST:
            break
    return list(found.values())


def _merged(encode: Encode, text: Sequence[str], joiner: str) -> set[str]:
    """Words at the first place where the text has other than one token each; empty when it has."""
    if len(encode(joiner.join(text))) == len(text):
        return set()
    low, high = 1, len(text)  # text[:low] is right, text[:high] is not
    while high - low > 1:
        middle = (low + high) // 2
        if len(encode(joiner.join(text[:middle]))) == middle:
            low = middle
        else:
            high = middle
    return {text[high - 1]}
