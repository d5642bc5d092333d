"""One token's way through the house: the same value at every door, from request to panel, alert and plan."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest
import uvicorn

from alerts.group import Group
from alerts.rulefile import read_rule_file
from alerts.writeback import Writeback
from collector.api.app import create_app as create_collector
from collector.api.parts import Parts
from collector.client import Client
from collector.ingest.remote_write import RemoteWriteReceiver
from collector.model.labels import from_mapping
from collector.model.matchers import Matcher
from collector.promql import Engine
from collector.scrape.scraper import Scraper
from collector.scrape.target import Target
from collector.signals import detect, load_dialects
from collector.store import SpanStore, Store
from dashboard.source import Question, Source
from dashboard.view import Window
from planner.replay.watch import observations, read_page
from probe_engine.runtime.build import build_engine
from probe_engine.runtime.generation import Generation, TokenOutput
from probe_engine.sched import RequestTimeline
from probe_engine.server.app import create_app as create_engine
from probe_engine.server.deployment import Deployment, Loaded
from probe_engine.settings import EngineSettings
from probe_engine.telemetry.metrics import EngineMetrics

PROMPT = "A ship's load line"
TOKENS = 5
RULES = """
groups:
  - name: walk
    rules:
      - alert: FirstTokenSeen
        expr: histogram_quantile(0.95, sum by (le) (rate(loadline_time_to_first_token_seconds_bucket[1m]))) > 0
        labels: {severity: page}
        annotations: {summary: "TTFT p95 is {{ $value }}"}
"""


class Timelines:
    """Listens for requests that end and keeps their timelines."""

    def __init__(self) -> None:
        self.kept: list[RequestTimeline] = []

    def started(self, phases_s: dict[str, float]) -> None: ...

    def finished(self, generation: Generation, output: TokenOutput) -> None:
        assert output.request is not None
        self.kept.append(output.request.timeline)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Walk:
    """What stood at the engine's doors, and the store that was scraped into."""

    answer: dict
    timeline: RequestTimeline
    steps: list[dict]
    pages: tuple[bytes, bytes]
    store: Store
    scraped_ms: tuple[int, int]


async def walk(store: Store) -> Walk:
    timelines = Timelines()
    metrics = EngineMetrics("tiny")
    deployment = Deployment("tiny", metrics, version="0", listener=timelines)
    loaded, engine, phases_s = build_engine(EngineSettings(threads=1, num_blocks=64), metrics)
    app = create_engine(deployment)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as http,
    ):
        deployment.serve(Loaded(engine, loaded.tokenizer, "float32", "cpu", phases_s=phases_s))
        target = Target("http://engine/metrics", from_mapping({"job": "engine", "instance": "engine:8000"}))
        scraper = Scraper(target, store, http)
        now_ms = int(time.time() * 1000)
        scraped_ms = (now_ms - 15_000, now_ms)
        before = (await http.get("/metrics")).content
        await scraper.scrape(scraped_ms[0])
        body = {"model": "tiny", "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "ignore_eos": True}
        answer = (await http.post("/v1/completions", json=body)).json()
        await scraper.scrape(scraped_ms[1])
        after = (await http.get("/metrics")).content
        steps = (await http.get("/steps")).json()["steps"]
        return Walk(answer, timelines.kept[0], steps, (before, after), store, scraped_ms)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    with Store.open(tmp_path_factory.mktemp("walk")) as store:
        yield asyncio.run(walk(store))


@pytest.fixture(scope="module")
def client(walked: Walk) -> Iterator[Client]:
    http = httpx.AsyncClient()
    receiver = RemoteWriteReceiver(walked.store)
    parts = Parts(walked.store, SpanStore(walked.store.database), receiver, http)
    with serving(create_collector(parts)) as url:
        with Client(url) as client:
            yield client
        asyncio.run(http.aclose())


@contextmanager
def serving(app) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def stored(walked: Walk, metric: str, at: int = 1) -> float:
    (group,) = walked.store.select([Matcher("__name__", "=", metric)], walked.scraped_ms[at], walked.scraped_ms[at])
    return float(group.values[0, 0])


def test_the_answer_holds_every_token_that_was_asked_for(walked: Walk):
    assert walked.answer["usage"]["prompt_tokens"] == len(PROMPT.encode())
    assert walked.answer["usage"]["completion_tokens"] == TOKENS
    assert walked.answer["choices"][0]["finish_reason"] == "length"


def test_the_scheduler_computed_the_prompt_once_and_then_a_token_a_step(walked: Walk):
    assert sum(step["prefill_tokens"] for step in walked.steps) == len(PROMPT.encode())
    assert sum(step["decode_seqs"] for step in walked.steps) == TOKENS - 1
    assert len(walked.steps) == TOKENS


def test_the_timeline_has_as_many_tokens_in_the_order_of_time(walked: Walk):
    timeline = walked.timeline
    assert timeline.tokens == TOKENS
    assert timeline.ttft_s is not None
    assert timeline.e2e_s is not None
    assert 0 < timeline.ttft_s < timeline.e2e_s


def test_the_histogram_holds_the_timelines_ttft(walked: Walk):
    page = walked.pages[1].decode()
    (total,) = (line for line in page.splitlines() if line.startswith("loadline_time_to_first_token_seconds_sum"))
    assert float(total.split()[-1]) == pytest.approx(walked.timeline.ttft_s, rel=1e-12)


def test_the_scrape_stored_what_the_page_said(walked: Walk):
    assert stored(walked, "loadline_time_to_first_token_seconds_sum") == pytest.approx(
        walked.timeline.ttft_s, rel=1e-12
    )
    assert stored(walked, "loadline_generation_tokens_total", at=0) == 0
    assert stored(walked, "loadline_generation_tokens_total") == TOKENS
    assert stored(walked, "up") == 1


def test_the_write_ahead_log_holds_both_scrapes_before_any_block_does(walked: Walk):
    stats = walked.store.stats()
    assert stats.wal_rows >= 2
    assert stats.tiles == 0


def test_promql_finds_the_tokens_that_were_generated(walked: Walk):
    engine = Engine()
    at_ms = walked.scraped_ms[1]
    last = engine.instant(walked.store, "sum(loadline_generation_tokens_total)", at_ms)
    assert [series.values.tolist() for series in last.series] == [[TOKENS]]
    ratio = "sum(loadline_time_to_first_token_seconds_sum) / sum(loadline_time_to_first_token_seconds_count)"
    (mean,) = engine.instant(walked.store, ratio, at_ms).series
    assert mean.values[0] == pytest.approx(walked.timeline.ttft_s, rel=1e-12)


def test_the_api_answers_the_same_over_http(walked: Walk, client: Client):
    (sample,) = client.query("sum(loadline_time_to_first_token_seconds_sum)", walked.scraped_ms[1] / 1000)
    assert sample.value == pytest.approx(walked.timeline.ttft_s, rel=1e-12)


def test_the_panel_shows_the_ttft_that_promql_gives(walked: Walk, client: Client):
    vocabulary = detect(client.metric_names())
    text = vocabulary.mean("ttft", "1m")
    end_s = walked.scraped_ms[1] // 1000 + 1
    window = Window(start_s=end_s - 60, end_s=end_s, step_s=1, live=False)
    source = Source(Client(client.base_url))
    answer = source.ranges({"ttft": Question(text)}, window)["ttft"]
    source.close()
    (line,) = answer.lines
    assert dict(line.labels)["pool"] == "tiny"
    assert line.values[-1] == pytest.approx(walked.timeline.ttft_s, rel=1e-9)


def test_the_alert_fires_with_the_value_that_promql_gives(walked: Walk, client: Client):
    (group,) = read_rule_file(RULES, "walk.yml").groups
    at_s = walked.scraped_ms[1] / 1000
    rule = Group(group, client, Writeback(client.write), interval_s=15.0)
    rule.evaluate(at_s)
    (alert,) = rule.status.rules[0].active
    (expected,) = client.query(group.rules[0].expr, at_s)
    assert alert.state == "firing"
    assert alert.value == expected.value > 0


def test_the_plan_sees_the_steps_that_the_engine_made(walked: Walk):
    readings = [read_page(page, "text/plain", load_dialects(), at) for at, page in enumerate(walked.pages)]
    (seen,) = observations([reading for reading in readings if reading is not None])
    assert seen.steps == len(walked.steps)
    assert seen.prefill_tokens == len(PROMPT.encode())
    assert seen.decode_seqs == TOKENS - 1
    assert seen.wall_s == pytest.approx(sum(step["wall_s"] for step in walked.steps), rel=1e-9)
