"""KV blocks: which are free, who references the others, and which are shared through the prefix cache."""

from collections.abc import Sequence

from probe_engine.sched.prefix_cache import PrefixCache


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
        references = self._references
        idle = sum(1 for block in shared if not references[block])
        if self.available - idle < fresh:
            return None
        cache = self._cache
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

    def release(self, blocks: Sequence[int]) -> None:
        """Give up one reference on each block; the tail of a table becomes evictable before its head."""
        references, cache, free = self._references, self._cache, self._free
        self.version += 1
        if cache is None:  # nothing is shared: each has one reference
            for block in blocks:
                references[block] = 0
            free.extend(reversed(blocks))
            return
        for block in reversed(blocks):
            references[block] -= 1
            if references[block]:
                continue
            if cache is not None and block in cache:
                cache.park(block)
            else:
                free.append(block)

    def publish(self, content: int, block: int) -> None:
        """Let others find ``block`` by its content hash; the first block of a content stays the one found."""
        if self._cache is not None and self._cache.insert(content, block):
            self.version += 1

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
