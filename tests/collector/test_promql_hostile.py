import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import LimitError, QueryError
from collector.model.labels import from_mapping
from collector.promql import Engine, Limits, Result

SPEC = importlib.util.spec_from_file_location("promql_cases", Path(__file__).with_name("promql_cases.py"))
assert SPEC and SPEC.loader
cases = importlib.util.module_from_spec(SPEC)
sys.modules["promql_cases"] = cases
SPEC.loader.exec_module(cases)

PIECES = st.sampled_from([
    "a", "a{n='1'}", "{n=~'(x+)+y|1'}", "1", "0", "1e400", "NaN", "-Inf", "9999y", "0x" + "f" * 300, "'text'",
    "rate(a[1m])", "a[5m]", "a[1000y:1ms]", "a[1y:1s] @ 1e11", "sum", "sum by (n) (a)", "topk(1e300, a)",
    "count_values('v', a)", "quantile(NaN, a)", "limitk(2, a)", "label_replace(a, 'x', '$1', 'n', '(.*)')",
    "histogram_quantile(0.5, a)", "info(a)", "absent(a)", "predict_linear(a[5m], 1e300)", "timestamp(a)", "year(a)",
    "(", ")", "[", "]", "{", "}", ",", "+", "-", "*", "/", "%", "^", "==", "> bool", "and", "or", "unless", "atan2",
    "on (n)", "ignoring (n)", "group_left (m)", "fill (0)", "offset 1m", "offset -9999y", "offset step()",
    "@ 5", "@ -1e15", "@ end()", "[5m]", "[5m:]", "[step():range()]", "anchored", "smoothed", "by (n)", "without (n)",
    "# remark", "`", '"', "\\", "\U0001f600", "\ud800",
])  # fmt: skip
LIMITS = Limits(max_samples=200_000, max_subquery_points=20_000, timeout_s=5)


def querier() -> object:
    series = {
        from_mapping({"__name__": "a", "n": str(number), "le": str(number)}): {
            time * 15_000: float(number * time) for time in range(20)
        }
        for number in range(3)
    }
    return cases.MemoryQuerier(series)


def _asked(engine: Engine, text: str, instant: bool) -> Result:
    if instant:
        return engine.instant(querier(), text, 300_000)  # type: ignore[arg-type]
    return engine.range(querier(), text, 0, 300_000, 30_000)  # type: ignore[arg-type]


@given(st.lists(PIECES, min_size=1, max_size=8).map(" ".join), st.booleans())
def test_any_query_is_answered_or_refused(text: str, instant: bool) -> None:
    engine = Engine(LIMITS)
    try:
        answer = _asked(engine, text, instant)
    except QueryError as error:
        assert str(error).startswith("query ")
    else:
        assert isinstance(answer, Result)


@given(st.text(max_size=30))
def test_any_text_is_answered_or_refused(text: str) -> None:
    try:
        Engine(LIMITS).instant(querier(), text, 300_000)  # type: ignore[arg-type]
    except QueryError as error:
        assert str(error).startswith("query ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sum_over_time(a[1000000000y:1ms])", "duration out of range"),
        ("sum_over_time(a[200y:1ms])", "max_subquery_points"),
        ("sum_over_time(sum_over_time(a[1y:1m])[5y:1m])", "max_subquery_points"),
        ("a @ 1e300", "timestamp out of bounds"),
        ("a offset 300y", "duration out of range"),
        ("-" * 10_000 + "1", "max_operators"),
        ("(" * 10_000, "max_depth"),
        ("abs(" * 101 + "a" + ")" * 101, "max_depth"),
        ("a" + " or a" * 300, "max_operators"),
    ],
)
def test_what_would_need_too_much_is_refused_before_it_is_made(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason):
        Engine().instant(querier(), text, 300_000)  # type: ignore[arg-type]


def test_counting_values_that_are_all_different_is_bounded() -> None:
    rng = np.random.default_rng(1)
    points = {time * 1000: float(value) for time, value in enumerate(rng.normal(size=3000))}
    many = cases.MemoryQuerier({from_mapping({"__name__": "a", "n": str(number)}): points for number in range(2)})
    with pytest.raises(LimitError, match="max_samples"):
        Engine(Limits(max_samples=1_000_000)).range(many, "count_values('v', a)", 0, 2_999_000, 1000)


def test_a_text_as_long_as_a_form_may_be_is_read_in_linear_time() -> None:
    matchers = ",".join(f'l{number}="v"' for number in range(20_000))
    with pytest.raises(QueryError, match="unexpected end of input inside braces"):
        Engine().instant(querier(), "a{" + matchers, 0)  # type: ignore[arg-type]
