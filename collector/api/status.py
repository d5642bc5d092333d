"""What the collector says of itself: targets, build, health, metrics, landing page; and what alerts says of rules."""

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from importlib import metadata
from typing import Any

import httpx
import orjson
from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from collector.api import answers
from collector.api.parts import Parts
from collector.scrape.scraper import Scraper

NEVER = "0001-01-01T00:00:00Z"
PASSED_ON = {"rules": b'{"groups":[]}', "alerts": b'{"alerts":[]}'}
"""What is passed on to the alerts process, and the answer where that cannot be reached."""

LINKS = ("/api/v1/targets", "/api/v1/status/buildinfo", "/metrics", "/openapi.json")


def routes(parts: Parts) -> APIRouter:
    """The routes, answering from ``parts``."""
    router = APIRouter(tags=["status"])
    registry = CollectorRegistry()
    registry.register(OwnMetrics(parts))

    @router.get("/-/healthy")
    async def healthy() -> Response:
        """The process lives."""
        return PlainTextResponse("Loadline collector is healthy.\n")

    @router.get("/-/ready")
    async def ready() -> Response:
        """The store is open and queries are answered."""
        return PlainTextResponse("Loadline collector is ready.\n")

    @router.get("/metrics")
    async def own_metrics() -> Response:
        """The collector's own metrics."""
        return Response(await run_in_threadpool(generate_latest, registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    @router.get("/api/v1/targets")
    async def targets(request: Request) -> Response:
        """What is scraped and how that goes."""
        state = request.query_params.get("state", "any")
        active = [_target(scraper) for scraper in parts.scrapers] if state in ("any", "active") else []
        return answers.success_json({"activeTargets": active, "droppedTargets": []})

    @router.get("/api/v1/status/buildinfo")
    async def buildinfo() -> Response:
        """Which program and version answers."""
        version = {"application": "Loadline", "version": metadata.version("loadline")}
        return answers.success_json(version | dict.fromkeys(("revision", "branch", "buildUser", "buildDate"), ""))

    for name in PASSED_ON:
        router.add_api_route(f"/api/v1/{name}", _passed_on(parts, name), methods=["GET"], operation_id=name)

    @router.get("/", include_in_schema=False)
    async def landing() -> Response:
        """A page for whoever opens the address in a browser."""
        return HTMLResponse(_landing_page(parts))

    return router


def _passed_on(parts: Parts, name: str) -> Any:
    async def pass_on(request: Request) -> Response:
        """What the alerts process answers."""
        url = f"{parts.alerts_url.rstrip('/')}/api/v1/{name}"
        try:
            answer = await parts.http.get(url, params=str(request.query_params), timeout=5.0)
            orjson.loads(answer.content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            return answers.success(PASSED_ON[name], [f"alerts at {url} cannot be reached: {reason}"])
        except orjson.JSONDecodeError:
            return answers.success(PASSED_ON[name], [f"alerts at {url} answers {answer.status_code} and no JSON"])
        return Response(answer.content, status_code=answer.status_code, media_type=answers.MEDIA_TYPE)

    return pass_on


def _health(scraper: Scraper) -> str:
    if scraper.last_scrape_s is None:
        return "unknown"
    return "down" if scraper.failure else "up"


def _target(scraper: Scraper) -> dict[str, Any]:
    target, scraped_s = scraper.target, scraper.last_scrape_s
    return {
        "discoveredLabels": {"__address__": dict(target.labels)["instance"], "job": target.job},
        "labels": dict(target.labels),
        "scrapePool": target.job,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": scraper.failure,
        "lastScrape": NEVER if scraped_s is None else datetime.fromtimestamp(scraped_s, UTC).isoformat(),
        "lastScrapeDuration": scraper.last_duration_s,
        "health": _health(scraper),
        "scrapeInterval": f"{target.interval_s:g}s",
        "scrapeTimeout": f"{target.timeout_s:g}s",
    }


class OwnMetrics(Collector):
    """The collector's own metrics, read from its parts when asked for."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def describe(self) -> Iterator[Metric]:
        """Nothing: families are made when collected."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Every family now."""
        scrapers, counts, receiver = self._parts.scrapers, self._parts.counts, self._parts.receiver
        stats = self._parts.store.stats()
        counters = {
            "scrapes": ("Scrapes begun.", sum(scraper.scrapes for scraper in scrapers)),
            "scrape_failures": ("Scrapes that failed.", sum(scraper.failures for scraper in scrapers)),
            "scraped_samples": ("Samples stored from scrapes.", sum(scraper.samples for scraper in scrapers)),
            "scraped_bad_lines": ("Lines that cannot be read.", sum(scraper.bad_lines for scraper in scrapers)),
            "written_samples": ("Samples stored from remote write.", receiver.samples),
            "written_native_histograms": ("Native histograms left out.", receiver.native_histograms),
            "otlp_points": ("Data points stored from OTLP.", counts.points),
            "otlp_points_refused": ("Data points of OTLP that were refused.", counts.points_refused),
            "spans": ("Spans stored.", counts.spans),
            "spans_refused": ("Spans refused.", counts.spans_refused),
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
        }
        for name, (text, value) in counters.items():
            yield CounterMetricFamily(f"loadline_collector_{name}", text, value)
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"loadline_collector_{name}", text, value)


def _landing_page(parts: Parts) -> str:
    rows = "".join(
        f"<tr><td>{escape(scraper.target.job)}</td><td>{escape(scraper.target.url)}</td>"
        f"<td>{_health(scraper)}</td><td>{escape(scraper.failure)}</td></tr>"
        for scraper in parts.scrapers
    )
    table = f"<table><tr><th>job<th>address<th>state<th>error</tr>{rows}</table>" if rows else "<p>No targets.</p>"
    links = "".join(f'<li><a href="{link}">{link}</a></li>' for link in LINKS)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Loadline collector</title>"
        "<style>body{font:15px system-ui;margin:2rem}td,th{text-align:left;padding:.2rem 1rem .2rem 0}</style>"
        f"<h1>Loadline collector</h1><h2>Targets</h2>{table}<h2>More</h2><ul>{links}</ul></html>"
    )
