"""What an operator, or an alert, sees and changes while the gateway runs. Who may ask is settled before.

Every change sets a state and does not toggle one, so asking twice is the same as asking once; each is logged; and
``POST /admin/restore`` takes all of them back.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from probe_engine.gateway.cache import AnswerCache
from probe_engine.gateway.errors import Refused
from probe_engine.gateway.limits import Limiter
from probe_engine.gateway.operate import Operations
from probe_engine.gateway.replica import Fleet, Replica
from probe_engine.gateway.settings import Limits

log = logging.getLogger(__name__)

Fields = dict[str, Any]
MOST_WEIGHT = 1e6


class Admin:
    """``GET /admin/state``, and the changes of ``CHANGES`` (see the package's README for their bodies)."""

    def __init__(
        self,
        fleet: Fleet,
        limiter: Limiter,
        cache: AnswerCache,
        operations: Operations,
        clock: Callable[[], float],
    ) -> None:
        self._fleet = fleet
        self._limiter = limiter
        self._configured = limiter.limits
        self._cache = cache
        self._operations = operations
        self._clock = clock
        self._changes: Mapping[str, Callable[[Fields], Awaitable[None]]] = {
            "limits": self._limits,
            "breaker": self._breaker,
            "drain": self._drain,
            "weights": self._weights,
            "batch": self._batch,
            "restart": self._restart,
            "restore": self._restore,
        }

    async def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and JSON; raises ``Refused`` (400, 404, 409, 502)."""
        name = path.removeprefix("/admin/")
        if (method, name) == ("GET", "state"):
            return 200, orjson.dumps(self.state())
        change = self._changes.get(name) if method == "POST" else None
        if change is None:
            raise wrong(f"{method} {path} does not exist; POST /admin/ has {', '.join(self._changes)}", 404)
        fields = _fields(body)
        await change(fields)
        log.warning("admin: %s %s", name, orjson.dumps(fields).decode())
        return 200, orjson.dumps(self.state())

    def state(self) -> Fields:
        """Replicas, limits, what runs and what is kept."""
        now_s = self._clock()
        return {
            "replicas": [self._replica(replica, now_s) for replica in self._fleet.replicas],
            "limits": self._limiter.limits.model_dump(),
            "configured_limits": self._configured.model_dump(),
            "running_by_model": self._limiter.running(),
            "cached_answers": len(self._cache),
        }

    def _replica(self, replica: Replica, now_s: float) -> Fields:
        breaker = replica.breaker
        return {
            "url": replica.name,
            "weight": replica.weight,
            "configured_weight": replica.upstream.weight,
            "draining": replica.draining,
            "drained": replica.draining and not replica.in_flight,
            "healthy": replica.healthy,
            "breaker": breaker.state(now_s),
            "opened_by": breaker.opened,
            "times_opened": breaker.times_opened,
            "in_flight": replica.in_flight,
            "waiting": replica.waiting,
            "gpu_memory_ratio": replica.gpu_memory_ratio,
            "latency_s": round(replica.latency_s, 6),
            "batch_limit": self._operations.batch_limits.get(replica.name),
            "restart": self._operations.restarts.get(replica.name),
        }

    async def _limits(self, fields: Fields) -> None:
        """The limits named change, the others stay; no field at all: as configured."""
        try:
            limits = Limits(**{**self._limiter.limits.model_dump(), **fields}) if fields else self._configured
        except ValidationError as error:
            first = error.errors()[0]
            raise wrong(f"{first['loc'][0]} is {first['input']!r}; {first['msg'].lower()}") from error
        self._limiter.change(limits, self._clock())

    async def _breaker(self, fields: Fields) -> None:
        replica = self._named(fields, {"replica", "state"})
        state = fields.get("state")
        if state not in ("open", "closed"):
            raise wrong(f"state is {state!r}; it must be open or closed")
        if replica.breaker.state(self._clock()) != state or replica.breaker.opened != "operator":
            replica.breaker.force(state)

    async def _drain(self, fields: Fields) -> None:
        """Nothing new goes to the replica while it drains; what it has goes on."""
        replica = self._named(fields, {"replica", "draining"})
        draining = fields.get("draining", True)
        if not isinstance(draining, bool):
            raise wrong(f"draining is {draining!r}; it must be true or false")
        replica.draining = draining

    async def _weights(self, fields: Fields) -> None:
        """All weights of the body at once, or none of them: traffic is switched in one step."""
        chosen: list[tuple[Replica, float]] = []
        for name, weight in fields.items():
            replica = self._find(name)
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < MOST_WEIGHT:
                raise wrong(f"the weight of {name} is {weight!r}; a number from 0 is allowed")
            chosen.append((replica, float(weight)))
        after = {one.name: one.weight for one in self._fleet.replicas} | {one.name: weight for one, weight in chosen}
        if not chosen or not any(after.values()):
            raise wrong("give a weight by replica, and leave one of them more than 0")
        for replica, weight in chosen:
            replica.weight = weight

    async def _batch(self, fields: Fields) -> None:
        """Told to the engine itself, which must have Loadline's ``POST /admin/limits``."""
        replica = self._named(fields, {"replica", "max_num_seqs"})
        most = fields.get("max_num_seqs")
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise wrong(f"max_num_seqs is {most!r}; a whole number from 1 is allowed, or null for the engine's own")
        await self._operations.limit_batch(replica, most)

    async def _restart(self, fields: Fields) -> None:
        """Runs ``--restart-command`` for the replica; while it runs, asking again changes nothing."""
        self._operations.restart(self._named(fields, {"replica"}))

    async def _restore(self, fields: Fields) -> None:
        """Everything that was changed here is as configured again."""
        if fields:
            raise wrong(f"{', '.join(fields)} mean nothing here; send an empty object")
        self._limiter.change(self._configured, self._clock())
        for replica in self._fleet.replicas:
            replica.weight, replica.draining = replica.upstream.weight, False
            if replica.breaker.opened == "operator":
                replica.breaker.force("closed")
            if replica.name in self._operations.batch_limits:
                await self._operations.limit_batch(replica, None)

    def _named(self, fields: Fields, allowed: set[str]) -> Replica:
        unknown = sorted(set(fields) - allowed)
        if unknown:
            raise wrong(f"{unknown[0]} means nothing here; allowed are {', '.join(sorted(allowed))}")
        return self._find(fields.get("replica"))

    def _find(self, name: object) -> Replica:
        replica = self._fleet.find(name)
        if replica is None:
            raise wrong(f"replica is {name!r}; there are {', '.join(one.name for one in self._fleet.replicas)}")
        return replica


def _fields(body: bytes) -> Fields:
    try:
        fields = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise wrong(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise wrong("the body must be a JSON object")
    return fields


def wrong(message: str, status: int = 400) -> Refused:
    """What an operator asked for cannot be done."""
    return Refused(status, message, kind="invalid_request_error", code="admin", reason="admin")
