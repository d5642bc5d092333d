"""KV blocks: which are free, who references the others, and which are shared through the prefix cache."""

from collections.abc import Sequence
from typing import Protocol

from probe_engine.sched.prefix_cache import PrefixCache


class Blocks(Protocol):
    """What the scheduler asks of KV blocks; ``BlockPool`` says what each call means."""

    num_blocks: int
    version: int

    @property
    def available(self) -> int:
        """Blocks that can be had now."""

    @property
    def free(self) -> int:
        """Blocks that hold nothing."""

    @property
    def cached(self) -> int:
        """Blocks in the prefix cache."""

    def references(self, block: int) -> int:
        """Block tables that hold ``block``."""

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """Blocks of the longest cached prefix."""

    def acquire(self, shared: Sequence[int], fresh: int) -> list[int] | None:
        """A block table; None if there are too few blocks."""

    def acquire_one(self) -> int | None:
        """One new block; None when there is none."""

    def release(self, blocks: Sequence[int], hashed: int) -> None:
        """Give up a block table."""

    def publish(self, contents: Sequence[int], blocks: Sequence[int]) -> None:
        """Let others find each block by its content hash."""


class BlockPool:
    """``num_blocks`` block ids, each free, referenced, or idle in the prefix cache.

    Free ids are handed out in a fixed order (deterministic). Laws: free + idle + referenced == num_blocks; a block
    has as many references as block tables hold it.
    """

    __slots__ = ("_cache", "_free", "_references", "num_blocks", "version")

    def __init__(self, num_blocks: int, prefix_cache: bool) -> None:
        self.num_blocks = num_blocks
        self.version = 0  # grows whenever a request that did not fit might fit now
        self._free = list(range(num_blocks - 1, -1, -1))
        self._references = [0] * num_blocks
        self._cache = PrefixCache() if prefix_cache else None

    @property
    def available(self) -> int:
        """Blocks that can be had now: free ones and idle cached ones."""
        return len(self._free) + (self._cache.idle if self._cache is not None else 0)

    @property
    def free(self) -> int:
        """Blocks that hold nothing: those that are had without forgetting anything."""
        return len(self._free)

    @property
    def cached(self) -> int:
        """Blocks in the prefix cache, referenced or idle."""
        return len(self._cache) if self._cache is not None else 0

    def references(self, block: int) -> int:
        """Block tables that hold ``block``."""
        return self._references[block]

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """Blocks of the longest cached prefix; nothing is reserved by asking."""
        return self._cache.match(hashes, limit) if self._cache is not None and hashes else []

    def acquire(self, shared: Sequence[int], fresh: int) -> list[int] | None:
        """A block table of the ``shared`` blocks (one more reference each) and ``fresh`` new ones; None if too few."""
        references, cache = self._references, self._cache
        idle = sum(1 for block in shared if not references[block]) if shared else 0
        if len(self._free) < fresh and self.available - idle < fresh:
            return None
        for block in shared:
            if not references[block] and cache is not None:
                cache.wake(block)
            references[block] += 1
        return [*shared, *self._take(fresh)]

    def acquire_one(self) -> int | None:
        """One new block, or None when there is none."""
        if self._free:
            block = self._free.pop()
        elif self._cache is not None and self._cache.idle:
            block = self._cache.evict()
        else:
            return None
        self._references[block] = 1
        return block

    def release(self, blocks: Sequence[int], hashed: int) -> None:
        """Give up one reference on each block; the tail of a table becomes evictable before its head.

        Only of the first ``hashed`` blocks the content is known, so only they may be shared or cached.
        """
        references, cache, free = self._references, self._cache, self._free
        self.version += 1
        own = blocks if cache is None else blocks[hashed:]
        for block in own:
            references[block] = 0
        free += own[::-1]
        if cache is None:
            return
        fallen = []
        for block in blocks[hashed - 1 :: -1] if hashed else ():
            left = references[block] = references[block] - 1
            if not left:
                fallen.append(block)
        free += cache.park(fallen)

    def publish(self, contents: Sequence[int], blocks: Sequence[int]) -> None:
        """Let others find each block by its content hash; the first block of a content stays the one found."""
        if self._cache is not None:
            self.version += self._cache.insert(contents, blocks)

    def _take(self, count: int) -> list[int]:
        if not count:
            return []
        free = self._free
        ready = min(count, len(free))
        taken = free[len(free) - ready :][::-1]
        del free[len(free) - ready :]
        cache = self._cache
        if cache is not None:
            taken += [cache.evict() for _ in range(count - ready)]
        for block in taken:
            self._references[block] = 1
        return taken


class CountedBlocks:
    """Blocks that are counted and have no ids of their own: what a driver needs that keeps no keys and shares none.

    Block tables are as long as those of ``BlockPool(num_blocks, prefix_cache=False)`` and so are all answers, at the
    cost of a sum; every id in them is 0.
    """

    __slots__ = ("available", "num_blocks", "version")

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.available = num_blocks
        self.version = 0

    @property
    def free(self) -> int:
        """As many as are available: none is cached."""
        return self.available

    @property
    def cached(self) -> int:
        """None."""
        return 0

    def references(self, block: int) -> int:
        """All blocks that are held go by one id."""
        return self.num_blocks - self.available

    def match(self, hashes: Sequence[int], limit: int) -> list[int]:
        """Nothing is found."""
        return []

    def acquire(self, shared: Sequence[int], fresh: int) -> list[int] | None:
        """A table of ``fresh`` blocks; None if too few."""
        if fresh > self.available:
            return None
        self.available -= fresh
        return [0] * fresh

    def acquire_one(self) -> int | None:
        """One block, or None when there is none."""
        if not self.available:
            return None
        self.available -= 1
        return 0

    def release(self, blocks: Sequence[int], hashed: int) -> None:
        """The blocks of a table are free again."""
        self.version += 1
        self.available += len(blocks)

    def publish(self, contents: Sequence[int], blocks: Sequence[int]) -> None:
        """Nobody looks for them."""
