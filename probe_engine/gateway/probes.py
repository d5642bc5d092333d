"""Asks every replica, over and over, whether it serves and how many wait."""

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp

from probe_engine.gateway.exposition import Observed, read
from probe_engine.gateway.replica import Fleet, Replica

log = logging.getLogger(__name__)

MAX_PAGE_BYTES = 8 * 1024 * 1024


class Probes:
    """``run()`` until cancelled: each replica's ``/ready`` (or ``/health``) and ``/metrics``, every ``interval_s``."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        fleet: Fleet,
        *,
        interval_s: float,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._fleet = fleet
        self._interval_s = interval_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._clock = clock

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.once()
            await asyncio.sleep(self._interval_s)

    async def once(self) -> None:
        """All replicas, at the same time."""
        await asyncio.gather(*map(self._probe, self._fleet.replicas))

    async def _probe(self, replica: Replica) -> None:
        before = replica.healthy
        replica.probed(await self._serves(replica))
        if replica.healthy != before:
            log.warning("%s is %s", replica.name, "healthy again" if replica.healthy else "unhealthy")
        page = await self._page(f"{replica.name}/metrics")
        gpu_url = replica.upstream.gpu_metrics_url
        gpu = page if gpu_url is None else await self._page(gpu_url)
        replica.waiting, replica.gpu_memory_ratio = page.waiting, gpu.gpu_memory_ratio
        replica.breaker.observed(self._clock(), waiting=replica.waiting, gpu_memory_ratio=replica.gpu_memory_ratio)

    async def _serves(self, replica: Replica) -> bool:
        """What ``/ready`` says, or ``/health`` where an engine has no such page."""
        status = await self._status(f"{replica.name}/ready")
        return (await self._status(f"{replica.name}/health") if status == 404 else status) == 200

    async def _status(self, url: str) -> int | None:
        try:
            async with self._session.get(url, timeout=self._timeout) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError):
            return None

    async def _page(self, url: str) -> Observed:
        try:
            async with self._session.get(url, timeout=self._timeout) as response:
                if response.status != 200:
                    return Observed()
                page = await response.content.read(MAX_PAGE_BYTES)
                return read(page.decode("utf-8", "replace"))
        except (aiohttp.ClientError, TimeoutError):
            return Observed()
