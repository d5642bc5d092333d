"""The gateway's ASGI application: admit, look up, forward, pass on."""

import asyncio
import hmac
import logging
import shlex
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from hashlib import blake2b
from math import ceil

import aiohttp
import orjson
from prometheus_client.exposition import choose_encoder
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from probe_engine.gateway.admin import Admin
from probe_engine.gateway.asked import Asked, read_asked
from probe_engine.gateway.breaker import BreakerRules
from probe_engine.gateway.cache import AnswerCache
from probe_engine.gateway.errors import Refused
from probe_engine.gateway.forward import HOP_BY_HOP, Answer, Forwarder
from probe_engine.gateway.limits import Limiter
from probe_engine.gateway.metrics import GatewayMetrics
from probe_engine.gateway.operate import Operations
from probe_engine.gateway.probes import Probes
from probe_engine.gateway.replica import Fleet, Replica
from probe_engine.gateway.ring import hash64
from probe_engine.gateway.router import ROUTERS
from probe_engine.gateway.settings import GatewaySettings
from probe_engine.gateway.shared_cache import SharedCache
from probe_engine.gateway.usage import AnswerUsage

log = logging.getLogger(__name__)

GENERATING = frozenset({"/v1/completions", "/v1/chat/completions"})
PASSED = ("/v1/", "/tokenize", "/detokenize", "/metadata")  # metadata: a replay makes prompts of its vocabulary
DONE = b"data: [DONE]\n\n"
CACHED = "x-loadline-cache"
TENANT = "x-loadline-tenant"
JSON = {"content-type": "application/json"}


class Gateway:
    """One gateway. ``start()`` on the event loop that serves it, ``stop()`` at the end.

    tokens: what callers, operators and replicas are shown, by ``auth``, ``admin`` and ``upstream``. ``clock`` gives
    seconds that never go back.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        tokens: Mapping[str, str | None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._tokens = tokens or {}
        self._clock = clock
        rules = BreakerRules(**{name: getattr(settings, f"breaker_{name}") for name in BreakerRules.__slots__})
        replicas = [Replica(upstream, rules, settings.unhealthy_after) for upstream in settings.upstreams]
        self.fleet = Fleet(replicas, ROUTERS[settings.routing](settings.load_bound))
        self.limiter = Limiter(settings.limits, clock())
        self.cache = AnswerCache(settings.cache_entries, settings.cache_ttl_s)
        shared = settings.cache_redis_url
        self._shared = None if shared is None else SharedCache(shared, settings.cache_ttl_s)
        self.metrics = GatewayMetrics(self.fleet, self.cache, clock=clock)
        self._session: aiohttp.ClientSession | None = None
        onward = self._tokens.get("upstream")
        self._operations = Operations(
            lambda: self._session,
            {} if onward is None else {"authorization": f"Bearer {onward}"},
            tuple(shlex.split(settings.restart_command or "")),
        )
        self._admin = Admin(self.fleet, self.limiter, self.cache, self._operations, clock)
        self._forwarder: Forwarder | None = None
        self._open = AsyncExitStack()
        self._probing: asyncio.Task[None] | None = None

    async def start(self, *, probing: bool = True) -> None:
        """Open the connections; with ``probing``, look after the replicas from now on."""
        settings = self.settings
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.answer_timeout_s
        )
        session = aiohttp.ClientSession(
            timeout=timeout, connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar()
        )
        self._session = await self._open.enter_async_context(session)
        self._forwarder = Forwarder(session, self.fleet, self.metrics, retries=settings.retries, clock=self._clock)
        self.probes = Probes(
            session,
            self.fleet,
            interval_s=settings.probe_interval_s,
            timeout_s=settings.probe_timeout_s,
            clock=self._clock,
        )
        if probing:
            self._probing = asyncio.create_task(self.probes.run())

    async def stop(self) -> None:
        """Close the connections."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        await self._operations.stop()
        if self._shared is not None:
            await self._shared.close()
        await self._open.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        try:
            await self._route(scope, receive, send)
        except Refused as refused:
            if scope["path"] in GENERATING:
                self.metrics.requests.labels("failed" if refused.status >= 500 else "refused").inc()
            await self._refuse(send, refused)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method, headers = scope["path"], scope["method"], Headers(scope=scope)
        if path == "/health":
            await _answer(send, 200, b'{"status":"alive"}')
        elif path == "/ready":
            ready = any(one.takes(self._clock()) for one in self.fleet.replicas)
            await _answer(send, 200 if ready else 503, b'{"status":"ready"}' if ready else b'{"status":"no replica"}')
        elif path.startswith("/admin/"):
            self._authorise(headers, self._tokens.get("admin") or self._tokens.get("auth"), needed=True)
            body = await self._body(headers, receive)
            await _answer(send, *(await self._admin.answer(method, path, body)))
        elif path == "/metrics" and method == "GET":
            self._authorise(headers, self._tokens.get("auth"))
            encode, content_type = choose_encoder(headers.get("accept", ""))
            await _answer(send, 200, encode(self.metrics), {"content-type": content_type})
        elif path.startswith(PASSED):
            self._authorise(headers, self._tokens.get("auth"))
            body = await self._body(headers, receive)
            target = path if not scope["query_string"] else f"{path}?{scope['query_string'].decode('latin-1')}"
            generating = path in GENERATING and method == "POST"
            if generating:
                await self._until_gone(self._generate(path, body, headers, send), receive, generating)
            else:
                await self._until_gone(self._pass(method, target, body, headers, send), receive, generating)
        else:
            raise _refused(404, f"{method} {path} does not exist", "not_found")

    async def _until_gone(self, work: Coroutine[None, None, None], receive: Receive, generating: bool) -> None:
        """Run ``work``; cancel it when the client leaves."""
        serving, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((serving, gone), return_when=asyncio.FIRST_COMPLETED)
            if not serving.done():
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
                if generating:
                    self.metrics.requests.labels("client_gone").inc()
                return
            serving.result()
        finally:
            gone.cancel()
            serving.cancel()

    async def _generate(self, path: str, body: bytes, headers: Headers, send: Send) -> None:
        """A completion or chat: cache, limits, replica."""
        asked = read_asked(path, body, self.settings.prefix_characters)
        user = self._user(headers)
        found = await self._kept(asked)
        if found is not None:
            self.metrics.requests.labels("cached").inc()
            await _answer(send, 200, found, JSON | {CACHED: "hit"})
            return
        if self.metrics.in_flight >= self.settings.max_in_flight:
            raise Refused(
                429,
                f"{self.settings.max_in_flight} requests are being served already",
                kind="rate_limit_error",
                code="overloaded",
                reason="max_in_flight",
                retry_after_s=1.0,
            )
        try:
            grant = self.limiter.admit(user, asked.model, asked.tokens, self._clock())
        except Refused as refused:
            refused.headers = self.limiter.headers(user, self._clock())
            raise
        usage = AnswerUsage()
        self.metrics.in_flight += 1
        try:
            answer = await self._sent("POST", path, body, headers, hash64(asked.prefix))
            try:
                await self._deliver(send, asked, answer, usage, self.limiter.headers(user, self._clock()))
            finally:
                answer.close()
        finally:
            used = usage.tokens(asked.prompt_tokens)
            self.metrics.in_flight -= 1
            self.metrics.tokens.inc(used)
            self.limiter.settle(grant, used, self._clock())

    async def _kept(self, asked: Asked) -> bytes | None:
        """The answer that was given before, where it may be given again."""
        if asked.cache_key is None:
            return None
        if self._shared is not None:
            return await self._shared.get(asked.cache_key)
        return self.cache.get(asked.cache_key, self._clock()) if self.cache.entries else None

    async def _keep(self, asked: Asked, whole: bytes) -> None:
        if asked.cache_key is None:
            return
        if self._shared is not None:
            await self._shared.put(asked.cache_key, whole)
        elif self.cache.entries:
            self.cache.put(asked.cache_key, whole, self._clock())

    async def _deliver(
        self, send: Send, asked: Asked, answer: Answer, usage: AnswerUsage, limits: Mapping[str, str]
    ) -> None:
        """Pass ``answer`` on, and count it in ``usage``."""
        headers = {**answer.headers, **limits}
        status = answer.response.status
        if not headers.get("content-type", "").startswith("text/event-stream"):
            whole = await self._whole(answer)
            if status == 200:
                await self._keep(asked, whole)
            usage.take_whole(whole)
            await _answer(send, status, whole, headers)
            self.metrics.requests.labels("served" if status < 500 else "failed").inc()
            return
        await send({"type": "http.response.start", "status": status, "headers": _raw(headers)})
        outcome = "served"
        try:
            usage.feed(answer.first)
            await _write(send, answer.first)
            async for chunk in answer.rest():
                usage.feed(chunk)
                await _write(send, chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome = "failed"
            self._lost_midway(answer.replica, error)
            message = f"the replica broke off: {type(error).__name__}"
            await _write(send, b"data: " + _error(message, "server_error", "upstream_lost") + b"\n\n" + DONE)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        self.metrics.requests.labels(outcome).inc()

    async def _whole(self, answer: Answer) -> bytes:
        try:
            return answer.first + b"".join([chunk async for chunk in answer.rest()])
        except (aiohttp.ClientError, TimeoutError) as error:
            self._lost_midway(answer.replica, error)
            raise _refused(
                502, f"{answer.replica.name} broke off its answer", "upstream_lost", "server_error"
            ) from error

    async def _pass(self, method: str, target: str, body: bytes, headers: Headers, send: Send) -> None:
        """Anything else that a replica answers: models, tokenize."""
        answer = await self._sent(method, target, body, headers, 0)
        try:
            await _answer(send, answer.response.status, await self._whole(answer), answer.headers)
        finally:
            answer.close()

    async def _sent(self, method: str, path: str, body: bytes, headers: Headers, key: int) -> Answer:
        if self._forwarder is None:
            raise _refused(503, "the gateway is starting", "starting", "server_error")
        return await self._forwarder.send(method, path, body, self._onward(headers), key)

    def _onward(self, headers: Headers) -> dict[str, str]:
        """The caller's headers as a replica gets them; the gateway's own token stays here."""
        onward = {name: value for name, value in headers.items() if name not in HOP_BY_HOP}
        if self._tokens.get("auth"):
            onward.pop("authorization", None)
        if self._tokens.get("upstream"):
            onward["authorization"] = f"Bearer {self._tokens['upstream']}"
        onward["accept-encoding"] = "identity"
        return onward

    def _user(self, headers: Headers) -> str:
        """Who is charged: the tenant that is named, else the API key, else everybody together."""
        tenant = headers.get(TENANT)
        if tenant:
            return f"tenant:{tenant[:128]}"
        key = headers.get("authorization")
        return "anonymous" if not key else "key:" + blake2b(key.encode("latin-1"), digest_size=8).hexdigest()

    def _authorise(self, headers: Headers, token: str | None, *, needed: bool = False) -> None:
        if token is None:
            if needed:
                raise _refused(403, "the admin API needs --admin-token-file", "no_admin_token")
            return
        given = headers.get("authorization", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            raise _refused(401, "a valid token is needed: Authorization: Bearer TOKEN", "unauthorized")

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        most = self.settings.max_body_bytes
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            raise _refused(400, "content-length is not a number", "invalid")
        body = bytearray()
        more = True
        while more:
            if int(length) > most or len(body) > most:
                raise _refused(413, f"the body has more than {most} bytes, the limit", "too_large")
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _refused(400, "the client left", "client_gone")
            body += message.get("body", b"")
            more = message.get("more_body", False)
        return bytes(body)

    def _lost_midway(self, replica: Replica, error: Exception) -> None:
        log.warning("%s broke off an answer: %r", replica.name, error)
        if self._forwarder is not None:
            self._forwarder.lost_midway(replica)

    async def _refuse(self, send: Send, refused: Refused) -> None:
        self.metrics.refused.labels(refused.reason).inc()
        headers = JSON | refused.headers
        if refused.retry_after_s is not None:
            headers["retry-after"] = str(max(1, ceil(refused.retry_after_s)))
        if refused.status == 401:
            headers["www-authenticate"] = "Bearer"
        await _answer(send, refused.status, _error(str(refused), refused.kind, refused.code), headers)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _write(send: Send, chunk: bytes) -> None:
    if chunk:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[str, str] = JSON) -> None:
    whole = dict(headers) | {"content-length": str(len(body))}
    await send({"type": "http.response.start", "status": status, "headers": _raw(whole)})
    await send({"type": "http.response.body", "body": body})


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _error(message: str, kind: str, code: str) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def _refused(status: int, message: str, reason: str, kind: str = "invalid_request_error") -> Refused:
    return Refused(status, message, kind=kind, code=reason, reason=reason)
