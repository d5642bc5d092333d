"""Discovery, relabelling and scraping beside the real Prometheus: same configuration, same targets, same labels."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from collector.api.app import create_app
from collector.api.parts import Parts
from collector.scrape.access import Clients
from collector.scrape.configuration import read_configuration
from collector.scrape.discovery import finder
from collector.scrape.live import LiveConfiguration
from collector.scrape.scraping import Scraping

pytestmark = pytest.mark.peer

PAGE = """\
# TYPE requests_total counter
requests_total{path="/a",code="200",job="own",instance="inner:1"} 1
requests_total{path="/b",code="500"} 2
# TYPE temp gauge
temp{exported_job="older",job="own",Zone="North",instance=""} 3
go_threads 4
long_label{value="0123456789012345678901234567890123456789"} 5
"""

CONFIGURATION = """\
global:
  scrape_interval: 1s
  scrape_timeout: 900ms
  external_labels: {site: lab}
scrape_configs:
  - job_name: plain
    static_configs:
      - targets: ["ADDRESS"]
        labels: {pool: large, Team: Infra-X, empty: ""}
  - job_name: honoured
    honor_labels: true
    params: {module: [http, second], "odd name": ["a b&c"]}
    metrics_path: /probe
    static_configs: [{targets: ["ADDRESS"], labels: {pool: small, Zone: South}}]
  - job_name: rules
    static_configs:
      - targets: ["ADDRESS", "one.example:80", "two.example:80", "three.example:81"]
        labels: {shard: "7", env: Prod-EU, mirror: Prod-EU, label_app: web, label_tier: front, secret: x}
    relabel_configs:
      - {source_labels: [__address__], regex: "two.*", action: drop}
      - {source_labels: [__address__], regex: "(.*):80", target_label: host}
      - source_labels: [__address__]
        regex: "(?P<name>[a-z]+)[.](.*):([0-9]+)"
        target_label: made
        replacement: "${name}-$3-$$1-$4x"
      - {source_labels: [env], action: lowercase, target_label: env_low}
      - {source_labels: [env, shard], separator: "|", action: uppercase, target_label: env_up}
      - {source_labels: [__address__, shard], action: hashmod, modulus: 13, target_label: __tmp_mod}
      - {source_labels: [__tmp_mod], target_label: mod}
      - {action: labelmap, regex: "label_(.+)", replacement: "k_$1"}
      - {action: labelmap, regex: "label_(.+)"}
      - {action: labeldrop, regex: "label_.*|secret"}
      - {source_labels: [env], action: keepequal, target_label: mirror}
      - {source_labels: [shard], action: dropequal, target_label: host}
      - {source_labels: [shard], regex: "[0-9]+", target_label: shard, replacement: ""}
      - {source_labels: [env], regex: "(Prod)-(.*)", target_label: "region_$2", replacement: "$1"}
      - {source_labels: [__address__], regex: "127.*", target_label: __param_target, replacement: "http://x/?a=b"}
      - {source_labels: [__address__], regex: "one.*", target_label: __address__, replacement: "ADDRESS"}
      - {source_labels: [__scheme__, __metrics_path__], separator: "", target_label: where}
      - {source_labels: [env], regex: "prod.*", action: keep}
  - job_name: kept
    static_configs: [{targets: ["ADDRESS", "else.example:1"], labels: {a: x, b: y, keep_me: z}}]
    relabel_configs:
      - {source_labels: [__address__], regex: "127.0.0.1:.*", action: keep}
      - {action: labelkeep, regex: "__.*|job|keep_.*"}
      - {target_label: instance, replacement: renamed}
      - {target_label: job, replacement: job-of-rules}
      - {target_label: __scrape_interval__, replacement: 2s}
    metric_relabel_configs:
      - {source_labels: [__name__], regex: "go_.*|long_.*", action: drop}
      - {source_labels: [code], regex: "(.)..", target_label: class, replacement: "${1}xx"}
      - {action: labeldrop, regex: "path|exported_.*"}
      - {source_labels: [__name__], regex: "requests_(.*)", target_label: __name__, replacement: "http_$1"}
      - {source_labels: [Zone], action: lowercase, target_label: zone}
      - {source_labels: [code], regex: "500", target_label: instance, replacement: broken}
  - job_name: files
    file_sd_configs: [{files: ["targets/*.json", "targets/more.yml"]}]
    relabel_configs:
      - {source_labels: [__meta_filepath], regex: ".*/(.*)", target_label: file}
      - {source_labels: [__meta_kind], target_label: kind}
      - {source_labels: [__meta_path], regex: "(.+)", target_label: __metrics_path__}
  - job_name: pages
    http_sd_configs: [{url: "http://ADDRESS/targets"}]
    relabel_configs: [{source_labels: [__meta_url], regex: ".*(/targets)", target_label: from}]
  - job_name: basic
    basic_auth: {username: u, password: p}
    metrics_path: /basic
    static_configs: [{targets: ["ADDRESS"]}]
  - job_name: bearer
    authorization: {credentials_file: token}
    metrics_path: /bearer
    static_configs: [{targets: ["ADDRESS"]}]
  - job_name: refused
    metrics_path: /bearer
    static_configs: [{targets: ["ADDRESS"]}]
  - job_name: moved
    metrics_path: /moved
    static_configs: [{targets: ["ADDRESS"]}]
  - job_name: stays
    metrics_path: /moved
    follow_redirects: false
    static_configs: [{targets: ["ADDRESS"]}]
  - {job_name: few, sample_limit: 3, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: enough, sample_limit: 5, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: labels, label_limit: 5, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: names, label_name_length_limit: 8, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: values, label_value_length_limit: 30, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: body, body_size_limit: 100B, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: crowd, target_limit: 1, static_configs: [{targets: ["ADDRESS", "ADDRESS", "other.example:1"]}]}
  - {job_name: stamped, metrics_path: /stamped, static_configs: [{targets: ["ADDRESS"]}]}
  - {job_name: unstamped, honor_timestamps: false, metrics_path: /stamped, static_configs: [{targets: ["ADDRESS"]}]}
"""


async def targets(scope: Scope, receive: Receive, send: Send) -> None:
    """Every fake target, and HTTP discovery."""
    request = Request(scope)
    await respond(request)(scope, receive, send)


def respond(request: Request) -> Response:
    path, given = request.url.path, request.headers.get("authorization", "")
    if path == "/targets":
        host = request.headers["host"]
        return JSONResponse([{"targets": [host], "labels": {"rack": "r1"}}, {"targets": []}])
    if path == "/moved":
        return Response(status_code=302, headers={"location": "/metrics"})
    if path == "/basic" and given != "Basic " + base64.b64encode(b"u:p").decode():
        return Response(status_code=401)
    if path == "/bearer" and given != "Bearer s3cret":
        return Response(status_code=401)
    page = PAGE
    if path == "/probe":
        page = f'probe{{query="{request.url.query}"}} 1\n' + PAGE
    elif path == "/stamped":
        page = f"old 1 {round(time.time() * 1000) - 5000}\nnew 2\n"
    return PlainTextResponse(page, media_type="text/plain; version=0.0.4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Callable[[ASGIApp], AbstractContextManager[str]]):
    """A folder with the configuration and what it refers to, beside the running fake targets."""
    made = tmp_path_factory.mktemp("peer")
    with served(targets) as url:
        address = url.removeprefix("http://")
        (made / "targets").mkdir()
        groups = [{"targets": [address], "labels": {"__meta_kind": "json", "rack": "r2"}}]
        (made / "targets" / "a.json").write_text(json.dumps(groups))
        (made / "targets" / "more.yml").write_text(
            f"- targets: ['{address}']\n  labels: {{__meta_kind: yaml, __meta_path: /other}}\n"
        )
        (made / "token").write_text("s3cret\n")
        (made / "prometheus.yml").write_text(CONFIGURATION.replace("ADDRESS", address))
        yield made


@pytest.fixture(scope="module")
def peer(folder: Path, start_prometheus: Callable[..., AbstractContextManager[str]]) -> Iterator[str]:
    with start_prometheus(folder, (folder / "prometheus.yml").read_text()) as url:
        yield url


async def scrape_once(scraping: Scraping, clients: Clients) -> None:
    """Discover, then scrape every target one time."""
    for pool in scraping.pools.values():
        for place, source in enumerate(pool.job.sources):
            found_by = finder(source, clients)
            pool.found(place, await found_by.find())
            await found_by.aclose()
    scrapers = [scraper for pool in scraping.pools.values() for scraper in pool.scrapers.values()]
    now_ms = round(time.time() * 1000)
    await asyncio.gather(*(scraper.scrape(now_ms) for scraper in scrapers))
    for scraper in scrapers:
        await scraper.http.aclose()


@pytest.fixture(scope="module")
def ours(
    folder: Path,
    opened_parts: Callable[[Path], AbstractContextManager[Parts]],
    served: Callable[[ASGIApp], AbstractContextManager[str]],
) -> Iterator[str]:
    async def prepare(parts: Parts) -> Parts:
        clients = Clients()
        scraping = Scraping(parts.store, clients)
        live = LiveConfiguration(lambda: read_configuration(folder / "prometheus.yml"), scraping.apply)
        await live.load()
        await scrape_once(scraping, clients)
        return replace(parts, pools=scraping.pools, configuration=live, now_s=time.time)

    with opened_parts(folder / "ours") as parts, served(create_app(asyncio.run(prepare(parts)))) as url:
        yield url


@pytest.fixture(scope="module")
def both(peer: str, ours: str) -> tuple[httpx.Client, httpx.Client]:
    """Prometheus, once it has scraped everything it can, and ours."""
    theirs, mine = httpx.Client(base_url=peer, trust_env=False), httpx.Client(base_url=ours, trust_env=False)
    with theirs, mine:
        for _ in range(200):
            active = theirs.get("/api/v1/targets").json()["data"]["activeTargets"]
            if len(active) >= 20 and all(one["health"] != "unknown" for one in active):
                break
            time.sleep(0.1)
        yield theirs, mine


def active(http: httpx.Client) -> dict[str, Any]:
    """Targets by what tells them apart; 2.42 changes discovered labels while it relabels, so those are left out."""
    targets = {}
    for one in http.get("/api/v1/targets").json()["data"]["activeTargets"]:
        kept = ["labels", "scrapePool", "scrapeUrl", "health", "scrapeInterval", "scrapeTimeout"]
        if one["scrapePool"] not in ("rules", "kept"):
            kept.append("discoveredLabels")
        targets[json.dumps([one["scrapePool"], one["labels"], one["scrapeUrl"]])] = {key: one[key] for key in kept}
    return targets


def test_targets_have_the_same_labels_addresses_and_health(both: tuple[httpx.Client, httpx.Client]) -> None:
    theirs, mine = map(active, both)
    assert mine == theirs


def test_the_same_label_sets_are_dropped(both: tuple[httpx.Client, httpx.Client]) -> None:
    def dropped(http: httpx.Client) -> list[str]:
        found = http.get("/api/v1/targets?state=dropped").json()["data"]["droppedTargets"]
        return sorted("{__address__} {job}".format(**one["discoveredLabels"]) for one in found)

    theirs, mine = map(dropped, both)
    assert mine == theirs
    assert theirs


def test_the_same_series_come_of_it(both: tuple[httpx.Client, httpx.Client]) -> None:
    def series(http: httpx.Client) -> list[str]:
        found = http.get("/api/v1/series", params={"match[]": '{__name__=~".+"}'}).json()["data"]
        return sorted(json.dumps(labels, sort_keys=True) for labels in found)

    theirs, mine = map(series, both)
    assert mine == theirs


@pytest.mark.parametrize(
    "expr", ["up", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling", "temp", "timestamp(old) > bool 0"]
)
def test_the_same_values_come_of_it(both: tuple[httpx.Client, httpx.Client], expr: str) -> None:
    def values(http: httpx.Client) -> dict[str, str]:
        # Of a page with a label too long, 2.42 counts the samples up to that one.
        asked = {"query": f'({expr}) unless {{job=~"labels|names|values"}}', "time": str(time.time() + 2)}
        found = http.get("/api/v1/query", params=asked).json()["data"]["result"]
        return {json.dumps(one["metric"], sort_keys=True): one["value"][1] for one in found}

    theirs, mine = map(values, both)
    assert mine == theirs
    assert theirs


def test_what_targets_say_of_their_metrics_is_the_same(both: tuple[httpx.Client, httpx.Client]) -> None:
    def told(http: httpx.Client, query: str) -> list[str]:
        data = http.get(f"/api/v1/targets/metadata?{query}").json()["data"]
        return sorted(json.dumps(one, sort_keys=True) for one in data if one["target"]["job"] != "stamped")

    for query in ('match_target={job="plain"}', 'metric=temp&match_target={pool=~".%2b"}'):
        theirs, mine = (told(http, query) for http in both)
        assert mine == theirs
        assert theirs


def test_the_configuration_is_shown_without_its_secrets(both: tuple[httpx.Client, httpx.Client]) -> None:
    texts = [http.get("/api/v1/status/config").json()["data"]["yaml"] for http in both]
    assert all("password: <secret>" in text and "username: u" in text for text in texts)
