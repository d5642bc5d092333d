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
    DurationTerm,
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
TERMS = st.recursive(
    st.sampled_from([DurationTerm("step"), DurationTerm("range")]),
    lambda terms: (
        st.builds(DurationTerm, st.just("-"), st.tuples(terms))
        | st.builds(
            DurationTerm,
            st.sampled_from(["+", "-", "*", "/", "%", "^", "min_of", "max_of"]),
            st.tuples(terms, terms | st.sampled_from([30.0, 0.5, 60.0])),
        )
    ),
    max_leaves=4,
)
"""Duration arithmetic that depends on the query."""
LABEL_LISTS = st.lists(LABEL_NAMES, max_size=2, unique=True).map(tuple)


@st.composite
def vector_selectors(draw: st.DrawFn) -> VectorSelector:
    matchers = [Matcher("__name__", "=", draw(NAMES))]
    for name in draw(LABEL_LISTS):
        matchers.append(Matcher(name, draw(st.sampled_from(["=", "!="])), draw(TEXTS)))
    offset = draw(st.none() | TERMS)
    extension = draw(st.sampled_from(["", "anchored", "smoothed"]))
    return VectorSelector(tuple(matchers), 0 if offset else draw(OFFSETS), draw(TIMES), extension, offset)


NUMBERS = st.floats().map(Number)
SCALARS = NUMBERS | st.builds(Call, st.sampled_from(["time", "pi"]))


def matrices(vectors: st.SearchStrategy[Expr]) -> st.SearchStrategy[Expr]:
    return (
        st.builds(MatrixSelector, vector_selectors(), DURATIONS)
        | st.builds(MatrixSelector, vector_selectors(), st.just(0), TERMS)
        | st.builds(Subquery, vectors, DURATIONS, st.none() | DURATIONS, OFFSETS, TIMES)
        | st.builds(Subquery, vectors, st.just(0), st.just(0), OFFSETS, TIMES, TERMS, TERMS)
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
        ("x[-(1m - 2m) * 2 ^ 2]", "x[4m]"),
        ("x[step() + 1m:min_of(step(), 1h)]", "x[step() + 60:min_of(step(), 3600)]"),
        ("x offset (5m * 2)", "x offset 10m"),
        ("x offset -step()", "x offset (-step())"),
        ("x offset 1m + 1m", "x offset 1m + 60"),
        ("x[5m] anchored @ 1 offset 1m", "x[5m] anchored @ 1.000 offset 1m"),
        ("a + fill_right(1) fill_left(-2) b", "a + fill_left (-2) fill_right (1) b"),
        ("5m + 0x1F + 1e3", "300 + 31 + 1000"),
        ("a - b # comment\n- c", "a - b - c"),
        ("2^3^2", "2 ^ 3 ^ 2"),
        ("-a * b", "(-a) * b"),
        ("a % b atan2 c", "a % b atan2 c"),
        ('sum by (job, "a b",) (x)', 'sum by (job, "a b") (x)'),
        ("offset{by='1'}", '{__name__="offset",by="1"}'),
        ("x @ end()", "x @ end()"),
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
        ("sum(x", "1:6: parse error: unclosed left parenthesis"),
        ("x)", "1:2: parse error: unexpected right parenthesis '\\)'"),
        ("x{", "unexpected end of input inside braces"),
        ("sum by (a) x", '1:12: parse error: unexpected identifier "x" in aggregation, expected "\\("'),
        ('x{a="b" or c="d"}', '1:9: parse error: unexpected <op:or> in label matching, expected "," or "}"'),
        ("nope(x)", '1:1: parse error: unknown function with name "nope"'),
        ("x[0s]", "1:3: parse error: duration must be greater than 0"),
        ('x{a=~"("}', "1:3: parse error: error parsing regexp"),
        ("rate(x)", '1:6: parse error: expected type range vector in call to function "rate", got instant vector'),
        ("sum(\n  rate(x)\n)", "2:8: parse error: expected type range vector"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ('a{__name__="b"}', 'metric name must not be set twice: "a" or "b"'),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("a and 1", 'set operator "and" not allowed in binary scalar expression'),
        ("a and on(x) group_left b", 'no grouping allowed for "and" operation'),
        ("a * on(x) group_left(x) b", 'label "x" must not occur in ON and GROUP clause at once'),
        ("a + fill(0) 1", "filling in missing series only allowed between instant vectors"),
        ("a or fill(0) b", "filling in missing series not allowed for set operators"),
        ('"a" + b', "binary expression must contain only scalar and instant vector types"),
        ("-x[5m]", 'unary expression only allowed on expressions of type scalar or instant vector, got "range vector"'),
        ("topk(a)", "wrong number of arguments for aggregate expression provided, expected 2, got 1"),
        ("sum()", "no arguments for aggregate expression provided"),
        ('topk("a", b)', "expected type scalar in aggregation parameter, got string"),
        ("abs(a, b)", r'expected 1 argument\(s\) in call to "abs", got 2'),
        ("label_join(a)", r'expected at least 3 argument\(s\) in call to "label_join", got 1'),
        ("round(a, 1, 2)", r'expected at most 2 argument\(s\) in call to "round", got 3'),
        ("abs(a,)", "1:6: parse error: trailing commas not allowed in function call args"),
        ("(a)[5m]", "1:4: parse error: ranges only allowed for vector selectors"),
        ("a offset 1m [5m]", "no offset modifiers allowed before range"),
        ("a @ 1 [5m]", "no @ modifiers allowed before range"),
        ("a offset 1m offset 2m", "offset may not be set multiple times"),
        ("a @ 1 @ 2", "@ <timestamp> may not be set multiple times"),
        ("1 offset 1m", "offset modifier must be preceded by"),
        ("1[5m:1m]", "subquery is only allowed on instant vector, got scalar instead"),
        ("a[5m", "unexpected end of input inside brackets"),
        ("a[b]", 'unexpected identifier "b" in subquery or range selector, expected number, duration'),
        ("a[5m/0]", "1:5: parse error: division by zero"),
        ("a smoothed anchored", "anchored and smoothed modifiers cannot be used together"),
        ("avg_over_time(a[5m] smoothed)", "smoothed modifier can only be used with: delta, increase, rate - not with"),
        ("a[5m:1m] anchored", "anchored modifier is not supported for subqueries"),
        ("info(a, b)", "expected label selectors only, got vector selector instead"),
        ("a </ 1", "the operator </ is for native histograms, which are not kept"),
        ("5x", 'bad number or duration syntax: "5x"'),
        ('"a', "1:1: parse error: unterminated quoted string"),
        ("`a", "unterminated raw string"),
        (r'"\q"', "error unquoting string: invalid syntax"),
        ("a ! b", "unexpected character after '!'"),
        ("a ; b", "1:3: parse error: unexpected character: ';'"),
        ("a b", '1:3: parse error: unexpected identifier "b"'),
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
def test_text_that_would_fill_the_stack_is_refused_by_a_limit(text: str, limit: str) -> None:
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
