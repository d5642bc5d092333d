"""What the API answers from: the collector's parts, put together once by whoever serves it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx

from collector.api.pace import Pace
from collector.forward.forwarding import Forwarding
from collector.ingest.feedback import FeedbackReceiver, Requests
from collector.ingest.feedback_metrics import FeedbackMetrics
from collector.ingest.otlp_receiver import OtlpReceiver
from collector.ingest.remote_write import RemoteWriteReceiver
from collector.ingest.span_metrics import SpanMetrics
from collector.promql import Limits
from collector.scrape.live import LiveConfiguration
from collector.scrape.pool import Pool
from collector.scrape.scraper import Scraper
from collector.store import LogStore, SpanStore, Store


@dataclass(slots=True)
class Counts:
    """What the API itself counts, for ``/metrics``."""

    queries: dict[str, int] = field(default_factory=lambda: {"instant": 0, "range": 0})
    query_failures: int = 0
    query_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The collector as the API sees it.

    ``http`` fetches rules and alerts from ``alerts_url``; ``pools`` are the scraped jobs by name, ``flags`` are the
    settings as texts; once ``stopping`` is set, running queries end.
    """

    store: Store
    spans: SpanStore
    receiver: RemoteWriteReceiver
    http: httpx.AsyncClient
    logs: LogStore = None  # type: ignore[assignment]  # one over the store where none is given
    feedback: FeedbackReceiver = None  # type: ignore[assignment]  # so too
    otlp: OtlpReceiver = None  # type: ignore[assignment]  # so too
    forwarding: Forwarding | None = None
    span_metrics: SpanMetrics | None = None
    pools: Mapping[str, Pool] = field(default_factory=dict)
    configuration: LiveConfiguration = field(default_factory=LiveConfiguration)
    flags: Mapping[str, str] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    alerts_url: str = "http://127.0.0.1:9193"
    limits: Limits = Limits()
    lookback_ms: int = 300_000
    left_open: bool = True
    delayed_name_removal: bool = False
    max_body_bytes: int = 64 << 20
    now_s: Callable[[], float] = time.time
    counts: Counts = field(default_factory=Counts)
    pace: Pace = field(default_factory=Pace)
    started_s: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        fill = object.__setattr__
        if self.logs is None:
            fill(self, "logs", LogStore(self.store.database))
        if self.feedback is None:
            requests, metrics = Requests(self.spans), FeedbackMetrics(self.store)
            fill(self, "feedback", FeedbackReceiver(requests, self.logs, metrics, self.now_s))
        if self.otlp is None:
            fill(self, "otlp", OtlpReceiver(self.store, self.spans, self.logs, requests=self.feedback.requests))

    def scrapers(self) -> Iterator[Scraper]:
        """Everything that is scraped now, by job and target."""
        for name in sorted(self.pools):
            yield from self.pools[name].scrapers.values()

    def now_ms(self) -> int:
        """Unix milliseconds."""
        return round(self.now_s() * 1000)
