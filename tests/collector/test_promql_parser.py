import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import LimitError, QueryError
from collector.model.matchers import Matcher
from collector.promql import Expr, Limits, format, parse, selectors
from collector.promql.ast import (
    Aggregation,
    Binary,
    Call,
    Matching,
    MatrixSelector,
    Negate,
    Number,
    Subquery,
    Text,
    VectorSelector,
)
from collector.promql.durations import format_duration, parse_duration_ms

NAMES = st.sampled_from(["up", "job:rate:5m", "a.b", "sum", "inf", "é"])
LABEL_NAMES = st.sampled_from(["job", "le", "by", "a.b"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DURATIONS = st.integers(1, 10**9)
OFFSETS = st.just(0) | st.integers(-(10**8), 10**8)
TIMES = st.none() | st.sampled_from(["start", "end"]) | st.integers(-(10**12), 10**13)
LABEL_LISTS = st.lists(LABEL_NAMES, max_size=2, unique=True).map(tuple)


@st.composite
def vector_selectors(draw: st.DrawFn) -> VectorSelector:
    matchers = [Matcher("__name__", "=", draw(NAMES))]
    for name in draw(LABEL_LISTS):
        matchers.append(Matcher(name, draw(st.sampled_from(["=", "!="])), draw(TEXTS)))
    return VectorSelector(tuple(matchers), draw(OFFSETS), draw(TIMES))


NUMBERS = st.floats().map(Number)
SCALARS = NUMBERS | st.builds(Call, st.sampled_from(["time", "pi"]))


def matrices(vectors: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return st.builds(MatrixSelector, vector_selectors(), DURATIONS) | st.builds(
        Subquery, vectors, DURATIONS, st.none() | DURATIONS, OFFSETS, TIMES
    )


def matchings() -> st.SearchStrategy[Matching]:
    fills = st.none() | st.floats(allow_nan=False, allow_infinity=False)
    return st.builds(
        Matching, st.just("one-to-one"), st.booleans(), LABEL_LISTS, st.just(()), fills, fills
    ) | st.builds(
        Matching,
        st.sampled_from(["many-to-one", "one-to-many"]),
        st.just(True),
        st.sampled_from([("job",), ()]),
        st.sampled_from([(), ("le",)]),
    )


def larger(vectors: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    arithmetic = st.sampled_from(["+", "-", "*", "/", "%", "^", "atan2"])
    comparison = st.sampled_from(["==", "!=", "<", ">", "<=", ">="])
    sets = st.builds(Matching, st.just("many-to-many"), st.booleans(), LABEL_LISTS)
    return st.one_of(
        st.builds(Negate, vectors),
        st.builds(Binary, arithmetic, vectors, vectors, matchings()),
        st.builds(Binary, comparison, vectors, vectors, matchings(), st.booleans()),
        st.builds(Binary, arithmetic, vectors, SCALARS),
        st.builds(Binary, comparison, SCALARS, vectors, st.none(), st.booleans()),
        st.builds(Binary, st.sampled_from(["and", "or", "unless"]), vectors, vectors, sets),
        st.builds(Aggregation, st.sampled_from(["sum", "avg"]), vectors, st.none(), LABEL_LISTS),
        st.builds(Aggregation, st.just("topk"), vectors, SCALARS, LABEL_LISTS, st.just(True)),
        st.builds(Aggregation, st.just("count_values"), vectors, st.builds(Text, TEXTS), LABEL_LISTS),
        st.builds(lambda inner: Call("abs", (inner,)), vectors),
        st.builds(lambda inner: Call("rate", (inner,)), matrices(vectors)),
    )


EXPRESSIONS = SCALARS | st.builds(Text, TEXTS) | st.recursive(vector_selectors(), larger, max_leaves=6)


@given(EXPRESSIONS)
def test_an_expression_survives_being_written_and_read(expr: Expr) -> None:
    assert parse(format(expr)) == expr


@given(DURATIONS)
def test_a_duration_survives_being_written_and_read(duration_ms: int) -> None:
    assert parse_duration_ms(format_duration(duration_ms)) == duration_ms


@given(st.text("ab()[]{}\"'`\\+-*/@:,=~! 0159msx_#\n", max_size=40))
def test_any_text_is_read_or_refused_with_a_query_error(text: str) -> None:
    try:
        parse(text)
    except QueryError as error:
        assert str(error).startswith("query ")


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("SUM(rate(x[300s]))by(job)", "sum by (job) (rate(x[5m]))"),
        ("(((a)))+((b))", "a + b"),
        ("-1^2", "-1 ^ 2"),
        ("(-1)^2", "(-1) ^ 2"),
        ("a - (b - c)", "a - (b - c)"),
        ("`\\d`", '"\\\\d"'),
        ("x[1.5]", "x[1s500ms]"),
        ("x[5m + 2 * 30s]", "x[6m]"),
        ("1_000", "1000"),
        ("x @ -5", "x @ -5.000"),
        ("holt_winters(x[5m], 0.5, 0.5)", "double_exponential_smoothing(x[5m], 0.5, 0.5)"),
        ('{"a.b", job="x"}', '{__name__="a.b",job="x"}'),
        ('"\\xc3\\xa9"', '"é"'),
    ],
)
def test_a_text_has_one_canonical_form(text: str, canonical: str) -> None:
    assert format(parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no expression found"),
        ("sum(x", '"\\(" is never closed'),
        ("x)", 'unexpected "\\)"'),
        ('x{a="b" or c="d"}', '"or" between matchers is not PromQL'),
        ("nope(x)", "unknown function with name 'nope'"),
        ("x[0s]", "duration must be greater than 0"),
        ('x{a=~"("}', "regex"),
        ("rate(x)", "expected type matrix"),
        ("rate(x[5m] anchored)", "the modifier anchored is not supported"),
    ],
)
def test_a_bad_query_is_refused_with_the_query_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as caught:
        parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("1" + "+1" * 5000, "max_operators"),
        ("(" * 20000 + "1" + ")" * 20000, "max_depth"),
        ("-" * 9000, "max_op"),
    ],
)
def test_text_that_would_kill_the_parser_never_reaches_it(text: str, limit: str) -> None:
    with pytest.raises(LimitError, match=limit):
        parse(text)


def test_the_limits_on_text_can_be_set() -> None:
    with pytest.raises(LimitError, match="more than 1 operators"):
        parse("1+1+1", Limits(max_operators=1))


def test_matchers_are_not_operators() -> None:
    parse("{" + ",".join(f'l{number}!="x"' for number in range(300)) + ',a="b"}')


def test_selectors_come_in_the_order_of_the_text() -> None:
    expr = parse('sum(rate(a[5m])) / b{job="x"} and topk(scalar(c), d) > 1')
    assert [selector.name for selector in selectors(expr)] == ["a", "b", "c", "d"]


def test_every_nan_literal_is_the_same() -> None:
    assert parse("NaN") == Number(math.nan)
