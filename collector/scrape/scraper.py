"""Scrape one target: fetch its page, parse it, store it, and say when that begins or ceases to work."""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Protocol

import httpx
import numpy as np

from collector.model.errors import CollectorError, StoreError
from collector.model.exemplars import Exemplar
from collector.model.exposition import ACCEPT, Metadata, PageExemplar, Scrape, ScrapeParser
from collector.model.labels import METRIC_NAME, Labels, from_mapping, get
from collector.model.series import Float64Array, Series
from collector.scrape.body import HEADERS, read_body
from collector.scrape.target import ScrapeLimits, Target

REPORTS = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)

CLOSED_BY_TARGET = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""What a request meets on a kept connection that the target gives up at that moment; it is asked once more."""

_log = logging.getLogger(__name__)


class ScrapeSink(Protocol):
    """What a scrape asks of a store."""

    def append_scrape(
        self, group_key: str, layout: tuple[Labels, ...], timestamp_ms: int, values: Float64Array
    ) -> None:
        """Store one scrape; series of the group's last one that are absent become stale. Raises StoreError."""
        ...

    def append_series(self, series: Iterable[Series]) -> object:
        """Store samples that have times of their own. Raises StoreError."""
        ...

    def append_exemplars(self, exemplars: Iterable[Exemplar]) -> int:
        """Store exemplars and return how many were kept. Raises StoreError."""
        ...

    def mark_stale(self, group_key: str, timestamp_ms: int) -> None:
        """Every series of the group's last scrape becomes stale. Raises StoreError."""
        ...

    def set_metadata(self, name: str, type: str, help: str, unit: str) -> None:
        """Remember what a metric family means."""
        ...


class ScrapeFailure(Exception):
    """A target gave no page that can be taken; the message says why."""


class Scraper:
    """Scrapes one target. ``scrape`` must not run twice at once.

    Read by others: ``target``, ``failure`` ("" while all is well), ``last_scrape_s`` (None before the first),
    ``last_duration_s``, ``metadata`` by family, ``http``, ``scrapes``,
    ``failures``, ``samples``, ``bad_lines``.
    """

    def __init__(self, target: Target, store: ScrapeSink, http: httpx.AsyncClient) -> None:
        self.target = target
        self.failure = ""
        self.last_scrape_s: float | None = None
        self.last_duration_s = 0.0
        self.metadata: dict[str, Metadata] = {}
        self.scrapes = self.failures = self.samples = self.bad_lines = 0
        self._store = store
        self.http = http
        self._parser = ScrapeParser(target.finish)
        self._reports = tuple(from_mapping({**dict(target.labels), METRIC_NAME: name}) for name in REPORTS)
        self._columns = _Columns()
        self._layout = self._reports
        self._checked: tuple[Labels, ...] = ()
        self._known: frozenset[Labels] = frozenset()
        self._remark = ""
        self._told = False
        self._exemplars: dict[Labels, PageExemplar] = {}

    async def scrape(self, timestamp_ms: int) -> None:
        """Scrape now and store the page as of ``timestamp_ms``; every failure becomes ``up`` 0 and is said once."""
        started_s = time.perf_counter()
        body, content_type, failure = b"", "", ""
        try:
            async with asyncio.timeout(self.target.timeout_s):
                body, content_type = await self._fetch()
        except TimeoutError:
            failure = f"no answer within {self.target.timeout_s:g} s"
        except (ScrapeFailure, CollectorError) as error:
            failure = str(error)
        await asyncio.to_thread(self._take, body, content_type, failure, timestamp_ms, started_s)

    async def _fetch(self) -> tuple[bytes, str]:
        target = self.target
        if target.refusal:
            raise ScrapeFailure(target.refusal)
        try:
            try:
                return await self._ask()
            except CLOSED_BY_TARGET:
                return await self._ask()
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:  # OSError: TLS refused while reading
            raise ScrapeFailure(f"cannot be reached: {str(error) or type(error).__name__}") from error

    async def _ask(self) -> tuple[bytes, str]:
        target = self.target
        limit = target.limits.body_bytes
        headers = HEADERS | {"Accept": ACCEPT, "X-Prometheus-Scrape-Timeout-Seconds": f"{target.timeout_s:g}"}
        asked = self.http.stream(
            "GET",
            target.url,
            headers=headers | target.access.headers(),
            follow_redirects=target.access.follow_redirects,
            extensions=target.access.extensions(),
        )
        async with asked as response:
            if response.status_code != 200:
                raise ScrapeFailure(f"answered {response.status_code} {response.reason_phrase}")
            body = await read_body(response, limit, f"the page is longer than {limit} bytes (body_size_limit)")
            return body, response.headers.get("content-type", "")

    def _take(self, body: bytes, content_type: str, failure: str, timestamp_ms: int, started_s: float) -> None:
        page = None if failure else self._parser.parse(body, content_type)
        refusal = self._refusal(page) if page is not None else ""
        self.last_duration_s = time.perf_counter() - started_s
        try:
            self._append(page, failure or refusal, timestamp_ms)
        except StoreError as error:
            failure = f"was scraped but not stored: {error}"
        self.last_scrape_s = timestamp_ms / 1000
        self.scrapes += 1
        self.failures += bool(failure or refusal)
        self._tell(failure or refusal, page)

    def _refusal(self, page: Scrape) -> str:
        """Why the page goes beyond a limit; empty where it does not."""
        limits = self.target.limits
        if len(page.layout) > limits.samples:
            kept = len(page.layout)
            return f"the page has {kept} samples after relabelling; at most {limits.samples} are taken (sample_limit)"
        if page.layout is self._checked:
            return ""
        refusal = label_refusal(page.layout, limits)
        if not refusal:
            self._checked = page.layout
        return refusal

    def _append(self, page: Scrape | None, failure: str, timestamp_ms: int) -> None:
        kept = len(page.layout) if page else 0
        scraped = kept + page.dropped if page else 0
        added = 0
        if page is not None and not failure and page.layout is not self._columns.page_layout:
            layout = frozenset(page.layout)
            added = len(layout - self._known)
            self._known = layout
        reported = np.array([not failure, self.last_duration_s, scraped, kept, added], dtype=np.float64)
        if page is None or failure:
            self._columns, self._layout = _Columns(), self._reports
            self._store.append_scrape(self.target.key, self._layout, timestamp_ms, reported)
            return
        stamped = page.timestamps_ms if self.target.honor_timestamps else {}
        columns = self._columns
        if not columns.fit(page.layout, stamped):
            columns = self._columns = _Columns(page.layout, stamped)
            self._layout = columns.layout + self._reports
        values = np.concatenate((columns.take(page.values), reported))
        self._store.append_scrape(self.target.key, self._layout, timestamp_ms, values)
        if stamped:
            self._store.append_series(_stamped(page, stamped))
        if page.exemplars:
            self._append_exemplars(page, timestamp_ms)
        self.samples += kept
        for family in page.metadata:
            self.metadata[family.name] = family
            self._store.set_metadata(family.name, family.type, family.help, family.unit)

    def _append_exemplars(self, page: Scrape, timestamp_ms: int) -> None:
        """Store those that are new: a page shows the same one until there is another."""
        shown = {page.layout[place]: exemplar for place, exemplar in page.exemplars.items()}
        new = [(series, one) for series, one in shown.items() if self._exemplars.get(series) != one]
        self._exemplars = shown
        if new:
            self._store.append_exemplars(
                Exemplar(series, one.labels, one.value, timestamp_ms if one.time_ms is None else one.time_ms)
                for series, one in new
            )

    def _tell(self, failure: str, page: Scrape | None) -> None:
        """Say the begin and the end of trouble; a target that starts when we do has until its second scrape."""
        if failure and not self._told and self.scrapes > 1:
            _log.warning("target %s (job %s): %s", self.target.url, self.target.job, failure)
            self._told = True
        elif self._told and not failure:
            _log.info("target %s (job %s): answers again", self.target.url, self.target.job)
            self._told = False
        self.failure = failure
        if page is None:
            return
        self.bad_lines += page.bad_lines
        remark = f"{page.bad_lines} lines cannot be read, the first: {page.errors[0]}" if page.bad_lines else ""
        if remark and not self._remark:
            _log.warning("target %s (job %s): %s", self.target.url, self.target.job, remark)
        self._remark = remark


class _Columns:
    """The part of a page that shares the scrape's time: all but the samples that bear times of their own."""

    def __init__(self, page_layout: tuple[Labels, ...] = (), stamped: Iterable[int] = ()) -> None:
        self.page_layout = page_layout
        self.layout = page_layout
        self._stamped = frozenset(stamped)
        self._kept: np.ndarray[tuple[int], np.dtype[np.intp]] | None = None
        if self._stamped:
            kept = [place for place in range(len(page_layout)) if place not in self._stamped]
            self.layout = tuple(page_layout[place] for place in kept)
            self._kept = np.array(kept, dtype=np.intp)

    def fit(self, page_layout: tuple[Labels, ...], stamped: dict[int, int]) -> bool:
        """Whether a page has the same series, the same of them with times."""
        return page_layout is self.page_layout and self._stamped == stamped.keys()

    def take(self, values: Float64Array) -> Float64Array:
        """Those of a page's values."""
        return values if self._kept is None else values[self._kept]


def label_refusal(layout: Iterable[Labels], limits: ScrapeLimits) -> str:
    """Which series has more or longer labels than the limits allow, and how; empty where none has."""
    if limits.labels is limits.label_name_length is limits.label_value_length is None:
        return ""
    for labels in layout:
        metric = get(labels, METRIC_NAME)[:50]
        if limits.labels is not None and len(labels) > limits.labels:
            return f"metric {metric} has {len(labels)} labels; at most {limits.labels} are taken (label_limit)"
        for name, value in labels:
            if limits.label_name_length is not None and len(name) > limits.label_name_length:
                allowed = f"at most {limits.label_name_length} are taken (label_name_length_limit)"
                return f"metric {metric}: label name {name[:50]} has {len(name)} characters; {allowed}"
            if limits.label_value_length is not None and len(value) > limits.label_value_length:
                allowed = f"at most {limits.label_value_length} are taken (label_value_length_limit)"
                return f"metric {metric}: label {name[:50]} has {len(value)} characters; {allowed}"
    return ""


def _stamped(page: Scrape, times_ms: dict[int, int]) -> list[Series]:
    return [
        Series(page.layout[place], np.array([time_ms], dtype=np.int64), page.values[place : place + 1])
        for place, time_ms in times_ms.items()
    ]
