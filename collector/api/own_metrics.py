"""The collector's own metrics, ``/metrics``."""

from collections.abc import Iterator

from fastapi import APIRouter
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from collector.api.parts import Parts
from collector.forward.metrics import ForwardMetrics


def routes(parts: Parts) -> APIRouter:
    """The one route."""
    router = APIRouter(tags=["status"])
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(OwnMetrics(parts))
    registry.register(ForwardMetrics(parts.forwarding.senders if parts.forwarding else ()))

    @router.get("/metrics")
    async def own_metrics() -> Response:
        """The collector's own metrics."""
        return Response(await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router


class OwnMetrics(Collector):
    """The collector's own metrics, read from its parts when asked for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> Iterator[Metric]:
        """Nothing: families are made when collected."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Every family now."""
        scrapers, counts, receiver = list(self._parts.scrapers()), self._parts.counts, self._parts.receiver
        configuration, pools = self._parts.configuration, list(self._parts.pools.values())
        points, spans = self._parts.otlp.counts["metrics"], self._parts.otlp.counts["traces"]
        logs = self._parts.otlp.counts["logs"]
        stats = self._parts.store.stats()
        counters = {
            "scrapes": ("Scrapes begun by the targets of now.", sum(scraper.scrapes for scraper in scrapers)),
            "scrape_failures": ("Scrapes that failed.", sum(scraper.failures for scraper in scrapers)),
            "scraped_samples": ("Samples stored from scrapes.", sum(scraper.samples for scraper in scrapers)),
            "scraped_bad_lines": ("Lines that cannot be read.", sum(scraper.bad_lines for scraper in scrapers)),
            "written_samples": ("Samples stored from remote write.", receiver.samples),
            "written_exemplars": ("Exemplars stored from remote write.", receiver.exemplars),
            "written_native_histograms": ("Native histograms left out.", receiver.native_histograms),
            "otlp_points": ("Data points stored from OTLP.", points.taken),
            "otlp_points_refused": ("Data points of OTLP that were refused.", points.refused),
            "otlp_exemplars": ("Exemplars stored from OTLP.", self._parts.otlp.exemplars),
            "logs": ("Log records stored.", logs.taken),
            "logs_refused": ("Log records refused.", logs.refused),
            "spans": ("Spans stored.", spans.taken),
            "spans_refused": ("Spans refused.", spans.refused),
            "feedback": ("Feedback stored.", self._parts.feedback.stored),
            "feedback_refused": ("Feedback that cannot be read.", self._parts.feedback.refused),
            "queries": ("Queries begun.", sum(counts.queries.values())),
            "query_failures": ("Queries that failed.", counts.query_failures),
            "query_seconds": ("Time spent on queries.", counts.query_seconds),
            "out_of_order_samples": ("Samples refused as out of order.", stats.out_of_order),
            "duplicate_samples": ("Samples left out as duplicates.", stats.duplicate),
        }
        gauges = {
            "store_series": ("Series in the store.", stats.series),
            "store_bytes": ("Bytes of the store on disk.", stats.bytes_on_disk),
            "store_head_samples": ("Samples in memory.", stats.head_samples),
            "targets": ("Targets that are scraped.", len(scrapers)),
            "targets_dropped": ("Label sets that relabelling dropped.", sum(len(pool.dropped) for pool in pools)),
            "targets_unusable": ("Label sets that make no target.", sum(len(pool.faults) for pool in pools)),
            "config_reload_succeeded": (
                "Whether the configuration file could be used.",
                int(not configuration.failure),
            ),
            "config_loaded_seconds": ("Unix time of the configuration in force.", configuration.loaded_s or 0.0),
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"loadline_collector_{name}", text, value)
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"loadline_collector_{name}", text, value)
