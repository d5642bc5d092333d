"""Requests by a key that does not change: the least is first, the earlier put in first among equals."""

from heapq import heapify, heappop, heappush

from probe_engine.sched.request import Request

Entry = tuple[float, int, Request]


class RequestHeap:
    """A heap from which any request can be taken; those taken out of the middle are swept once they are the most."""

    __slots__ = ("_entries", "_members", "_sequence")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._members: dict[Request, int] = {}  # each with the number of its entry
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, request: Request) -> bool:
        return request in self._members

    def push(self, key: float, request: Request, *, first: bool = False) -> None:
        """Put in; ``first``: before those of equal key."""
        self._sequence += 1
        number = -self._sequence if first else self._sequence
        self._members[request] = number
        heappush(self._entries, (key, number, request))

    def peek(self) -> tuple[float, Request] | None:
        """Least key and its request."""
        while self._entries:
            key, number, request = self._entries[0]
            if self._members.get(request) == number:
                return key, request
            heappop(self._entries)
        return None

    def remove(self, request: Request) -> None:
        """Take out; KeyError when it is not here."""
        del self._members[request]
        if len(self._entries) > 2 * len(self._members) + 16:
            self._entries = [entry for entry in self._entries if self._members.get(entry[2]) == entry[1]]
            heapify(self._entries)
