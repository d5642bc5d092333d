"""Every page in Chinese: nothing that somebody reads or hears is left in English, and every sentence has its words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

import dashboard
from collector.signals import SIGNALS
from dashboard.app import create_app
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.words import catalogues, said_reason, texts_of_scripts
from dashboard.words.reasons import TEMPLATES
from planner.slo import Slo

PACKAGE = Path(dashboard.__file__).parent
READ = ("children", "title", "placeholder", "label", "alt", "aria-label")
CHINESE = catalogues()["zh"]
STAMPS = ("ov", "la", "th", "kv", "gp", "rq", "fl", "ta", "ex")
DATA = {
    "llama-70b", "mixtral-8x22b", "qwen-32b", "TTFTBudgetBurnFast", "KVCachePressure", "critical", "warning",
    "TTFT budget burns 14 times too fast", "v0.14.1", "v0.14.2", "engines", "stop", "cuda", "device", "version",
    "engine", "error", "chat", "Prometheus scrape health", "connection refused",
} | set(SIGNALS)  # fmt: skip
"""What the fleet is called, and what its exporters and alerts say of themselves."""

KEPT = {
    "TTFT", "ITL", "E2E", "TPOT", "SLO", "KV", "GPU", "SM", "ms", "req", "tok", "s", "N", "k", "M", "PromQL", "Grafana",
    "p50", "p95", "p99", "h", "m", "d", "g", "t", "f", "r", "p", "o", "l", "u", "x", "Loadline", "Xid", "PCIe",
    "NVLink",
    "GHz", "B", "DCGM", "NVML", "NVIDIA", "vLLM", "Esc", "span", "exporter", "z", "W", "C", "English", "API", "xid",
    "N+2", "e", "c", "a", "HTML", "JSON", "YAML", "A", "y", "b", "v",
}  # fmt: skip
"""Measures and names that engineers use in both languages."""


def templates() -> set[str]:
    """The sentences that the code composes."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "say":
                for one in ast.walk(node.args[0]):
                    if isinstance(one, ast.Constant) and isinstance(one.value, str):
                        found.add(one.value)
    return found


def names(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def readable(node: Any, code: bool = False) -> Iterator[str]:
    """Texts of a component tree in JSON, without those that are code."""
    if isinstance(node, str):
        if not code:
            yield node
    elif isinstance(node, list):
        for one in node:
            yield from readable(one, code)
    elif isinstance(node, dict) and "props" in node:
        code = code or node["type"] in ("Code", "Kbd")
        for name in READ:
            yield from readable(node["props"].get(name), code)


def left_in_english(texts: Iterator[str], data: set[str]) -> set[str]:
    """Those of ``texts`` with Latin words that are neither kept nor part of the ``data``."""
    odd = set()
    for text in texts:
        plain = re.sub(r"https?://\S+|\b[0-9a-f]{8,}\b|--[\w-]+|\w+_\w+|\S+=\S+", " ", text)
        for name in sorted(data, key=len, reverse=True):
            plain = plain.replace(name, " ")
        words = re.findall(r"[A-Za-z][A-Za-z0-9+]*", plain)
        if any(word not in KEPT for word in words):
            odd.add(text)
    return odd


def test_every_sentence_and_every_text_of_the_scripts_has_its_chinese():
    wanted = templates() | set(TEMPLATES) | set(texts_of_scripts(PACKAGE / "assets"))
    assert len(wanted) > 100
    assert not sorted(text for text in wanted if text not in CHINESE.texts and re.search("[A-Za-z]{2}", bare(text)))


def test_a_chinese_sentence_has_the_parts_of_the_english():
    assert not [text for text, chinese in CHINESE.texts.items() if names(text) != names(chinese)]


def test_chinese_is_chinese():
    for text, chinese in CHINESE.texts.items():
        assert re.search("[\u4e00-\u9fff]", chinese) or text in ALIKE or not bare(text).strip(" .:,"), text


ALIKE = {
    "{phase} {span}", "中文", "PromQL, such as rate(loadline_generation_tokens_total[1m])"
}  # fmt: skip


def bare(template: str) -> str:
    return re.sub(r"\{\w+\}", "", template)


@pytest.mark.parametrize(
    ("reason", "chinese"),
    [
        ("not exposed: vLLM exposes vllm:x since 0.9; this source holds no such series",
         "未暴露：vLLM 自 0.9 起暴露 vllm:x；此数据源中没有该序列"),
        ("switched off: SGLang exposes a:b only with --metrics", "已关闭：SGLang 仅在使用 --metrics 时暴露 a:b"),
        ("something else", "something else"),
    ],
)  # fmt: skip
def test_reasons_of_absent_signals_are_taken_apart(reason, chinese):
    text = said_reason(reason)
    assert (text, CHINESE.of(text)) == (reason, chinese)


@pytest.fixture
def chinese(source):
    """A client that reads Chinese, and what each of the pages' callbacks sets."""
    client = create_app(source, Slo()).server.test_client()
    client.get("/?lang=zh")
    return client


def post(client, output: str, inputs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    names = output.strip(".").split("...")
    outputs = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]
    body = {"output": output, "outputs": outputs, "inputs": inputs, "changedPropIds": []}
    token = client.get_cookie(CSRF_COOKIE).value
    return client.post("/_dash-update-component", json=body, headers={CSRF_HEADER: token}).get_json()["response"]


def test_the_frame_is_chinese(chinese):
    assert '<html lang="zh">' in chinese.get("/").get_data(as_text=True)
    assert not left_in_english(readable(chinese.get("/_dash-layout").get_json()), DATA)


@pytest.mark.parametrize(
    "path", ["/", "/latency", "/throughput", "/kv-cache", "/gpu", "/requests", "/fleet", "/targets"]
)
def test_a_page_before_its_data_is_chinese(chinese, path):
    shown = post(chinese, "main.children", [{"id": "url", "property": "pathname", "value": path}])
    assert not left_in_english(readable(shown["main"]["children"]), DATA)


@pytest.mark.parametrize("stamp", STAMPS)
def test_what_a_page_says_of_the_fleet_is_chinese(chinese, stamp):
    outputs = [one["output"] for one in chinese.get("/_dash-dependencies").get_json()]
    output = next(one for one in outputs if f"{stamp}-stamp.data" in one and one.startswith(".."))
    tick = {"n": 1, "search": "?lang=zh", "offset_s": 0}
    boxes = post(chinese, output, [{"id": "tick", "property": "data", "value": tick}])
    texts = (text for props in boxes.values() for text in readable(props.get("children")))
    assert not left_in_english(texts, DATA)


def test_the_verdict_is_a_chinese_sentence(chinese, source, page_of):
    output = page_of(source).output
    boxes = post(chinese, output, [{"id": "tick", "property": "data", "value": {"search": "?lang=zh"}}])
    said = "".join(readable(boxes["ov-verdict"]["children"]))
    assert "llama-70b 违反了 TTFT p95。1.30 s，限值 800 ms，已持续 11 分钟。" in said
    assert "受限于" in "".join(readable(boxes["ov-bars"]["children"]))
