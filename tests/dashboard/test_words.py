"""The catalogue: every text has its words in every language, and every entry is somebody's text."""

import ast
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter

import pytest

import dashboard
import planner
from alerts.responses.catalogue import MODES
from collector.signals import SIGNALS, load_dialects
from dashboard.journal import ORDERS
from dashboard.words import Said, catalogues, counted, said_error, said_reason, say, texts_of_scripts
from dashboard.words.reasons import TEMPLATES

PACKAGE, PLANNER = Path(dashboard.__file__).parent, Path(planner.__file__).parent
CHINESE = catalogues()["zh"]
NOT_SHOWN = {"cli.py", "exporting.py", "grafana.py", "server.py", "settings.py", "prices.py", "job.py", "reasons.py"}
"""What these say is read at a terminal, in Grafana, or taken apart by ``reasons``."""

NOT_READ = {"className", "kind", "style", "accept"}
PROSE = re.compile(r"[A-Za-z]{2,} [a-z]{2,}(?![\w-])")
CODE = re.compile(
    r"\bby \(|loadline |^from dashboard|^groups:|^<!DOCTYPE|Basic realm|in an answer|px (solid|dotted)|^num badn$"
)
"""PromQL, HTTP, commands, an example of a rule file, styles, and what only developers read."""


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ast.parse(path.read_text("utf-8"))


def templates() -> set[str]:
    """The sentences that the code composes."""
    calls = (node for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Call))
    composed = (call for call in calls if isinstance(call.func, ast.Name) and call.func.id in ("say", "counted"))
    told = (call.args[1:] if call.func.id == "counted" else call.args for call in composed)  # type: ignore[attr-defined]
    texts = (one for arguments in told for argument in arguments for one in ast.walk(argument))
    return {one.value for one in texts if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def constants(tree: ast.AST) -> Iterator[ast.Constant]:
    """Strings of code, without docstrings, parts of f-strings and attributes that nobody reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Expr | ast.JoinedStr) and not isinstance(getattr(node, "value", None), ast.Call):
            continue
        if isinstance(node, ast.keyword) and node.arg in NOT_READ:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node
        yield from constants(node)


def names(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}


def bare(template: str) -> str:
    return re.sub(r"\{\w+\}", "", template)


def test_every_sentence_and_every_text_of_the_scripts_has_its_chinese():
    wanted = templates() | set(TEMPLATES) | set(texts_of_scripts(PACKAGE / "assets"))
    assert len(wanted) > 300
    assert not sorted(text for text in wanted if text not in CHINESE.texts and re.search("[A-Za-z]{2}", bare(text)))


def test_every_other_text_that_reads_like_prose_has_its_chinese():
    found = [
        (path.name, one.lineno, one.value)
        for path, tree in trees()
        if path.name not in NOT_SHOWN
        for one in constants(tree)
        if PROSE.search(bare(one.value)) and not CODE.search(one.value) and one.value not in CHINESE.texts
    ]
    assert not found


def test_no_sentence_is_put_together_by_an_f_string():
    found = [
        (path.name, node.lineno, text)
        for path, tree in trees()
        if path.name not in NOT_SHOWN
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        and PROSE.search(text := " ".join(one.value for one in node.values if isinstance(one, ast.Constant)))
        and not CODE.search(text)
        and not any(isinstance(one, ast.Constant) and "svg" in one.value for one in node.values)
    ]
    assert not found


def test_every_entry_of_the_catalogue_is_a_text_that_is_used():
    read = [tree for _, tree in trees()]
    read += [ast.parse((PLANNER / name).read_text("utf-8")) for name in ("answers/whatif.py", "traces/inspection.py")]
    used = {one.value for tree in read for one in ast.walk(tree) if isinstance(one, ast.Constant)}
    used |= set(texts_of_scripts(PACKAGE / "assets"))
    used |= {text for one in SIGNALS.values() for text in (one.what, f" {one.unit}")}
    used |= {text for one in load_dialects() for text in (one.title, *one.not_exposed.values())}
    used |= {text.capitalize() for text, _ in ORDERS.values()} | {os.strerror(errno.ECONNREFUSED)}
    used |= set(MODES) | BY_OTHERS
    assert not sorted(text for text in CHINESE.texts if text not in used)


def test_a_chinese_sentence_has_the_parts_of_the_english():
    assert not [text for text, chinese in CHINESE.texts.items() if names(text) != names(chinese)]


def test_chinese_is_chinese_and_leaves_room_around_latin_words():
    for text, chinese in CHINESE.texts.items():
        written = (
            re.search("[\u3000-\u9fff\uff00-\uffef]", chinese) or text in ALIKE or not re.search("[A-Za-z]", bare(text))
        )
        assert written, text
        assert not re.search("[\u4e00-\u9fff]token|token[\u4e00-\u9fff]", chinese), chinese


BY_OTHERS = {"connection refused", "spans", "the source holds no engine or exporter that is known"}
"""How targets fail, what a source keeps, and what stands alone in ``collector.signals``."""

ALIKE = {
    "{phase} {span}", "中文", "{latency} p{quantile}", "tokens", " tokens", "spans",
    "PromQL, such as rate(loadline_generation_tokens_total[1m])",
}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "chinese"),
    [
        ("not exposed: vLLM exposes vllm:x since 0.9; this source holds no such series",
         "未暴露：vLLM 自 0.9 起暴露 vllm:x；此数据源中没有该序列"),
        ("switched off: SGLang exposes a:b only with --metrics", "已关闭：SGLang 仅在使用 --metrics 时暴露 a:b"),
        ("http://10.0.0.7:9090/api/v1/query: cannot be reached: [Errno 111] Connection refused",
         "无法连接 http://10.0.0.7:9090/api/v1/query：连接被拒绝（errno 111）"),
        ("5 of 180 intervals have no samples: the interval is 1.08 times as wide for it",
         "180 个区间中有 5 个没有样本：区间因此放宽至 1.08 倍"),
        ("12,000 requests, read as Vidur CSV", "12,000 个请求，格式：Vidur CSV"),
        ("something else", "something else"),
    ],
)  # fmt: skip
def test_what_other_parts_say_is_taken_apart(reason, chinese):
    text = said_reason(reason)
    assert (text, CHINESE.of(text)) == (reason, chinese)


SPEAKERS = (
    "steps/telemetry.py",
    "room/headroom.py",
    "room/whatif.py",
    "room/capacity.py",
    "traces/inspection.py",
    "replay/lag.py",
)
CALLS = {"ModelError", "CapacityError", "LeftOut", "append", "_tell", "progress"}


def planner_says() -> Iterator[str]:
    """What the planner says of load lines, what-ifs and traces, with 7 for every part."""
    for name in SPEAKERS:
        for node in ast.walk(ast.parse((PLANNER / name).read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in CALLS:
                for text in node.args:
                    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
                    yield "".join(str(one.value) if isinstance(one, ast.Constant) else "7" for one in parts)


def test_what_the_planner_says_is_taken_apart():
    said = [text for text in planner_says() if " " in text]
    assert len(said) > 20
    assert not [text for text in said if not isinstance(said_reason(text), Said)]


def test_an_error_keeps_the_sentence_it_was_raised_with():
    error = ValueError(say("{given}: must be a number", given="load=much"))
    assert (said_error(error), CHINESE.of(said_error(error))) == (
        "load=much: must be a number", "load=much：必须是数字",
    )  # fmt: skip


@pytest.mark.parametrize(("n", "english", "chinese"), [(1, "1 run", "1 次运行"), (3, "3 runs", "3 次运行")])
def test_a_count_is_said_as_each_language_counts(n, english, chinese):
    text = counted(n, "1 run", "{n} runs")
    assert (text, CHINESE.of(text)) == (english, chinese)
