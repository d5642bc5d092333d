"""Answers kept in Redis, so that several gateways share them and a restart keeps them.

Redis itself lets answers go: each after its time to live, and the least recently used first where the server has
``maxmemory-policy allkeys-lru``. A Redis that is gone or slow costs a miss and never an answer.
"""

import logging
from typing import Any

from probe_engine.gateway.errors import SettingsError

log = logging.getLogger(__name__)

PREFIX = b"loadline:answer:"
ANSWER_LIMIT_S = 0.25  # what a look-up may take: more would slow down what it is to speed up


class SharedCache:
    """Like ``AnswerCache``, over a network. ``url`` as in ``redis://127.0.0.1:6379/0``; raises ``SettingsError``."""

    def __init__(self, url: str, ttl_s: float) -> None:
        try:
            from redis import RedisError
            from redis.asyncio import Redis
        except ImportError as error:
            raise SettingsError("cache_redis_url needs the package redis: pip install 'loadline[cache]'") from error
        try:
            self._redis: Any = Redis.from_url(
                url, socket_timeout=ANSWER_LIMIT_S, socket_connect_timeout=ANSWER_LIMIT_S, retry=None
            )
        except ValueError as error:
            raise SettingsError(f"cache_redis_url is {url!r}; it looks like redis://127.0.0.1:6379/0") from error
        self._lost = (RedisError, OSError, TimeoutError)
        self._ttl_ms = max(1, round(ttl_s * 1000))
        self._well = True

    async def get(self, key: bytes) -> bytes | None:
        """The body under ``key``, if it is there."""
        try:
            found: bytes | None = await self._redis.get(PREFIX + key)
        except self._lost as error:
            self._tell(error)
            return None
        self._tell(None)
        return found

    async def put(self, key: bytes, body: bytes) -> None:
        """Keep ``body`` for the time to live."""
        try:
            await self._redis.set(PREFIX + key, body, px=self._ttl_ms)
        except self._lost as error:
            self._tell(error)
        else:
            self._tell(None)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose()

    def _tell(self, error: Exception | None) -> None:
        """Log when Redis is lost and when it is back, once each."""
        if self._well and error is not None:
            log.warning("the answer cache in Redis is lost; answers are computed: %s", error)
        elif not self._well and error is None:
            log.warning("the answer cache in Redis is back")
        self._well = error is None
