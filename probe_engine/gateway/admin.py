"""What an operator sees and changes while the gateway runs. Who may ask is settled before."""

from collections.abc import Callable
from typing import Any

import orjson
from pydantic import ValidationError

from probe_engine.gateway.cache import AnswerCache
from probe_engine.gateway.errors import Refused
from probe_engine.gateway.limits import Limiter
from probe_engine.gateway.replica import Fleet, Replica
from probe_engine.gateway.settings import Limits


class Admin:
    """``GET /admin/state``; ``POST /admin/limits`` with the limits to change; ``POST /admin/breaker`` with
    ``{"replica": URL, "state": "open" | "closed"}``.
    """

    def __init__(self, fleet: Fleet, limiter: Limiter, cache: AnswerCache, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._limiter = limiter
        self._cache = cache
        self._clock = clock

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and JSON; raises ``Refused`` (400, 404)."""
        if (method, path) == ("GET", "/admin/state"):
            return 200, orjson.dumps(self.state())
        if (method, path) == ("POST", "/admin/limits"):
            self._change_limits(_fields(body))
        elif (method, path) == ("POST", "/admin/breaker"):
            self._force_breaker(_fields(body))
        else:
            raise _wrong(f"{method} {path} does not exist", 404)
        return 200, orjson.dumps(self.state())

    def state(self) -> dict[str, Any]:
        """Replicas, limits, what runs and what is kept."""
        now_s = self._clock()
        return {
            "replicas": [self._replica(replica, now_s) for replica in self._fleet.replicas],
            "limits": self._limiter.limits.model_dump(),
            "running_by_model": self._limiter.running(),
            "cached_answers": len(self._cache),
        }

    @staticmethod
    def _replica(replica: Replica, now_s: float) -> dict[str, Any]:
        breaker = replica.breaker
        return {
            "url": replica.name,
            "weight": replica.upstream.weight,
            "healthy": replica.healthy,
            "breaker": breaker.state(now_s),
            "opened_by": breaker.opened,
            "times_opened": breaker.times_opened,
            "in_flight": replica.in_flight,
            "waiting": replica.waiting,
            "gpu_memory_ratio": replica.gpu_memory_ratio,
            "latency_s": round(replica.latency_s, 6),
        }

    def _change_limits(self, fields: dict[str, Any]) -> None:
        try:
            limits = Limits(**{**self._limiter.limits.model_dump(), **fields})
        except ValidationError as error:
            first = error.errors()[0]
            raise _wrong(f"{first['loc'][0]} is {first['input']!r}; {first['msg'].lower()}") from error
        self._limiter.change(limits, self._clock())

    def _force_breaker(self, fields: dict[str, Any]) -> None:
        name, state = fields.get("replica"), fields.get("state")
        replica = next((one for one in self._fleet.replicas if one.name == name), None)
        if replica is None:
            raise _wrong(f"replica is {name!r}; there are {', '.join(one.name for one in self._fleet.replicas)}")
        if state not in ("open", "closed"):
            raise _wrong(f"state is {state!r}; it must be open or closed")
        replica.breaker.force(state)


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _wrong(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise _wrong("the body must be a JSON object")
    return fields


def _wrong(message: str, status: int = 400) -> Refused:
    return Refused(status, message, kind="invalid_request_error", code="admin", reason="admin")
