"""A fleet's history, made up but consistent, behind a Prometheus API that our own PromQL engine answers."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from dash import Dash
from waitress import create_server

from collector.client import Client
from collector.model.labels import Labels, from_mapping
from collector.model.matchers import Matcher, all_match
from collector.model.series import STALE_NAN, Series, SeriesGroup
from collector.model.span_json import span_to_json
from collector.model.spans import Span
from collector.promql import Engine
from collector.signals import load_dialects
from dashboard.app import create_app
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.source import Source, Warnings
from planner.room.headroom import Forecast, PoolHeadroom
from planner.slo import Slo

NOW_S = 1_795_210_200
"""21:30 UTC."""
STEP_S = 5
MINUTES = 66
PROMPT_TOKENS = 700.0
SIGMAS = {
    "ttft": 0.5, "itl": 0.12, "tpot": 0.1, "e2e_latency": 0.35, "queue_time": 0.6, "prefill_time": 0.4,
    "decode_time": 0.35,
}  # fmt: skip
DEPLOY_AT_MIN, TROUBLE_AT_MIN = -12.7, -11.5


@dataclass(frozen=True, slots=True)
class Pool:
    """A model and how it does: replicas, requests/s, median latencies, and whether it is the one in trouble."""

    name: str
    replicas: int
    rate: float
    ttft_s: float
    itl_s: float
    tokens: int
    kv: float
    trouble: bool = False


POOLS = (
    Pool("llama-70b", 8, 96, 0.20, 0.0165, 200, 0.66, trouble=True),
    Pool("mixtral-8x22b", 3, 40, 0.17, 0.022, 240, 0.6),
    Pool("qwen-32b", 5, 64, 0.14, 0.017, 210, 0.52),
)
CALM = (Pool("llama-8b", 1, 12, 0.08, 0.011, 120, 0.35),)


@dataclass
class Fleet:
    """Raw series of ``pools`` under one dialect's names, scraped every 5 s until ``now_s``; also a Querier.

    ``firing`` are alert names that fire since the trouble began; ``down`` are instances whose scrapes fail at the end;
    ``lame`` is one whose queue is long.
    """

    pools: Sequence[Pool] = POOLS
    engine: str = "loadline"
    now_s: int = NOW_S
    firing: Sequence[str] = ()
    down: Sequence[str] = ()
    lame: str = ""
    groups: list[SeriesGroup] = field(init=False)

    def __post_init__(self) -> None:
        self.times_s = self.now_s - STEP_S * np.arange(MINUTES * 60 // STEP_S, -1, -1, dtype=np.int64)
        dialects = {dialect.engine: dialect for dialect in load_dialects()}
        self.dialect = dialects[self.engine]
        seed = np.random.default_rng(7)
        self.groups = [
            self._instance(pool, f"{pool.name}-{replica}:8000", seed)
            for pool in self.pools
            for replica in range(pool.replicas)
        ]
        if self.firing:
            self.groups.append(self._alerts())

    def select(self, matchers: Sequence[Matcher], start_ms: int, end_ms: int) -> list[SeriesGroup]:
        """Querier's promise."""
        found = []
        for group in self.groups:
            columns = [index for index, labels in enumerate(group.labels) if all_match(matchers, labels)]
            if columns:
                rows = (group.timestamps_ms >= start_ms) & (group.timestamps_ms <= end_ms)
                labels = tuple(group.labels[index] for index in columns)
                found.append(SeriesGroup(labels, group.timestamps_ms[rows], group.values[rows][:, columns]))
        return found

    def names(self) -> list[str]:
        """Metric names held."""
        return sorted({dict(labels)["__name__"] for group in self.groups for labels in group.labels})

    def label_values(self, name: str) -> list[str]:
        """Values of one label."""
        held = (dict(labels) for group in self.groups for labels in group.labels)
        return sorted({labels[name] for labels in held if name in labels})

    def targets(self) -> list[dict[str, object]]:
        """As /api/v1/targets lists them."""
        instances = [f"{pool.name}-{replica}:8000" for pool in self.pools for replica in range(pool.replicas)]
        return [
            {
                "scrapeUrl": f"http://{one}/metrics", "labels": {"job": "engines", "instance": one},
                "health": "down" if one in self.down else "up",
                "lastError": "connection refused" if one in self.down else "",
                "lastScrape": "2026-11-20T21:30:00Z", "lastScrapeDuration": 0.004,
            }
            for one in instances
        ]  # fmt: skip

    def _alerts(self) -> SeriesGroup:
        labels = tuple(
            from_mapping({"__name__": "ALERTS", "alertname": name, "alertstate": "firing", "pool": self.pools[0].name})
            for name in self.firing
        )
        began = self.now_s + TROUBLE_AT_MIN * 60 + 60
        firing = np.where(self.times_s >= began, 1.0, STALE_NAN)
        return SeriesGroup(labels, self.times_s * 1000, np.repeat(firing[:, None], len(labels), axis=1))

    def _instance(self, pool: Pool, instance: str, seed: np.random.Generator) -> SeriesGroup:
        where = {"job": "engines", "instance": instance, self.dialect.labels["pool"]: pool.name}
        columns: list[tuple[Labels, np.ndarray]] = []

        def add(name: str, values: np.ndarray, **more: str) -> None:
            columns.append((from_mapping({"__name__": name, **where, **more}), values))

        trouble = self._trouble() if pool.trouble else np.zeros(len(self.times_s))
        count = len(self.times_s)
        wobble = 1 + 0.05 * _noise(seed, count) + 0.04 * np.sin((self.times_s - self.now_s) / 1400.0)
        usual = pool.rate / pool.replicas
        rate = usual * wobble * (1 + 0.21 * trouble)
        prompt = PROMPT_TOKENS * (1 + 0.3 * seed.uniform(-1, 1, count))
        prefill_share = 0.2 * rate * prompt / (usual * PROMPT_TOKENS)
        itl = 0.4 * pool.itl_s / (1 - prefill_share - 0.4 * rate / usual)
        ttft = pool.ttft_s * wobble * (1 + 1.6 * trouble) * (3 if instance == self.lame else 1)
        queue, prefill, decode = 0.25 * ttft * (1 + 1.2 * trouble), 0.7 * ttft, itl * pool.tokens
        latencies = {
            "ttft": (ttft, rate), "itl": (itl, rate * pool.tokens), "tpot": (itl, rate),
            "e2e_latency": (ttft + decode, rate), "queue_time": (queue, rate), "prefill_time": (prefill, rate),
            "decode_time": (decode, rate),
        }  # fmt: skip
        for signal, (median_s, per_s) in latencies.items():
            self._histogram(signal, median_s, per_s, SIGMAS[signal], add)
        self._histogram("prompt_length", prompt, rate, 0.5, add)
        self._histogram("output_length", np.full(count, float(pool.tokens)), rate, 0.4, add)
        self._steps(rate, prompt, itl, pool.tokens, add)
        self._requests(np.cumsum(rate * STEP_S), rate * STEP_S * 0.0004 * (1 + 0.8 * trouble), add)
        kv = np.minimum(0.995, pool.kv * wobble + 0.27 * trouble)
        add(self._metric("kv_usage"), kv)
        add(self._metric("running_requests"), np.round(rate * (ttft + decode)))
        jitter = seed.uniform(0.4, 1.6, count)
        add(self._metric("waiting_requests"), np.round((0.3 + 34 / pool.replicas * trouble) * jitter))
        add(self._metric("preemptions"), np.cumsum((0.02 + 0.9 * trouble) / pool.replicas * STEP_S * jitter))
        up = np.ones(len(self.times_s))
        if instance in self.down:
            up[-60:] = 0
        for name, values in [("up", up), ("process_start_time_seconds", np.full(len(up), self.now_s - 400_000.0))]:
            columns.append((from_mapping({"__name__": name, "job": "engines", "instance": instance}), values))
        self._info(pool, add)
        return SeriesGroup(
            tuple(labels for labels, _ in columns), self.times_s * 1000, np.stack([row for _, row in columns], axis=1)
        )

    def _trouble(self) -> np.ndarray:
        minutes = (self.times_s - self.now_s) / 60
        return 1 / (1 + np.exp(-(minutes - TROUBLE_AT_MIN) * 2.2))

    def _metric(self, signal: str) -> str:
        return self.dialect.signals[signal][0].metric

    def _histogram(self, signal: str, median_s: np.ndarray, per_s: np.ndarray, sigma: float, add) -> None:
        candidate = self.dialect.signals[signal][0]
        bounds = candidate.buckets or FALLBACK_BOUNDS
        seen = per_s * STEP_S
        for bound in bounds:
            depth = np.log(bound / median_s) / (sigma * math.sqrt(2))
            share = 0.5 * (1 + np.vectorize(math.erf)(depth))
            add(candidate.metric + "_bucket", np.cumsum(seen * share), le=f"{bound:g}")
        add(candidate.metric + "_bucket", np.cumsum(seen), le="+Inf")
        add(candidate.metric + "_count", np.cumsum(seen))
        add(candidate.metric + "_sum", np.cumsum(seen * median_s * math.exp(sigma**2 / 2)))

    def _steps(self, rate: np.ndarray, prompt: np.ndarray, step_s: np.ndarray, tokens: int, add) -> None:
        steps = STEP_S / step_s
        decoded, taken_in = rate * tokens * STEP_S, rate * prompt * STEP_S
        add(self._metric("generated_tokens"), np.cumsum(decoded))
        self._histogram("iteration_tokens", (decoded + taken_in) / steps, steps / STEP_S, 0.3, add)
        if self.engine != "loadline":
            return
        self._histogram("step_time", step_s, steps / STEP_S, 0.01, add)
        add(self._metric("step_prefill_tokens"), np.cumsum(taken_in))
        add(self._metric("step_prefill_attention"), np.cumsum(taken_in * prompt / 2))
        add(self._metric("step_decode_sequences"), np.cumsum(decoded))
        add(self._metric("step_decode_kv_tokens"), np.cumsum(decoded * (prompt + tokens / 2)))
        add("loadline_kv_cache_blocks", np.full(len(rate), 8000.0))
        add("loadline_kv_cache_block_size_tokens", np.full(len(rate), 16.0))

    def _requests(self, ended: np.ndarray, failed: np.ndarray, add) -> None:
        candidate = self.dialect.signals["requests"][0]
        add(candidate.metric, ended, finished_reason="stop")
        errors = self.dialect.signals["errors"][0]
        if errors.where:
            add(errors.metric, np.cumsum(failed), finished_reason="error")
        else:
            add(errors.metric, np.cumsum(failed), reason="engine")

    def _info(self, pool: Pool, add) -> None:
        if "engine_info" not in self.dialect.signals or self.engine != "loadline":
            return
        deploy = self.times_s >= self.now_s + DEPLOY_AT_MIN * 60
        name = self._metric("engine_info")
        old = np.where(deploy, STALE_NAN, 1.0) if pool.trouble else np.ones(len(self.times_s))
        limits = {"max_num_batched_tokens": "2048", "max_num_seqs": "256", "max_model_len": "8192"}
        add(name, old, version="v0.14.1", device="cuda", **limits)
        if pool.trouble:
            add(name, np.where(deploy, 1.0, STALE_NAN), version="v0.14.2", device="cuda", **limits)


FALLBACK_BOUNDS = tuple(round(0.001 * 1.5**k, 6) for k in range(48))


def _noise(seed: np.random.Generator, count: int) -> np.ndarray:
    raw = seed.uniform(-1, 1, count)
    smooth = np.empty(count)
    state = 0.0
    for index, value in enumerate(raw):
        state = 0.9 * state + 0.22 * value
        smooth[index] = state
    return smooth


class FakePrometheus(httpx.BaseTransport):
    """Prometheus's HTTP API over a Querier: queries are evaluated for real. ``alerts`` are listed as they are given;
    None stands for a server without that endpoint. ``dead`` refuses every connection."""

    def __init__(
        self, fleet: Fleet, alerts: list[dict[str, object]] | None = None, spans: list[Span] | None = None
    ) -> None:
        self.spans = spans
        self.fleet = fleet
        self.alerts = alerts
        self.dead = False
        self.warnings: list[str] = []
        self.asked: list[str] = []
        self._engine = Engine()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if self.dead:
            raise httpx.ConnectError("connection refused", request=request)
        form = dict(httpx.QueryParams(request.content.decode())) if request.method == "POST" else {}
        parameters = {**dict(request.url.params), **form}
        return self._answer(request.url.path, parameters)

    def _answer(self, path: str, asked: Mapping[str, str]) -> httpx.Response:
        if path == "/api/v1/query":
            self.asked.append(asked["query"])
            at_ms = round(float(asked.get("time", self.fleet.now_s)) * 1000)
            result = self._engine.instant(self.fleet, asked["query"], at_ms)
            return _ok({"resultType": "vector", "result": [_vector(one) for one in result.series]})
        if path == "/api/v1/query_range":
            self.asked.append(asked["query"])
            times = [round(float(asked[name]) * 1000) for name in ("start", "end", "step")]
            result = self._engine.range(self.fleet, asked["query"], *times)
            return _ok({"resultType": "matrix", "result": [_matrix(one) for one in result.series]})
        if path == "/api/v1/label/__name__/values":
            return _ok(self.fleet.names())
        if path.startswith("/api/v1/label/"):
            return _ok(self.fleet.label_values(path.split("/")[4]))
        if path == "/api/v1/targets":
            return _ok({"activeTargets": self.fleet.targets()})
        if path == "/api/v1/alerts" and self.alerts is not None:
            return _ok({"alerts": self.alerts}, *self.warnings)
        if path == "/api/v1/spans" and self.spans is not None:
            return _ok([span_to_json(span) for span in self.spans if _fits(span, asked)])
        if path == "/api/v1/series":
            return _ok([dict(labels) for group in self.fleet.groups for labels in group.labels])
        return httpx.Response(404, json={"status": "error", "errorType": "not_found", "error": f"no {path}"})


def _fits(span: Span, asked: Mapping[str, str]) -> bool:
    wanted = {name.removeprefix("attr."): value for name, value in asked.items() if name.startswith("attr.")}
    return asked.get("trace_id", span.trace_id) == span.trace_id and all(
        span.attributes.get(name) == value for name, value in wanted.items()
    )


def _ok(data: object, *warnings: str) -> httpx.Response:
    body = {"status": "success", "data": data} | ({"warnings": warnings} if warnings else {})
    return httpx.Response(200, content=orjson.dumps(body))


def _number(value: float) -> str:
    return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN" if math.isnan(value) else repr(float(value)))


def _vector(one: Series) -> dict[str, object]:
    return {"metric": dict(one.labels), "value": [float(one.timestamps_ms[0]) / 1000, _number(one.values[0])]}


def _matrix(one: Series) -> dict[str, object]:
    pairs = zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True)
    return {"metric": dict(one.labels), "values": [[time / 1000, _number(value)] for time, value in pairs]}


def request_spans(seed: int = 4, count: int = 30) -> list[Span]:
    """Requests of the troubled pool in the last minutes: server span, queue, prefill, decode with its token gaps."""
    draw = np.random.default_rng(seed)
    found: list[Span] = []
    for index in range(count):
        queue, prefill = max(0.004, draw.normal(0.5, 0.25)), max(0.05, draw.normal(0.45, 0.12))
        gaps = draw.uniform(0.03, 0.045, int(draw.integers(90, 400)))
        preempted = bool(draw.random() < 0.3)
        if preempted:
            gaps[len(gaps) // 3] += 0.42
        name = f"{draw.integers(2**60, 2**63):016x}{draw.integers(2**60, 2**63):016x}"
        found += _trace(name, NOW_S - 5 * index - 30, queue, prefill, gaps, preempted)
    return found


def _trace(trace_id: str, at_s: float, queue: float, prefill: float, gaps: np.ndarray, preempted: bool) -> list[Span]:
    decode, ttft = float(gaps.sum()), queue + prefill
    told = {
        "gen_ai.request.model": "llama-70b", "gen_ai.latency.time_to_first_token": ttft,
        "gen_ai.latency.time_in_queue": queue, "gen_ai.latency.time_in_model_prefill": prefill,
        "gen_ai.latency.time_in_model_decode": decode, "gen_ai.usage.input_tokens": 754,
        "gen_ai.usage.output_tokens": len(gaps) + 1, "loadline.preemptions": int(preempted),
    }  # fmt: skip
    ticks = {"loadline.token_gaps_ms": [round(float(gap) * 1000, 3) for gap in gaps]}
    parts = [
        ("chat llama-70b", 0.0, ttft + decode, told), ("queue", 0.0, queue, {}), ("prefill", queue, ttft, {}),
        ("decode", ttft, ttft + decode, ticks),
    ]  # fmt: skip
    return [
        Span(
            trace_id, f"{number:016x}", f"{0:016x}" if number else None, name, "loadline-engine",
            "server" if number == 0 else "internal", round((at_s + start) * 1e9), round((at_s + end) * 1e9),
            attributes=attributes,
        )
        for number, (name, start, end, attributes) in enumerate(parts)
    ]  # fmt: skip


def _ahead(start: float, end: float) -> Forecast:
    times = NOW_S + 60.0 * np.arange(1, 61)
    median = np.linspace(start, end, 60)
    return Forecast(times, median, median * 0.96, median * 1.06, 0.8, 0.8, 6)


def _pool(
    name: str, replicas: int, load: float, line: float, n2: float, bound_by: str, ahead: Forecast,
    crosses_at_s: float | None = None,
) -> PoolHeadroom:  # fmt: skip
    return PoolHeadroom(
        name, replicas, load, load_line_req_per_s=line, n2_line_req_per_s=n2, headroom_ratio=1 - load / line,
        bound_by=bound_by, forecast=ahead, crosses_at_s=crosses_at_s,
    )  # fmt: skip


LINES = (
    _pool("llama-70b", 8, 116.0, 142.0, 114.0, "TTFT p95", _ahead(116, 150), NOW_S + 2700.0),
    _pool("mixtral-8x22b", 3, 40.0, 78.0, 58.0, "ITL p95", _ahead(40, 42)),
    _pool("qwen-32b", 5, 64.0, 104.0, 83.0, "KV cache", _ahead(64, 60)),
)
"""What the planner would say of the troubled fleet."""

ALERTS = [
    {
        "labels": {"alertname": "TTFTBudgetBurnFast", "severity": "critical", "pool": "llama-70b"},
        "annotations": {"summary": "TTFT budget burns 14 times too fast"}, "state": "firing",
        "activeAt": "2026-11-20T21:21:30Z", "value": "14.2",
    },
    {
        "labels": {"alertname": "KVCachePressure", "severity": "warning", "pool": "llama-70b"},
        "annotations": {}, "state": "pending", "activeAt": "2026-11-20T21:27:00Z", "value": "0.97",
    },
]  # fmt: skip


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """Three pools, one of which has been in trouble for ten minutes."""
    return Fleet(firing=("TTFTBudgetBurnFast",))


@pytest.fixture
def prometheus(fleet: Fleet) -> FakePrometheus:
    """The troubled fleet's server."""
    return FakePrometheus(fleet, ALERTS, request_spans())


@pytest.fixture
def source(prometheus: FakePrometheus) -> Iterator[Source]:
    """A source over the troubled fleet, at its moment."""
    client = Client("http://prometheus.test", transport=prometheus)
    made = Source(client, lambda slo, at_s: LINES, clock=lambda: float(NOW_S))
    yield made
    made.close()


class Page:
    """Asks one page's callback as its browser would; ``boxes`` of an answer by component id and property."""

    def __init__(self, app: Dash, stamp: str) -> None:
        self.client = app.server.test_client()
        self.prefix = app.config.requests_pathname_prefix
        self.client.get(self.prefix)
        dependencies = self.client.get(self.prefix + "_dash-dependencies").get_json()
        self.output = next(one["output"] for one in dependencies if f"{stamp}.data" in one["output"])

    def ask(self, search: str = "", offset_s: int = 0) -> dict[str, dict[str, Any]]:
        """One refresh."""
        outputs = [
            dict(zip(("id", "property"), name.rsplit(".", 1), strict=True))
            for name in self.output.strip(".").split("...")
        ]
        body = {
            "output": self.output,
            "outputs": outputs,
            "inputs": [{"id": "tick", "property": "data", "value": {"n": 1, "search": search, "offset_s": offset_s}}],
            "changedPropIds": ["tick.data"],
        }
        cookie = self.client.get_cookie(CSRF_COOKIE)
        assert cookie is not None
        answer = self.client.post(
            self.prefix + "_dash-update-component", json=body, headers={CSRF_HEADER: cookie.value}
        )
        assert answer.status_code == 200, answer.text
        boxes: dict[str, dict[str, Any]] = answer.get_json()["response"]
        return boxes


def words(node: Any) -> str:
    """All text of a component tree in JSON."""
    if isinstance(node, list):
        return " ".join(filter(None, map(words, node)))
    if isinstance(node, dict):
        props = node.get("props", {})
        return words(props.get("children", [[name, *told] for _, name, _, *told in props.get("rows", ())]))
    return "" if node is None else str(node)


@pytest.fixture
def read() -> Callable[[Any], str]:
    """Reads the text of a component tree."""
    return lambda node: " ".join(words(node).split())


@pytest.fixture
def overview(source: Source) -> Page:
    """The Overview over the troubled fleet."""
    return Page(create_app(source, Slo()), "ov-stamp")


@pytest.fixture
def latency(source: Source) -> Page:
    """The Latency page over the troubled fleet."""
    return Page(create_app(source, Slo()), "la-stamp")


@pytest.fixture
def over() -> Iterator[Callable[..., Source]]:
    """Makes sources over other servers: ``over(transport)``; closes them all."""
    made: list[Source] = []

    def make(transport: httpx.BaseTransport, **more: Any) -> Source:
        clock = more.pop("clock", lambda: float(NOW_S))
        headroom = more.pop("headroom", lambda slo, at_s: LINES)
        warnings = Warnings()
        client = Client("http://prometheus.test", transport=transport, on_warning=warnings.__setitem__)
        made.append(Source(client, headroom, clock=clock, warnings=warnings, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def page_of() -> Callable[..., Page]:
    """Makes the page ``stamp`` belongs to over a source."""
    return lambda source, stamp="ov-stamp", **more: Page(create_app(source, Slo(), **more), stamp)


@pytest.fixture(scope="session")
def made_fleet() -> Callable[..., FakePrometheus]:
    """Makes servers over other fleets."""
    return lambda **more: FakePrometheus(Fleet(**more))


@pytest.fixture
def calm(made_fleet: Callable[..., FakePrometheus]) -> FakePrometheus:
    """One replica that does well."""
    return made_fleet(pools=CALM)


class FakeClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = float(NOW_S)

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def fake_clock() -> FakeClock:
    """Stands at the fleet's moment."""
    return FakeClock()


@pytest.fixture(scope="module")
def moving_clock() -> FakeClock:
    """Stands at the fleet's moment, for all tests of a module."""
    return FakeClock()


@pytest.fixture(scope="module")
def troubled_server(fleet: Fleet) -> FakePrometheus:
    """The troubled fleet's server, for all tests of a module."""
    return FakePrometheus(fleet, ALERTS, request_spans())


CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium; skips where there is none, but in CI. While it lives no other event loop can run here."""
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"no browser: {CHROMIUM} is missing")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """A page of a fresh context, in UTC, that fails the test on a console error or a request to anywhere else."""
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900},
        timezone_id="UTC",
        locale="en-GB",
        reduced_motion="reduce",
        color_scheme="light",
    )
    context.set_default_timeout(PATIENCE_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    faults: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("request", lambda asked: faults.append(asked.url) if not is_local(asked.url) else None)
    yield opened
    context.close()
    assert not faults


def is_local(url: str) -> bool:
    """Whether an address is of this machine."""
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


AXE = Path(__file__).parent / "axe-core-4.14.1.min.js"
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture
def check_sound(page) -> Callable[[], None]:
    """Checks the page that is open: axe-core finds nothing serious, in light and dark, and it fits a phone."""

    def check() -> None:
        page.evaluate(AXE.read_text("utf-8"))
        for theme in ("light", "dark"):
            page.evaluate(f"document.documentElement.setAttribute('data-theme', '{theme}')")
            found = page.evaluate(f"axe.run(document, {{resultTypes: ['violations'], runOnly: {AXE_RULES}}})")
            serious = [
                (theme, one["id"], one["nodes"][0]["html"][:200])
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert serious == []
        page.set_viewport_size({"width": 390, "height": 800})
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390

    return check


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Dash], str]]:
    """Serves applications on ports of their own: ``serve(app)`` is the address."""
    running: list[tuple[Any, Thread]] = []

    def run(app: Dash) -> str:
        server = create_server(app.server, host="127.0.0.1", port=0, threads=8)
        thread = Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.effective_port}"

    yield run
    for server, thread in running:
        server.task_dispatcher.shutdown(cancel_pending=True, timeout=30)
        server.trigger.pull_trigger(server.close)  # in the loop's own thread
        thread.join(30)


@pytest.fixture(scope="module")
def over_http() -> Iterator[Callable[[httpx.BaseTransport], str]]:
    """Serves transports over HTTP, for processes that ask them: ``over_http(transport)`` is the address."""
    running: list[tuple[ThreadingHTTPServer, Thread]] = []

    def run(transport: httpx.BaseTransport) -> str:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                asked = httpx.Request(self.command, f"http://test{self.path}", content=body, headers=dict(self.headers))
                told = transport.handle_request(asked)
                self.send_response(told.status_code)
                self.send_header("Content-Length", str(len(told.content)))
                self.end_headers()
                self.wfile.write(told.content)

            def log_message(self, *told: object) -> None:
                pass

        for method in ("GET", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield run
    for server, thread in running:
        server.shutdown()
        thread.join(30)
        server.server_close()
