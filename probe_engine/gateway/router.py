"""Which replica gets a request: pure choices over what is known of the candidates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Protocol

from probe_engine.gateway.ring import Ring


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that may be chosen. load: requests that it has. latency_s: recent, 0 if unknown."""

    name: str
    weight: float = 1.0
    load: float = 0.0
    latency_s: float = 0.0


class Router(Protocol):
    """One way to choose. ``key`` is the hash of the prompt's prefix; at least one candidate is given."""

    def choose(self, candidates: Sequence[Candidate], key: int) -> str:
        """The chosen candidate's name."""


class RoundRobin:
    """Smooth weighted round robin (nginx): in every round each gets its weight, spread out evenly."""

    def __init__(self) -> None:
        self._credit: dict[str, float] = {}

    def choose(self, candidates: Sequence[Candidate], key: int) -> str:
        """The one with the most credit after all were credited their weight."""
        credit = {one.name: self._credit.get(one.name, 0.0) + one.weight for one in candidates}
        chosen = max(candidates, key=lambda one: credit[one.name]).name
        credit[chosen] -= sum(one.weight for one in candidates)
        self._credit = credit
        return chosen


class LeastLoad:
    """The one with the fewest requests per weight; among equals the one that answers soonest."""

    def choose(self, candidates: Sequence[Candidate], key: int) -> str:
        """The least loaded."""
        return min(candidates, key=lambda one: ((one.load + 1) / one.weight, one.latency_s)).name


class PrefixHash:
    """Consistent hashing with bounded loads (Mirrokni et al.): equal prefixes meet where their KV blocks are cached.

    The first on the ring, from the key on, whose load with this request stays within ``ceil(bound * mean * share)``:
    mean is the load of all with this request, per unit of weight, and share the replica's weight.
    """

    def __init__(self, bound: float) -> None:
        self.bound = bound
        self._members: tuple[tuple[str, float], ...] = ()
        self._ring = Ring(())

    def choose(self, candidates: Sequence[Candidate], key: int) -> str:
        """The first with room."""
        members = tuple(sorted((one.name, one.weight) for one in candidates))
        if members != self._members:
            self._members, self._ring = members, Ring(members)
        mean = (sum(one.load for one in candidates) + 1) / sum(one.weight for one in candidates)
        by_name = {one.name: one for one in candidates}
        for name in self._ring.walk(key):
            one = by_name[name]
            if one.load + 1 <= ceil(self.bound * mean * one.weight):
                return name
        return LeastLoad().choose(candidates, key)


ROUTERS: Mapping[str, Callable[[float], Router]] = {
    "round_robin": lambda bound: RoundRobin(),
    "least_load": lambda bound: LeastLoad(),
    "prefix": PrefixHash,
}
