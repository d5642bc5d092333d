"""Which block holds which content, by chained hash, and in which order unused ones are given up (LRU)."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class PrefixCache:
    """Map from content hash to block, and the idle blocks (cached, referenced by nobody), oldest first.

    It knows nothing of reference counts: the pool says when a block falls idle and when it is used again.
    """

    __slots__ = ("_block_of", "_hash_of", "_idle")

    def __init__(self) -> None:
        self._block_of: dict[int, int] = {}
        self._hash_of: dict[int, int] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._block_of)

    @property
    def idle(self) -> int:
        """Cached blocks that nobody references."""
        return len(self._idle)

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """Blocks of the longest cached prefix of ``hashes``, at most ``limit`` of them."""
        found: list[int] = []
        block_of = self._block_of
        for content in hashes[:limit]:
            block = block_of.get(content)
            if block is None:
                break
            found.append(block)
        return found

    def insert(self, contents: Iterable[int], blocks: Iterable[int]) -> int:
        """Remember which block holds which content, but where either is known already; how many are new."""
        block_of, hash_of, new = self._block_of, self._hash_of, 0
        for content, block in zip(contents, blocks, strict=True):
            if content not in block_of and block not in hash_of:
                block_of[content] = block
                hash_of[block] = content
                new += 1
        return new

    def park(self, blocks: Iterable[int]) -> list[int]:
        """``blocks`` have no reference left: each is the most recently used idle block in its turn.

        Returns those that are not cached.
        """
        hash_of, idle, strange = self._hash_of, self._idle, []
        for block in blocks:
            if block in hash_of:
                idle[block] = None
            else:
                strange.append(block)
        return strange

    def wake(self, block: int) -> None:
        """``block`` is referenced again."""
        del self._idle[block]

    def evict(self) -> int:
        """Forget the least recently used idle block and return it; KeyError when there is none."""
        block, _ = self._idle.popitem(last=False)
        del self._block_of[self._hash_of.pop(block)]
        return block
