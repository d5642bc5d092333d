"""Every page in Chinese, with data, without, and where things fail: nothing that somebody reads is left in English."""

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from collector.model.labels import from_mapping
from collector.model.series import SeriesGroup
from collector.signals import SIGNALS
from dashboard.access import Access
from dashboard.alerting import Alerting
from dashboard.app import create_app
from dashboard.jobs import Jobs
from dashboard.parts.tables import clock_text
from dashboard.prices import load
from dashboard.replays import Replays
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.services import Services
from dashboard.words import catalogues
from planner.replay.runs import RunStore
from planner.result import Requests, Run, RunHeader
from planner.slo import Slo

NOW_S = 1_795_210_200
CHINESE = catalogues()["zh"]
READ = ("children", "title", "placeholder", "label", "alt", "aria-label")
PATHS = {
    "ov": "/", "la": "/latency", "th": "/throughput", "kv": "/kv-cache", "gp": "/gpu", "rq": "/requests",
    "fl": "/fleet", "ta": "/targets", "al": "/alerts", "ex": "/explore", "ca": "/capacity", "co": "/cost",
    "re": "/replay",
}  # fmt: skip
DATA = {
    "llama-70b", "mixtral-8x22b", "qwen-32b", "TTFTBudgetBurnFast", "KVCachePressure", "critical", "warning",
    "TTFT budget burns 14 times too fast", "v0.14.1", "v0.14.2", "engines", "stop", "cuda", "device", "version",
    "engine", "error", "chat", "Prometheus scrape health", "acme", "beta", "code", "short.csv", "on call", "a deploy",
    "HighTTFT", "page", "service", "first tokens are late", "up > 0", "long prompts", "add a replica",
    "Vidur CSV", "run-a", "run-b", "run-c", "run-d", "speed",
    "tighten_limits", "limits", "rate limited", "Broken", "nope(", "unknown function",
} | set(SIGNALS) | {api.name for api in load().catalog.apis}  # fmt: skip
"""What the fleet is called, and what its exporters, rules, people and files say of themselves."""

KEPT = {
    "TTFT", "ITL", "E2E", "TPOT", "SLO", "KV", "GPU", "SM", "ms", "req", "tok", "s", "N", "k", "M", "PromQL", "Grafana",
    "p50", "p95", "p99", "h", "m", "d", "g", "t", "f", "r", "p", "o", "l", "u", "x", "Loadline", "Xid", "PCIe",
    "NVLink", "GHz", "B", "DCGM", "NVML", "NVIDIA", "vLLM", "Esc", "span", "exporter", "z", "W", "C", "English", "API",
    "xid", "N+2", "e", "c", "a", "HTML", "JSON", "YAML", "CSV", "A", "y", "b", "v", "n", "token", "p90", "Poisson",
    "Prometheus", "errno", "H100", "job", "G", "up", "instance", "rate", "kB", "ALERTS", "ECC", "ID",
}  # fmt: skip
"""Measures and names that engineers use in both languages."""

MARKUP = re.compile(
    r"%\{[^}]*\}|<[^>]*>|https?://[\w:/.-]+|\b[0-9a-f]{8,}\b|--[\w-]+|\w*_[\w\[\]()]+|[\w.-]+=[^\s，。：；（）]+",
    re.ASCII,
)


def readable(node: Any) -> Iterator[str]:
    """Texts of a component tree in JSON and of the charts in it, without code and what is marked as English."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for one in node:
            yield from readable(one)
    elif isinstance(node, dict) and "props" in node:
        props = node["props"]
        if node["type"] in ("Code", "Pre", "Markdown", "Textarea") or props.get("lang") == "en":
            return
        for name in READ:
            yield from readable(props.get(name))
        for _, *cells in props.get("rows", ()) if node["type"] == "Legend" else ():
            yield from readable(cells)
        yield from drawn(props.get("figure") or {})


def drawn(figure: dict[str, Any]) -> Iterator[str]:
    """Texts of a chart: titles, names, what is shown on hovering, labels; dates as they are formatted."""
    layout = figure.get("layout", {})
    for axis in (layout.get("xaxis", {}), layout.get("yaxis", {})):
        yield axis.get("title", {}).get("text", "")
        yield from axis.get("ticktext", ())
        if any("%b" in axis.get(name, "") for name in ("tickformat", "hoverformat")):
            yield "Nov"
    for one in layout.get("annotations", ()):
        yield from (one.get("text", ""), one.get("hovertext", ""))
    yield from (shape.get("label", {}).get("text", "") for shape in layout.get("shapes", ()))
    for trace in figure.get("data", ()):
        yield from (trace.get("name", ""), trace.get("hovertemplate", ""))
        yield from (name for name in trace.get("y", ()) if isinstance(name, str))
        yield from trace.get("meta") or ()


def left_in_english(texts: Iterable[str]) -> set[str]:
    """Those of ``texts`` with Latin words that are neither kept nor data."""
    odd = set()
    for text in texts:
        plain = MARKUP.sub(" ", text)
        for name in sorted(DATA, key=len, reverse=True):
            plain = plain.replace(name, " ")
        if any(word not in KEPT for word in re.findall(r"[A-Za-z][A-Za-z0-9+]*", plain)):
            odd.add(text)
    return odd


class Reader:
    """A client that reads Chinese: pages before their data, and what their callbacks and buttons answer."""

    def __init__(self, source: Any, services: Services | None = None, access: Access | None = None) -> None:
        self.client = create_app(source, Slo(), services=services, access=access).server.test_client()
        self.front = self.client.get("/?lang=zh").get_data(as_text=True)
        told = self.client.get("/_dash-dependencies")
        self.outputs = [one["output"] for one in told.get_json()] if told.status_code == 200 else []

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        token = self.client.get_cookie(CSRF_COOKIE).value
        return self.client.post(path, json=body, headers={CSRF_HEADER: token}).get_json()

    def ask(self, output: str, inputs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        named = [
            dict(zip(("id", "property"), one.rsplit(".", 1), strict=True)) for one in output.strip(".").split("...")
        ]
        body = {"output": output, "outputs": named, "inputs": inputs, "changedPropIds": []}
        found: dict[str, dict[str, Any]] = self._post("/_dash-update-component", body)["response"]
        return found

    def page(self, path: str) -> list[str]:
        shown = self.ask("main.children", [{"id": "url", "property": "pathname", "value": path}])
        return list(readable(shown["main"]["children"]))

    def answer(self, key: str, search: str = "") -> list[str]:
        """What one refresh of the page ``key`` (of PATHS) shows."""
        boxes = self._boxes(key, search)
        found = ((*readable(props.get("children")), *drawn(props.get("figure") or {})) for props in boxes.values())
        return [text for texts in found for text in texts]

    def waits(self, key: str, search: str) -> bool:
        """Whether something that the page ``key`` shows is still being worked out."""
        return bool(self._boxes(key, search)[f"{key}-stamp"]["data"]["soon"])

    def _boxes(self, key: str, search: str) -> dict[str, dict[str, Any]]:
        output = next(one for one in self.outputs if f"{key}-stamp.data" in one and one.startswith(".."))
        tick = {"n": 1, "search": f"?lang=zh{search}", "offset_s": 0}
        return self.ask(output, [{"id": "tick", "property": "data", "value": tick}])

    def act(self, name: str, **fields: str) -> str:
        """What a button is answered."""
        told = self._post(f"/do/{name}", {"search": "?lang=zh", **fields})
        return str(told.get("said") or told.get("error", ""))


# --- what the pages show beside measurements

LABELS = {"alertname": "HighTTFT", "severity": "page", "pool": "llama-70b"}
SILENCE = {
    "id": "s0", "status": {"state": "active"}, "createdBy": "on call", "comment": "a deploy",
    "startsAt": "2026-11-20T21:00:00Z", "endsAt": "2026-11-21T21:00:00Z",
    "matchers": [{"name": "alertname", "value": "HighTTFT", "isRegex": False, "isEqual": True}],
}  # fmt: skip
RULE = {
    "name": "HighTTFT", "type": "alerting", "query": "up > 0", "duration": 300, "state": "firing", "health": "ok",
    "labels": {"severity": "page"}, "annotations": {"summary": "first tokens are late", "causes": "long prompts",
                                                    "query": "up > 0", "remedy": "add a replica"},
    "alerts": [
        {"labels": LABELS, "state": "firing", "value": "1.2", "activeAt": "2026-11-20T21:20:00Z", "annotations": {}},
        {"labels": {"alertname": "HighTTFT"}, "state": "pending", "activeAt": "2026-11-20T21:28:00Z"},
    ],
}  # fmt: skip
BROKEN = {"name": "Broken", "type": "alerting", "query": "nope(", "health": "err", "lastError": "unknown function"}
RESPONSES = [
    {
        "id": "6f1d", "response": "tighten_limits", "mode": mode, "state": state, "alertname": "HighTTFT",
        "error": None, "targets": ["http://10.0.0.7:8000"] if by else [], "changedAt": "2026-11-20T21:25:00Z",
        "by": by, "did": [], "allowed": ["confirm", "dismiss", "undo"], "log": [{"what": "limits"}],
    }
    for mode, state, by in (("automatic", "acted", "on call"), ("assisted", "waiting", None), ("human", "told", None))
]  # fmt: skip
CHECKED = {
    "valid": True, "rules": 2, "problems": [], "warnings": [], "findings": [], "previewError": "rate limited",
    "preview": [{"rule": "HighTTFT", "fired": 3, "pendingOnly": 2, "firingSeconds": 540.0, "error": None}],
}  # fmt: skip
ALERTS = {
    "/api/v1/rules": {"groups": [{"name": "service", "rules": [RULE, BROKEN]}]},
    "/api/v1/history": {"changes": [{"at": "2026-11-20T21:25:00Z", "state": state, "alertname": "HighTTFT"}
                                    for state in ("firing", "pending", "resolved", "ended")]},
    "/api/v1/responses": {"responses": RESPONSES, "gateway": "http://gateway.test"},
    "/api/v1/rules/check": CHECKED,
}  # fmt: skip


class Alerts(httpx.BaseTransport):
    """An alerts process in which something of everything is going on; ``dead`` answers nothing."""

    def __init__(self, *, dead: bool = False) -> None:
        self.dead = dead

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.dead:
            raise httpx.ConnectError("[Errno 111] Connection refused", request=request)
        if request.url.path == "/api/v2/silences":
            return httpx.Response(200, json={"silenceID": "s1"} if request.method == "POST" else [SILENCE])
        return httpx.Response(200, json={"status": "success", "data": ALERTS[request.url.path]})


POINT = {
    "requests_per_s": 60.0, "ttft_p95_s": 0.3, "ttft_low_s": 0.2, "ttft_high_s": 0.5, "itl_p95_s": 0.02,
    "itl_low_s": 0.01, "itl_high_s": 0.03, "kv_peak_ratio": 0.6, "kept": True,
}  # fmt: skip
WHAT_IF = {
    "findings": ["left to the dashboard"],
    "notes": ["2 of 5 replicas are simulated and scaled up",
              "5 of 180 intervals have no samples: the interval is 1.08 times as wide for it"],
    "model_error": {"mean": 0.04, "outside_hull_ratio": 0.12},
    "tables": [{"columns": ["requests/s", "TTFT p95 s", "low", "high", "ITL p95 s", "low", "high", "KV peak",
                            "promise kept"], "rows": [list(POINT.values())],
                "note": "Low and high: every step faster or slower by the model's error. – where requests never "
                        "ended."}],
    "result": {
        "pool": "qwen-32b", "replicas": 5, "load_req_per_s": 64.0, "line_req_per_s": 104.0, "bound_by": "KV cache",
        "line_low_req_per_s": 99.0, "line_high_req_per_s": 110.0, "n2_line_req_per_s": 62.0, "headroom_ratio": 0.38,
        "n2_headroom_ratio": -0.03, "prompt_tokens": 700.0, "output_tokens": 200.0, "cached_ratio": 0.2,
        "points": [POINT, POINT | {"requests_per_s": 110.0, "ttft_p95_s": 2.0, "kept": False}],
    },
}  # fmt: skip
CHILD = """
import json, sys
from dashboard.job import inspect, tell
question = json.load(sys.stdin)
inspect(question) if question["kind"] == "inspect" else tell(result=json.loads(sys.argv[1]))
"""
"""Reads traces as the product does; what-ifs are answered from the command line."""


def run_of(seed: int) -> Run:
    count = 120
    due = np.arange(count) / 10
    first = due + np.random.default_rng(seed).lognormal(-1, 0.5, count)
    return Run(
        RunHeader(kind="replay", target="http://10.0.0.7:8000", model="m", trace="short.csv", trace_sha256="a"),
        Requests(
            row_id=np.arange(count), due_s=due, sent_s=due, first_token_s=first, last_token_s=first + 1,
            end_s=first + 1, input_tokens=np.full(count, 5), output_tokens=np.full(count, 11),
            cached_tokens=np.full(count, np.nan), status=np.full(count, "ok"), error=(None,) * count,
        ),
    )  # fmt: skip


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """A price list, a trace, four runs, a finished what-if, and an alerts process."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "traces").mkdir()
    rows = "".join(f"{row // 3 / 5},{5 + row % 7},3\n" for row in range(120))
    (folder / "traces" / "short.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + rows)
    (folder / "prices.toml").write_text('as_of = "2026-11-01"\n[pools."*"]\ngpu = "H100"\ngpus = 2\n')
    store = RunStore(folder / "runs")
    ends = {
        "run-a": {"state": "finished", "valid": True},
        "run-b": {"state": "stopped", "failed": 2, "options": {"speed": 2}},
        "run-c": {"state": "failed", "error": "stopped after 7 requests that failed (--max-errors)"},
        "run-d": {"state": "finished", "valid": False, "reasons": ("no request was written to the server",)},
    }  # fmt: skip
    for seed, (name, end) in enumerate(ends.items()):
        meta = store.create("short.csv", "http://10.0.0.7:8000", {}, name)
        store.write(meta.model_copy(update={"planned": 120, "ended": 120, "elapsed_s": 61.0, **end}))
        run_of(seed).write(store.folder(name) / "run.json")
    jobs = Jobs((sys.executable, "-c", CHILD, json.dumps(WHAT_IF)))
    alerting = Alerting("http://alerts.test", transport=Alerts())
    replays = Replays(store, (folder / "traces",), folder / "up", ("http://10.0.0.7:8000",))
    yield Services(prices=load(folder / "prices.toml"), jobs=jobs, replays=replays, alerting=alerting)
    jobs.close()
    alerting.close()


@pytest.fixture
def rich(source, prometheus):
    """The troubled fleet, whose engines also tell their tokens, by tenant too."""
    told = {"loadline_prompt_tokens_total": 7000.0, "loadline_prompt_tokens_cached_total": 1400.0}
    tenants = {f"loadline_tenant_{what}_tokens_total": 300.0 for what in ("prompt", "generation")}
    times = prometheus.fleet.times_s
    where = {"instance": "qwen-32b-0:8000", "job": "engine", "model_name": "qwen-32b"}
    labels = [from_mapping(where | {"__name__": name}) for name in told]
    labels += [from_mapping(where | {"__name__": name, "tenant": who}) for name in tenants for who in ("acme", "beta")]
    rates = [*told.values(), *(rate for rate in tenants.values() for _ in range(2))]
    added = SeriesGroup(tuple(labels), times * 1000, np.outer(times - times[0], rates))
    prometheus.fleet.groups.append(added)
    yield source
    prometheus.fleet.groups.remove(added)


def test_the_frame_is_chinese(source):
    reader = Reader(source)
    assert '<html lang="zh">' in reader.front
    assert not left_in_english(readable(reader.client.get("/_dash-layout").get_json()))


def test_pages_before_their_data_are_chinese(source):
    reader = Reader(source)
    assert not {path: odd for path in (*PATHS.values(), "/404") if (odd := left_in_english(reader.page(path)))}


def left_of_all(reader: Reader, search: str = "") -> dict[str, set[str]]:
    """What every page leaves in English."""
    return {key: odd for key in PATHS if (odd := left_in_english(reader.answer(key, search)))}


SEARCHES = {"ca": f"&of=qwen-32b&at={NOW_S}", "al": "&rule=HighTTFT", "re": "&a=run-a&b=run-b", "ex": "&expr=up"}


def test_pages_with_data_are_chinese(rich, services):
    reader = Reader(rich, services)
    for key, job in (("ca", "whatif-again"), ("re", "trace-inspect")):
        reader.act(job, search=f"?lang=zh{SEARCHES[key]}")
    until = time.monotonic() + 60
    while any(reader.waits(key, SEARCHES[key]) for key in ("ca", "re")) and time.monotonic() < until:
        time.sleep(0.05)
    found = {key: reader.answer(key, SEARCHES.get(key, "")) for key in PATHS}
    assert min(map(len, found.values())) > 20
    assert not {key: odd for key, texts in found.items() if (odd := left_in_english(texts))}


@pytest.mark.parametrize("range_", ["", "&from=1794951000&to=1795210200", "&pool=none"])
def test_pages_of_any_range_without_services_are_chinese(source, range_):
    assert not left_of_all(Reader(source), range_)


@pytest.mark.parametrize("key", ["ov", "la", "ca"])
def test_an_address_that_is_not_understood_is_told_in_chinese(source, key):
    said = Reader(source).answer(key, "&range=soon" if key != "ca" else "&load=much")
    assert any("无法理解此地址" in text for text in said)
    assert not left_in_english(said)


def test_pages_over_a_source_that_is_away_are_chinese(prometheus, over, services):
    prometheus.dead = True
    away = Services(alerting=Alerting("http://alerts.test", transport=Alerts(dead=True)), jobs=services.jobs)
    assert not left_of_all(Reader(over(prometheus), away))


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_pages_over_an_engine_that_tells_little_are_chinese(made_fleet, over, engine):
    assert not left_of_all(Reader(over(made_fleet(pools=(), engine=engine))))


@pytest.mark.parametrize(
    ("name", "fields", "chinese"),
    [
        ("silence", {"hours": "0"}, "hours 为 '0'；静默须大于 0 且至多 720 小时"),
        ("silence", {"hours": "1", "author": "on call", "comment": "a deploy", "matchers": 'pool="chat"'}, "已静默"),
        ("replay-stop", {"id": "run-a"}, None),
        ("replay-start", {"search": "?lang=zh&target=http://x"}, "不能对 http://x 回放；允许 http://10.0.0.7:8000"),
        ("whatif", {"search": "?lang=zh&load=much"}, "load=much：必须是数字"),
    ],
)
def test_what_a_button_is_answered_is_chinese(rich, services, name, fields, chinese):
    told = Reader(rich, services).act(name, **fields)
    assert told == chinese if chinese else told


def test_who_may_not_is_told_in_chinese(source, services):
    reader = Reader(source, services, Access("read", "change"))
    assert reader.front == "401：需要令牌\n"


def test_the_verdict_is_a_chinese_sentence(source):
    said = "".join(Reader(source).answer("ov"))
    assert "llama-70b 违反了 TTFT p95。1.30 s，限值 800 ms，已持续 11 分钟。" in said
    assert "受限于" in said


def test_a_moment_of_another_day_is_written_as_each_language_does():
    assert CHINESE.of(clock_text(NOW_S - 86_400, 0, NOW_S)) == "11月19日 21:30"
    assert clock_text(NOW_S - 86_400, 0, NOW_S) == "19 Nov 21:30"
