"""Answers that will not differ: whole ones to greedy requests, least recently used out first, for a while."""

from collections import OrderedDict


class AnswerCache:
    """At most ``entries`` bodies, each for ``ttl_s`` seconds; times (s) are passed in."""

    def __init__(self, entries: int, ttl_s: float) -> None:
        self.entries = entries
        self.ttl_s = ttl_s
        self._kept: OrderedDict[bytes, tuple[float, bytes]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes, now_s: float) -> bytes | None:
        """The body under ``key``, if it is there and young enough."""
        found = self._kept.get(key)
        if found is None:
            return None
        if now_s >= found[0]:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        return found[1]

    def put(self, key: bytes, body: bytes, now_s: float) -> None:
        """Keep ``body``; the least recently used goes when there is no room."""
        self._kept[key] = (now_s + self.ttl_s, body)
        self._kept.move_to_end(key)
        while len(self._kept) > self.entries:
            self._kept.popitem(last=False)
