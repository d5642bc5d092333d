"""KV blocks: which are free, who references the others, and which are shared through the prefix cache."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from probe_engine.sched.prefix_cache import PrefixCache
from probe_engine.sched.request import Request


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

    def admit(self, request: Request, blocks: int, limit: int) -> tuple[list[int], int] | None:
        """A block table, and how many of it were found in the cache; None if there are too few blocks."""

    def acquire(self, count: int) -> list[int] | None:
        """New blocks; None if there are too few."""

    def acquire_one(self) -> int | None:
        """One new block; None when there is none."""

    def release(self, request: Request, full: int, *, ended: bool) -> None:
        """Give up a block table whose first ``full`` blocks are computed whole."""

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

    def admit(self, request: Request, blocks: int, limit: int) -> tuple[list[int], int] | None:
        """A table of ``blocks`` for a request, and how many of them are its longest cached prefix; None if too few.

        At most ``limit`` of them are shared: each has one reference more.
        """
        references, cache, shared = self._references, self._cache, []
        if cache is not None and request.block_hashes:
            shared = cache.match(request.block_hashes, limit)
        idle = sum(1 for block in shared if not references[block]) if shared else 0
        fresh = blocks - len(shared)
        if len(self._free) < fresh and self.available - idle < fresh:
            return None
        for block in shared:
            if not references[block] and cache is not None:
                cache.wake(block)
            references[block] += 1
        return [*shared, *self._take(fresh)], len(shared)

    def acquire(self, count: int) -> list[int] | None:
        """``count`` new blocks, or None if there are too few."""
        return self._take(count) if count <= len(self._free) or count <= self.available else None

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

    def release(self, request: Request, full: int, *, ended: bool) -> None:
        """Give up one reference on each block; the tail of a table becomes evictable before its head.

        Only blocks whose content is known may be shared or cached.
        """
        references, cache, free = self._references, self._cache, self._free
        blocks, hashed = request.block_table, len(request.block_hashes)
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
    """Blocks that are counted and have no ids of their own, for a driver whose requests share no content.

    With ``prefix_cache`` a request that lost its blocks finds again those that nobody took since. Block tables are as
    long as those of a ``BlockPool`` whose requests have hashes that no other has, and so are all answers, at the cost
    of a sum; every id in them is 0.
    """

    __slots__ = ("_idle", "_kept", "_old", "available", "num_blocks", "version")

    def __init__(self, num_blocks: int, prefix_cache: bool) -> None:
        self.num_blocks = num_blocks
        self.available = num_blocks
        self.version = 0
        self._kept: OrderedDict[Request, int] | None = OrderedDict() if prefix_cache else None  # oldest first
        self._old = 0  # blocks older than those
        self._idle = 0  # the sum of all; more than are available until those that were taken are forgotten

    @property
    def free(self) -> int:
        """As many as are available: nothing that others know is forgotten with them."""
        return self.available

    @property
    def cached(self) -> int:
        """Blocks that the request which left them would find again."""
        return min(self._idle, self.available)

    def references(self, block: int) -> int:
        """All blocks that are held go by one id."""
        return self.num_blocks - self.available

    def admit(self, request: Request, blocks: int, limit: int) -> tuple[list[int], int] | None:
        """A table of ``blocks``, and how many of them are the request's own that are left; None if too few."""
        if blocks > self.available:
            return None
        own = 0
        if self._kept is not None and request in self._kept:
            self._forget()
            own = self._kept.pop(request, 0)
            self._idle -= own
        self.available -= blocks
        return [0] * blocks, min(own, limit)

    def acquire(self, count: int) -> list[int] | None:
        """``count`` blocks, or None if there are too few."""
        if count > self.available:
            return None
        self.available -= count
        return [0] * count

    def acquire_one(self) -> int | None:
        """One block, or None when there is none."""
        if not self.available:
            return None
        self.available -= 1
        return 0

    def release(self, request: Request, full: int, *, ended: bool) -> None:
        """The blocks of a table can be had again; those that it computed whole are the last to be forgotten."""
        self.version += 1
        if self._kept is not None:
            self._forget()
            if ended and not self._kept:
                self._old += full  # nobody will ask for them, but they are forgotten before what comes after them
            elif full:
                self._kept[request] = full
            self._idle += full
        self.available += len(request.block_table)

    def publish(self, contents: Sequence[int], blocks: Sequence[int]) -> None:
        """Nobody else looks for them."""

    def _forget(self) -> None:
        """Forget those that were taken, of the request that let go first; its last ones before its first."""
        blocks, kept = self._idle - self.available, self._kept
        if blocks <= 0:
            return
        self._idle -= blocks
        old = min(self._old, blocks)
        self._old -= old
        blocks -= old
        while kept and blocks:
            request, count = kept.popitem(last=False)
            if count > blocks:
                kept[request] = count - blocks
                kept.move_to_end(request, last=False)
            blocks -= min(count, blocks)
