"""A consistent hash ring: keys keep their place when members come and go."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from hashlib import blake2b

POINTS = 128  # of a member of weight 1: more of them share more evenly


def hash64(text: str) -> int:
    """An unsigned 64-bit hash that is the same in every process."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class Ring:
    """Members with weights, each on as many points of the ring as its weight says."""

    def __init__(self, members: Iterable[tuple[str, float]]) -> None:
        placed = sorted(
            (hash64(f"{name}#{at}"), name) for name, weight in members for at in range(max(1, round(POINTS * weight)))
        )
        self._points = [point for point, _ in placed]
        self._names = [name for _, name in placed]

    def walk(self, key: int) -> Iterator[str]:
        """Members in the order in which they follow ``key``, each once."""
        start = bisect_right(self._points, key)
        seen: set[str] = set()
        for at in range(len(self._names)):
            name = self._names[(start + at) % len(self._names)]
            if name not in seen:
                seen.add(name)
                yield name
