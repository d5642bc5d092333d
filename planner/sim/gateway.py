"""The gateway in front of simulated replicas: its own limits, breakers and routers, on the twin's clock.

What it decides is ``probe_engine.gateway``'s code. Replicas are probed when a request comes and the last probe is as
old as the interval; the latency that breakers judge is the time to first token. What a gateway does beyond deciding
(retries on refused connections, its cache of answers) is not played.
"""

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path

from pydantic import ValidationError

from planner.errors import ModelError
from planner.sim.replica import Replica
from planner.slo import first_fault
from probe_engine.gateway.breaker import BreakerRules
from probe_engine.gateway.errors import Refused, SettingsError
from probe_engine.gateway.limits import Grant, Limiter
from probe_engine.gateway.replica import Replica as Behind
from probe_engine.gateway.ring import hash64
from probe_engine.gateway.router import ROUTERS, Candidate
from probe_engine.gateway.settings import UpGatewaySettings, Upstream, read_config
from probe_engine.sched import Request

CHARACTERS_PER_TOKEN = 4
_NEVER_OPEN = {"error_ratio": 1.0, "p99_s": inf, "gpu_memory_ratio": 1.0, "queue": inf}


def read_gateway(path: Path) -> UpGatewaySettings:
    """A gateway's settings file. Raises ModelError."""
    try:
        return UpGatewaySettings.model_validate(read_config(path))
    except SettingsError as error:
        raise ModelError(str(error)) from error
    except ValidationError as error:
        raise ModelError(f"{path}: {first_fault(error)}") from error


def routing_only(name: str) -> UpGatewaySettings:
    """A gateway that routes by ``name`` and does nothing else."""
    return UpGatewaySettings.model_validate({"routing": name, "max_in_flight": 2**31})


class Gateway:
    """Who may go in, and to which replica. ``guarded``: whether breakers open at all; times are seconds."""

    def __init__(self, settings: UpGatewaySettings, block_size: int, *, guarded: bool = True) -> None:
        self.settings = settings
        rules = {name: getattr(settings, f"breaker_{name}") for name in BreakerRules.__slots__}
        self._rules = BreakerRules(**rules if guarded else {**rules, **_NEVER_OPEN})
        self._router = ROUTERS[settings.routing](settings.load_bound)
        self._limiter = Limiter(settings.limits, 0.0)
        self._prefix_blocks = max(settings.prefix_characters // CHARACTERS_PER_TOKEN // block_size, 1)
        self._behind: dict[int, Behind] = {}
        self._sent: dict[Request, tuple[Behind, Grant, float]] = {}
        self._probed_s = -inf

    @property
    def opened(self) -> Mapping[str, int]:
        """How often breakers opened, by trigger."""
        found: dict[str, int] = {}
        for one in self._behind.values():
            for trigger, times in one.breaker.times_opened.items():
                found[trigger] = found.get(trigger, 0) + times
        return found

    def send(self, request: Request, serving: Sequence[Replica], now_s: float) -> Replica:
        """The replica for a request that comes now. Raises Refused."""
        if len(self._sent) >= self.settings.max_in_flight:
            most = self.settings.max_in_flight
            raise Refused(
                429, f"{most} requests are being served", kind="rate_limit_error", code="busy", reason="max_in_flight"
            )
        self._probe(serving, now_s)
        well = {
            behind.name: (replica, behind)
            for replica, behind in ((one, self._of(one)) for one in serving)
            if behind.takes(now_s)
        }
        if not well:
            raise Refused(503, "no replica may be sent to", kind="server_error", code="no_replica", reason="no_replica")
        tokens = request.prompt_tokens + request.max_tokens
        grant = self._limiter.admit(request.tenant or "", "", tokens, now_s)
        candidates = [Candidate(one.name, one.weight, one.load, one.latency_s) for _, one in well.values()]
        replica, behind = well[self._router.choose(candidates, self._key(request))]
        behind.breaker.sent(now_s)
        behind.in_flight += 1
        self._sent[request] = behind, grant, now_s
        return replica

    def answered(self, request: Request, now_s: float) -> None:
        """A request has its first token."""
        behind, _, sent_s = self._sent[request]
        behind.answered(now_s - sent_s)
        behind.breaker.answered(now_s, well=True, latency_s=now_s - sent_s)

    def ended(self, request: Request, now_s: float) -> None:
        """A request has its last token."""
        self._leave(request, request.prompt_tokens + request.max_tokens, now_s)

    def untold(self, request: Request, now_s: float) -> None:
        """A request ended without an answer that tells anything of its replica: refused there, or too late."""
        self._leave(request, 0, now_s).breaker.unsent(now_s)

    def lost(self, request: Request, now_s: float) -> None:
        """A request's replica is gone."""
        self._leave(request, 0, now_s).breaker.answered(now_s, well=False, latency_s=0.0)

    def _leave(self, request: Request, used_tokens: int, now_s: float) -> Behind:
        behind, grant, _ = self._sent.pop(request)
        behind.in_flight -= 1
        self._limiter.settle(grant, used_tokens, now_s)
        return behind

    def _of(self, replica: Replica) -> Behind:
        behind = self._behind.get(replica.index)
        if behind is None:
            upstreams = self.settings.upstreams
            weight = upstreams[replica.index].weight if replica.index < len(upstreams) else 1.0
            upstream = Upstream(f"replica {replica.index}", weight)
            behind = self._behind[replica.index] = Behind(upstream, self._rules, self.settings.unhealthy_after)
        return behind

    def _probe(self, serving: Sequence[Replica], now_s: float) -> None:
        if now_s - self._probed_s < self.settings.probe_interval_s:
            return
        self._probed_s = now_s
        for replica in serving:
            behind = self._of(replica)
            behind.waiting = float(replica.scheduler.num_waiting)
            behind.breaker.observed(now_s, waiting=behind.waiting, gpu_memory_ratio=None)

    def _key(self, request: Request) -> int:
        """Equal for requests that begin with the same blocks, as far as the gateway looks."""
        hashes = request.block_hashes[: self._prefix_blocks]
        return hash64(str(hashes[-1]) if hashes else request.request_id)
