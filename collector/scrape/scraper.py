"""Scrape one target: fetch its page, parse it, store it, and say when that begins or ceases to work."""

import asyncio
import logging
import time
from typing import Protocol

import httpx
import numpy as np

from collector.model.errors import StoreError
from collector.model.exposition import ACCEPT, Metadata, Scrape, ScrapeParser
from collector.model.labels import METRIC_NAME, Labels, from_mapping
from collector.model.series import Float64Array
from collector.scrape.target import Target

REPORTS = ("up", "scrape_duration_seconds", "scrape_samples_scraped")

_log = logging.getLogger(__name__)


class ScrapeSink(Protocol):
    """What a scrape asks of a store."""

    def append_scrape(
        self, group_key: str, layout: tuple[Labels, ...], timestamp_ms: int, values: Float64Array
    ) -> None:
        """Store one scrape; series of the group's last one that are absent become stale. Raises StoreError."""
        ...

    def set_metadata(self, name: str, type: str, help: str, unit: str) -> None:
        """Remember what a metric family means."""
        ...


class ScrapeFailure(Exception):
    """A target gave no page that can be taken; the message says why."""


class Scraper:
    """Scrapes one target. ``scrape`` must not run twice at once.

    Read by others: ``target``, ``failure`` ("" while all is well), ``last_scrape_s`` (None before the first),
    ``last_duration_s``, ``scrapes``, ``failures``, ``samples``, ``bad_lines``.
    """

    def __init__(self, target: Target, store: ScrapeSink, http: httpx.AsyncClient) -> None:
        self.target = target
        self.failure = ""
        self.last_scrape_s: float | None = None
        self.last_duration_s = 0.0
        self.scrapes = self.failures = self.samples = self.bad_lines = 0
        self._store = store
        self._http = http
        self._parser = ScrapeParser(target.finish)
        self._reports = tuple(from_mapping({METRIC_NAME: name, **dict(target.labels)}) for name in REPORTS)
        self._page_layout: tuple[Labels, ...] = ()
        self._layout = self._reports
        self._remark = ""

    async def scrape(self, timestamp_ms: int) -> None:
        """Scrape now and store the page as of ``timestamp_ms``; every failure becomes ``up`` 0 and is said once."""
        started_s = time.perf_counter()
        body, content_type, failure = b"", "", ""
        try:
            async with asyncio.timeout(self.target.timeout_s):
                body, content_type = await self._fetch()
        except TimeoutError:
            failure = f"no answer within {self.target.timeout_s:g} s"
        except ScrapeFailure as error:
            failure = str(error)
        await asyncio.to_thread(self._take, body, content_type, failure, timestamp_ms, started_s)

    async def _fetch(self) -> tuple[bytes, str]:
        limit = self.target.max_body_bytes
        headers = {"Accept": ACCEPT, "X-Prometheus-Scrape-Timeout-Seconds": f"{self.target.timeout_s:g}"}
        try:
            async with self._http.stream("GET", self.target.url, headers=headers) as response:
                if not response.is_success:
                    raise ScrapeFailure(f"answered {response.status_code} {response.reason_phrase}")
                body = bytearray()
                async for part in response.aiter_bytes():
                    body += part
                    if len(body) > limit:
                        raise ScrapeFailure(f"the page is longer than {limit} bytes (max_body_bytes)")
                return bytes(body), response.headers.get("content-type", "")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ScrapeFailure(f"cannot be reached: {str(error) or type(error).__name__}") from error

    def _take(self, body: bytes, content_type: str, failure: str, timestamp_ms: int, started_s: float) -> None:
        page = None
        if not failure:
            page = self._parser.parse(body, content_type)
            if len(page.layout) > self.target.max_series:
                failure = (
                    f"the page has {len(page.layout)} series; at most {self.target.max_series} are taken (max_series)"
                )
                page = None
        self.last_duration_s = time.perf_counter() - started_s
        try:
            self._append(page, timestamp_ms)
        except StoreError as error:
            failure = f"was scraped but not stored: {error}"
        self.last_scrape_s = timestamp_ms / 1000
        self.scrapes += 1
        self.failures += bool(failure)
        self._tell(failure, page)

    def _append(self, page: Scrape | None, timestamp_ms: int) -> None:
        reported = np.array([page is not None, self.last_duration_s, len(page.layout) if page else 0], dtype=np.float64)
        if page is None:
            self._page_layout, self._layout = (), self._reports
            self._store.append_scrape(self.target.key, self._layout, timestamp_ms, reported)
            return
        if page.layout is not self._page_layout:
            self._page_layout, self._layout = page.layout, page.layout + self._reports
        values = np.concatenate((page.values, reported))
        self._store.append_scrape(self.target.key, self._layout, timestamp_ms, values)
        self.samples += len(page.layout)
        self._describe(page.metadata)

    def _describe(self, metadata: tuple[Metadata, ...]) -> None:
        for family in metadata:
            self._store.set_metadata(family.name, family.type, family.help, family.unit)

    def _tell(self, failure: str, page: Scrape | None) -> None:
        if failure and not self.failure:
            _log.warning("target %s (job %s): %s", self.target.url, self.target.job, failure)
        elif self.failure and not failure:
            _log.warning("target %s (job %s): answers again", self.target.url, self.target.job)
        self.failure = failure
        if page is None:
            return
        self.bad_lines += page.bad_lines
        remark = f"{page.bad_lines} lines cannot be read, the first: {page.errors[0]}" if page.bad_lines else ""
        if remark and not self._remark:
            _log.warning("target %s (job %s): %s", self.target.url, self.target.job, remark)
        self._remark = remark
