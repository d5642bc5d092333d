"""What the API answers from: the collector's parts, put together once by whoever serves it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import httpx

from collector.ingest.remote_write import RemoteWriteReceiver
from collector.promql import Engine, Limits
from collector.scrape.scraper import Scraper
from collector.store import SpanStore, Store


@dataclass(slots=True)
class Counts:
    """What the API itself counts, for ``/metrics``."""

    queries: dict[str, int] = field(default_factory=lambda: {"instant": 0, "range": 0})
    query_failures: int = 0
    query_seconds: float = 0.0
    spans: int = 0
    spans_refused: int = 0
    points: int = 0
    points_refused: int = 0


@dataclass(frozen=True, slots=True)
class Parts:
    """The collector as the API sees it; ``http`` fetches rules and alerts from ``alerts_url``."""

    store: Store
    spans: SpanStore
    receiver: RemoteWriteReceiver
    http: httpx.AsyncClient
    scrapers: Sequence[Scraper] = ()
    alerts_url: str = "http://127.0.0.1:9193"
    limits: Limits = Limits()
    lookback_ms: int = 300_000
    max_body_bytes: int = 64 << 20
    now_s: Callable[[], float] = time.time
    counts: Counts = field(default_factory=Counts)

    def engine(self, timeout_s: float | None = None) -> Engine:
        """A query engine, with a shorter timeout where the request asks for one."""
        return Engine(self.limits if timeout_s is None else _with_timeout(self.limits, timeout_s), self.lookback_ms)

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return round(self.now_s() * 1000)


def _with_timeout(limits: Limits, timeout_s: float) -> Limits:
    return replace(limits, timeout_s=min(timeout_s, limits.timeout_s))
