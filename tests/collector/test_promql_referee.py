import importlib.util
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import QueryError
from collector.promql import parse

pytest.importorskip("promql_parser", reason="promql-parser is not installed: pip install -e '.[dev]'")


def load(name: str) -> object:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


cases = load("promql_cases")
referee = load("promql_referee")

PIECES = st.sampled_from([
    "a", "b{x='1'}", "1", "2.5", "NaN", "rate(c[5m])", "sum", "sum by (x) (a)", "(", ")", "+", "-", "*", "^", "%", "==",
    "> bool", "and", "or", "unless", "atan2", "on (x)", "ignoring (x)", "group_left (y)", "offset 1m", "@ 5", "[5m]",
    "[5m:1m]", "topk(3, a)", "abs(a)", "time()", "'t'", "without (x)", "vector(1)",
])  # fmt: skip


def differences(texts: list[str]) -> list[str]:
    """Texts that both read, but not alike, or that only we refuse."""
    wrong = []
    for text in texts:
        try:
            theirs = referee.parse(text)  # type: ignore[attr-defined]
        except (ValueError, QueryError):
            continue
        try:
            ours = parse(text)
        except QueryError as error:
            wrong.append(str(error))
        else:
            wrong += [f"{text}: {ours} and {theirs}"] if ours != theirs else []
    return wrong


def test_scripts_and_compliance_queries_are_read_as_promql_parser_reads_them(shared_data: Path) -> None:
    scripts = sorted((shared_data / "promqltest").rglob("*.test"))
    texts = [case.text for script in scripts for case in cases.read_cases(script.read_text())]  # type: ignore[attr-defined]
    texts += [query for query, _ in json.loads((shared_data / "compliance" / "expanded.json").read_text())]
    assert len(texts) > 2000
    bytes_for_characters = [text for text in texts if "\\x" in text]
    assert not differences([text for text in texts if text not in bytes_for_characters])


@given(st.lists(PIECES, min_size=1, max_size=9).map(" ".join))
def test_whatever_promql_parser_reads_we_read_alike(text: str) -> None:
    assert not differences([text])
