"""Send one request to replicas until one answers, and pass its answer on as it comes.

A request counts as started once the first byte of an answer's body is here: until then it may go to another replica,
afterwards never. What a replica refuses (429, 502, 503) it has not started either.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp

from probe_engine.gateway.errors import Refused
from probe_engine.gateway.metrics import GatewayMetrics
from probe_engine.gateway.replica import Fleet, Replica

NOT_STARTED = frozenset({429, 502, 503})
HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding"}
    | {"upgrade", "host", "content-length", "accept-encoding", "content-encoding"}
)

OWN = HOP_BY_HOP | {"date", "server"}  # the gateway's server writes its own


@dataclass(slots=True)
class Answer:
    """A replica's answer that has started (or its refusal, when no other replica was left). ``close()`` it."""

    replica: Replica
    response: aiohttp.ClientResponse
    first: bytes
    _done: bool = field(default=False, init=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that are the answer's own."""
        return {name.lower(): value for name, value in self.response.headers.items() if name.lower() not in OWN}

    async def rest(self) -> AsyncIterator[bytes]:
        """What follows ``first``, as it comes."""
        async for chunk in self.response.content.iter_any():
            yield chunk

    def close(self) -> None:
        """Let go of the connection; one that is not read to its end is cut, so that the replica stops."""
        if self._done:
            return
        self._done = True
        self.replica.in_flight -= 1
        self.response.close()


class Forwarder:
    """Chooses, sends, retries, and tells breaker, health and metrics how it went. ``clock`` gives seconds."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fleet: Fleet,
        metrics: GatewayMetrics,
        *,
        retries: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._fleet = fleet
        self._metrics = metrics
        self._retries = retries
        self._clock = clock

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str], key: int) -> Answer:
        """The answer of the first replica that gives one; raises ``Refused`` (502, 503, 504) when none does."""
        tried: list[str] = []
        refusal: Answer | None = None
        while len(tried) <= self._retries:
            replica = self._fleet.choose(key, tried, self._clock())
            if replica is None:
                break
            if tried:
                self._metrics.retries.inc()
            tried.append(replica.name)
            answer = await self._attempt(replica, method, path, body, headers)
            if answer is None:
                continue
            if refusal is not None:
                refusal.close()
            if answer.response.status not in NOT_STARTED:
                return answer
            refusal = answer
        if refusal is not None:
            return refusal
        raise self._nobody(tried)

    async def _attempt(
        self, replica: Replica, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer | None:
        """One replica's answer; None when it was lost before it began."""
        began_s = self._clock()
        replica.breaker.sent(began_s)
        replica.in_flight += 1
        self._metrics.replica_requests.labels(replica.name).inc()
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self._session.request(
                method, replica.name + path, data=body or None, headers=headers, allow_redirects=False
            )
            first = await response.content.readany()
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            self._lost(replica, began_s, response)
            replica.unreachable()
            return None
        except TimeoutError as error:
            self._lost(replica, began_s, response)
            message = f"{replica.name} gave no answer in time"
            raise Refused(504, message, kind="server_error", code="upstream_timeout", reason="timeout") from error
        except aiohttp.ClientError:
            self._lost(replica, began_s, response)
            return None
        except BaseException:
            replica.in_flight -= 1
            replica.breaker.unsent(self._clock())
            if response is not None:
                response.close()
            raise
        self._answered(replica, response.status, began_s)
        return Answer(replica, response, first)

    def _answered(self, replica: Replica, status: int, began_s: float) -> None:
        now_s = self._clock()
        latency_s = now_s - began_s
        if status == 429:
            replica.breaker.unsent(now_s)  # busy, not broken
            return
        if status >= 500:
            self._metrics.replica_failures.labels(replica.name).inc()
        else:
            replica.answered(latency_s)
            self._metrics.first_byte.labels(replica.name).observe(latency_s)
        replica.breaker.answered(now_s, well=status < 500, latency_s=latency_s)

    def lost_midway(self, replica: Replica) -> None:
        """``replica`` broke off an answer that had started."""
        self._metrics.replica_failures.labels(replica.name).inc()
        replica.breaker.answered(self._clock(), well=False, latency_s=0.0)

    def _lost(self, replica: Replica, began_s: float, response: aiohttp.ClientResponse | None) -> None:
        now_s = self._clock()
        replica.in_flight -= 1
        if response is not None:
            response.close()
        self._metrics.replica_failures.labels(replica.name).inc()
        replica.breaker.answered(now_s, well=False, latency_s=now_s - began_s)

    def _nobody(self, tried: list[str]) -> Refused:
        if tried:
            message = f"no replica answered; tried {', '.join(tried)}"
            return Refused(
                502, message, kind="server_error", code="upstream_failed", reason="no_answer", retry_after_s=1.0
            )
        retry_s = self._fleet.retry_after_s(self._clock())
        message = "no replica can take requests now"
        return Refused(503, message, kind="server_error", code="no_replica", reason="no_replica", retry_after_s=retry_s)
