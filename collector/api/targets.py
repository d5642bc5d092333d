"""What is scraped, how that goes, and what each target says of its metrics."""

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape
from itertools import islice
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from collector.api import answers
from collector.api.errors import ApiError
from collector.api.parameters import Parameters, read_parameters
from collector.api.parts import Parts
from collector.model.matchers import all_match
from collector.promql.durations import format_duration
from collector.scrape.scraper import Scraper

NEVER = "0001-01-01T00:00:00Z"
STATES = ("", "any", "active", "dropped")
LINKS = ("/api/v1/targets", "/api/v1/status/config", "/api/v1/status/tsdb", "/metrics", "/openapi.json")


def routes(parts: Parts) -> APIRouter:
    """The routes, answering from ``parts``."""
    router = APIRouter(tags=["targets"])

    @router.get("/api/v1/targets")
    async def targets(request: Request) -> Response:
        """Targets, and label sets that relabelling dropped."""
        parameters = await read_parameters(request)
        state, pool = parameters.text("state").lower(), parameters.text("scrapePool")
        if state not in STATES:
            raise ApiError(400, "bad_data", f'state "{state}"; it may be any, active or dropped')
        active = (
            [_target(one) for one in parts.scrapers() if pool in ("", one.target.job)] if state != "dropped" else []
        )
        pools = [parts.pools[name] for name in sorted(parts.pools) if pool in ("", name)] if state != "active" else []
        dropped = [{"discoveredLabels": dict(labels)} for one in pools for labels in one.dropped]
        return answers.success_json({"activeTargets": active, "droppedTargets": dropped})

    @router.get("/api/v1/scrape_pools")
    async def scrape_pools() -> Response:
        """Names of the jobs that are scraped."""
        return answers.success_json({"scrapePools": sorted(parts.pools)})

    @router.get("/api/v1/targets/metadata")
    async def target_metadata(request: Request) -> Response:
        """Type, help and unit of metric families, by target."""
        parameters = await read_parameters(request)
        limit = parameters.whole("limit", -1)
        return answers.success_json(list(islice(_metadata(parts, parameters), None if limit < 0 else limit)))

    @router.get("/", include_in_schema=False)
    async def landing() -> Response:
        """A page for whoever opens the address in a browser."""
        return HTMLResponse(_landing_page(parts))

    return router


def _metadata(parts: Parts, parameters: Parameters) -> Iterator[dict[str, Any]]:
    wanted = parameters.text("metric")
    several = parameters.selectors("match_target")
    for scraper in parts.scrapers():
        target = scraper.target
        if several and not any(all_match(matchers, target.labels) for matchers in several):
            continue
        for name, family in sorted(scraper.metadata.copy().items()):
            if wanted in ("", name):
                told = {"type": family.type, "help": family.help, "unit": family.unit}
                yield {"target": dict(target.labels)} | ({} if wanted else {"metric": name}) | told


def _health(scraper: Scraper) -> str:
    if scraper.last_scrape_s is None:
        return "unknown"
    return "down" if scraper.failure else "up"


def _target(scraper: Scraper) -> dict[str, Any]:
    target, scraped_s = scraper.target, scraper.last_scrape_s
    return {
        "discoveredLabels": dict(target.discovered),
        "labels": dict(target.labels),
        "scrapePool": target.job,
        "scrapeUrl": target.url,
        "globalUrl": target.url,
        "lastError": scraper.failure,
        "lastScrape": NEVER if scraped_s is None else datetime.fromtimestamp(scraped_s, UTC).isoformat(),
        "lastScrapeDuration": scraper.last_duration_s,
        "health": _health(scraper),
        "scrapeInterval": format_duration(round(target.interval_s * 1000)),
        "scrapeTimeout": format_duration(round(target.timeout_s * 1000)),
    }


def _landing_page(parts: Parts) -> str:
    rows = "".join(
        f"<tr><td>{escape(scraper.target.job)}</td><td>{escape(scraper.target.url)}</td>"
        f"<td>{_health(scraper)}</td><td>{escape(scraper.failure)}</td></tr>"
        for scraper in parts.scrapers()
    )
    table = f"<table><tr><th>job<th>address<th>state<th>error</tr>{rows}</table>" if rows else "<p>No targets.</p>"
    links = "".join(f'<li><a href="{link}">{link}</a></li>' for link in LINKS)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Loadline collector</title>"
        "<style>body{font:15px system-ui;margin:2rem}td,th{text-align:left;padding:.2rem 1rem .2rem 0}</style>"
        f"<h1>Loadline collector</h1><h2>Targets</h2>{table}<h2>More</h2><ul>{links}</ul></html>"
    )
