"""All that is scraped: keeps pools, loops and discovery in line with the configuration."""

import asyncio
import logging
import time
from collections.abc import Callable

from collector.model.errors import StoreError
from collector.scrape.access import Clients
from collector.scrape.configuration import Configuration
from collector.scrape.discovery import Finder, finder
from collector.scrape.job import Job
from collector.scrape.loop import every
from collector.scrape.pool import Change, Pool
from collector.scrape.scraper import Scraper, ScrapeSink

_log = logging.getLogger(__name__)


class Scraping:
    """Scrapes what the configuration says, while ``run`` runs. ``pools`` by job name may be read by others.

    A target that is found no more becomes stale at once. One whose settings change goes on under the same key, and its
    series with it.
    """

    def __init__(self, store: ScrapeSink, clients: Clients, now_s: Callable[[], float] = time.time) -> None:
        self.pools: dict[str, Pool] = {}
        self._store = store
        self._clients = clients
        self._now_s = now_s
        self._loops: dict[str, _Loop] = {}
        self._searches: dict[str, _Search] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def apply(self, configuration: Configuration) -> None:
        """Follow a configuration; ConfigError, with nothing changed, where its certificates cannot be used."""
        jobs = {job.name: job for job in configuration.jobs}
        for access in {access for job in jobs.values() for access in job.accesses()}:
            self._clients.check(access)
        for name in self.pools.keys() - jobs.keys():
            self._follow(Change((), tuple(self.pools.pop(name).scrapers.values()), ()))
        for name, job in jobs.items():
            self._configure(job)
            search = self._searches.get(name)
            if search is None or search.sources != job.sources or search.pool is not self.pools[name]:
                self._search(self.pools[name])
        for name in self._searches.keys() - jobs.keys():
            self._searches.pop(name).stop.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Scrape until ``stop`` is set and the running scrapes have ended."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            for pool in self.pools.values():
                self._follow(Change(tuple(pool.scrapers.values()), (), ()))
            for search in self._searches.values():
                self._begin_search(search)
            await stop.wait()
            stops = [loop.stop for loop in self._loops.values()]
            for running in (*stops, *(search.stop for search in self._searches.values())):
                running.set()
            self._tasks = None

    def _configure(self, job: Job) -> None:
        pool = self.pools.get(job.name)
        if pool is None:
            pool = self.pools[job.name] = Pool(job, self._store, self._clients)
            self._follow(pool.look())
        else:
            self._follow(pool.configure(job))
        for fault in pool.faults:
            _log.warning("job %s: %s", job.name, fault)

    def _search(self, pool: Pool) -> None:
        before = self._searches.pop(pool.job.name, None)
        if before is not None:
            before.stop.set()
        if pool.job.sources:
            search = self._searches[pool.job.name] = _Search(pool)
            self._begin_search(search)

    def _begin_search(self, search: "_Search") -> None:
        if self._tasks is not None:
            for place, source in enumerate(search.sources):
                self._tasks.create_task(self._search_one(search, place, finder(source, self._clients)))

    async def _search_one(self, search: "_Search", place: int, found_by: Finder) -> None:
        try:
            await self._look(search, place, found_by)
        finally:
            await found_by.aclose()

    async def _look(self, search: "_Search", place: int, found_by: Finder) -> None:
        told: tuple[str, ...] = ()
        while not search.stop.is_set():
            groups = await found_by.find()
            if search.stop.is_set():
                return
            self._follow(search.pool.found(place, groups))
            if search.pool.faults != told:
                told = search.pool.faults
                for fault in told:
                    _log.warning("job %s: %s", search.pool.job.name, fault)
            await _wait(search.stop, found_by.look_s)

    def _follow(self, change: Change) -> None:
        """End and begin loops; a loop waits for the end of the one before it under the same key."""
        if self._tasks is None:
            return
        for several, is_gone in ((change.gone, True), (change.replaced, False)):
            for scraper in several:
                loop = self._loops.get(scraper.target.key)
                if loop is not None:
                    loop.is_gone = is_gone
                    loop.stop.set()
        for scraper in change.begun:
            key = scraper.target.key
            before = self._loops.get(key)
            loop = self._loops[key] = _Loop(scraper)
            loop.task = self._tasks.create_task(self._scrape(loop, before.task if before else None))

    async def _scrape(self, loop: "_Loop", before: "asyncio.Task[None] | None") -> None:
        if before is not None:
            await before
        scraper, target = loop.scraper, loop.scraper.target
        try:
            await every(target.interval_s, target.offset_s, scraper.scrape, loop.stop, self._now_s)
        finally:
            await scraper.http.aclose()
        if loop.is_gone:
            await asyncio.to_thread(self._end, scraper)
        if self._loops.get(target.key) is loop:
            del self._loops[target.key]

    def _end(self, scraper: Scraper) -> None:
        last_ms = round((scraper.last_scrape_s or 0.0) * 1000)
        try:
            self._store.mark_stale(scraper.target.key, max(round(self._now_s() * 1000), last_ms + 1))
        except StoreError as error:
            _log.warning("target %s (job %s): is gone: %s", scraper.target.url, scraper.target.job, error)


class _Loop:
    """One target's running loop; ``is_gone`` once nothing finds the target any more."""

    def __init__(self, scraper: Scraper) -> None:
        self.scraper = scraper
        self.stop = asyncio.Event()
        self.is_gone = False
        self.task: asyncio.Task[None] | None = None


class _Search:
    """The running discovery of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.sources = pool.job.sources
        self.stop = asyncio.Event()


async def _wait(stop: asyncio.Event, delay_s: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), delay_s)
    except TimeoutError:
        return
