"""Which block holds which content, by chained hash, and in which order unused ones are given up (LRU)."""

from collections import OrderedDict
from collections.abc import Sequence


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

    def __contains__(self, block: int) -> bool:
        return block in self._hash_of

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

    def insert(self, content: int, block: int) -> bool:
        """Remember that ``block`` holds ``content``; False (and no change) where either is known already."""
        if content in self._block_of or block in self._hash_of:
            return False
        self._block_of[content] = block
        self._hash_of[block] = content
        return True

    def park(self, block: int) -> None:
        """``block`` has no reference left: it is the most recently used idle block now."""
        self._idle[block] = None

    def wake(self, block: int) -> None:
        """``block`` is referenced again."""
        del self._idle[block]

    def evict(self) -> int:
        """Forget the least recently used idle block and return it; KeyError when there is none."""
        block, _ = self._idle.popitem(last=False)
        del self._block_of[self._hash_of.pop(block)]
        return block
