"""One replica as the gateway knows it, and the fleet of them."""

from collections.abc import Collection, Sequence

from probe_engine.gateway.breaker import Breaker, BreakerRules
from probe_engine.gateway.router import Candidate, Router
from probe_engine.gateway.settings import Upstream

LATENCY_WEIGHT = 0.2  # of the newest observation in the moving mean


class Replica:
    """Health (``unhealthy_after`` failed probes in a row, until one succeeds), breaker, load and latency.

    ``weight`` and ``draining`` are the operator's: nothing new goes to a replica that drains or weighs 0.
    """

    def __init__(self, upstream: Upstream, rules: BreakerRules, unhealthy_after: int) -> None:
        self.upstream = upstream
        self.name = upstream.url
        self.weight = upstream.weight
        self.draining = False
        self.breaker = Breaker(rules)
        self.in_flight = 0
        self.waiting: float | None = None
        self.gpu_memory_ratio: float | None = None
        self.latency_s = 0.0
        self._unhealthy_after = unhealthy_after
        self._failed_probes = 0

    @property
    def healthy(self) -> bool:
        """Whether probes find it serving."""
        return self._failed_probes < self._unhealthy_after

    @property
    def load(self) -> float:
        """Requests of ours that it has, or those that it says wait if that is more (others send to it too)."""
        return max(float(self.in_flight), self.waiting or 0.0)

    def takes(self, now_s: float) -> bool:
        """Whether a request may go to it now."""
        return self.healthy and not self.draining and self.weight > 0 and self.breaker.allows(now_s)

    def probed(self, ready: bool) -> None:
        """A probe found it serving, or not."""
        self._failed_probes = 0 if ready else self._failed_probes + 1

    def unreachable(self) -> None:
        """A connection was refused: no probe needs to find out again."""
        self._failed_probes = self._unhealthy_after

    def answered(self, latency_s: float) -> None:
        """A first byte came after ``latency_s``."""
        self.latency_s += LATENCY_WEIGHT * (latency_s - self.latency_s)


class Fleet:
    """All replicas and the way to choose among those that may be sent to."""

    def __init__(self, replicas: Sequence[Replica], router: Router) -> None:
        self.replicas = tuple(replicas)
        self._router = router
        self._by_name = {replica.name: replica for replica in self.replicas}

    def find(self, name: object) -> Replica | None:
        """The replica of this URL."""
        return self._by_name.get(name) if isinstance(name, str) else None

    def choose(self, key: int, tried: Collection[str], now_s: float) -> Replica | None:
        """A replica that is well and was not tried; None when there is none."""
        candidates = [
            Candidate(one.name, one.weight, one.load, one.latency_s)
            for one in self.replicas
            if one.name not in tried and one.takes(now_s)
        ]
        return self._by_name[self._router.choose(candidates, key)] if candidates else None

    def retry_after_s(self, now_s: float) -> float:
        """When it is worth asking again, with nobody to send to."""
        return min(replica.breaker.retry_after_s(now_s) for replica in self.replicas)
