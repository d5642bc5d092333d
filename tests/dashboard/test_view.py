import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.promql import parse as parse_promql
from dashboard.errors import ViewError
from dashboard.view import MAX_POINTS, View, Window, fitting, matcher, parse, promql_duration


def test_an_empty_address_is_the_last_hour_of_all_pools():
    assert parse("") == View()
    assert parse(None).wants("anything")


def test_a_range_and_pools_are_read():
    view = parse("?range=6h&pool=a&pool=b&pool=a")
    assert (view.range_s, view.pools) == (21_600, ("a", "b"))
    assert view.wants("a")
    assert not view.wants("c")


def test_fixed_ends_make_a_window_that_does_not_move():
    window = parse("from=1795206600&to=1795210200").window(now_s=2e9)
    assert window == Window(1_795_206_600, 1_795_210_200, 15, live=False)


@pytest.mark.parametrize(
    "search", ["range=2x", "range=1s", "range=9999d", "from=1", "from=a&to=b", "from=10&to=20", "to=5&from=9"]
)
def test_what_cannot_be_read_is_named(search):
    with pytest.raises(ViewError, match=search[:3].split("=")[0][:2]):
        parse(search)


@pytest.mark.parametrize(("text", "step"), [("15m", 5), ("1h", 15), ("6h", 120), ("24h", 600), ("7d", 3600)])
def test_a_live_window_ends_now_however_long_its_steps(text, step):
    window = parse(f"range={text}").window(now_s=1_795_210_203.7)
    assert window.step_s == step
    assert window.span_s % step == 0
    assert window.end_s % min(step, 15) == 0
    assert window.end_s <= 1_795_210_203.7 < window.end_s + min(step, 15)


@given(st.integers(60, 366 * 86_400))
def test_no_window_has_more_points_than_a_screen_shows(span_s):
    window = View(range_text="", range_s=span_s).window(1_795_210_200.0)
    assert 2 <= window.points <= MAX_POINTS + 1
    assert len(window.times_s()) == window.points


def test_the_address_holds_only_what_is_not_the_default():
    assert View().search() == ""
    assert parse("range=6h&pool=a b").search() == "?range=6h&pool=a+b"
    assert View().search(pool="x") == "?pool=x"
    assert parse("from=1795206600&to=1795210200").search() == "?from=1795206600&to=1795210200"


@given(
    st.sampled_from(["15m", "6h", "7d"]),
    st.lists(st.text("abc/:&=? %", min_size=1, max_size=8), unique=True, max_size=3),
)
def test_an_address_reads_back_as_it_was_written(text, pools):
    view = parse(f"range={text}")
    view = View(view.range_text, view.range_s, pools=tuple(pools), chosen=True)
    assert parse(view.search()) == view


def test_filters_become_matchers_in_canonical_names():
    view = parse("?pool=a&replica=x.y:1&replica=b:2&tenant=t")
    assert view.where == r'pool="a",instance=~"x\\.y:1|b:2",tenant="t"'
    assert view.search() == "?pool=a&replica=x.y%3A1&replica=b%3A2&tenant=t"


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=3, unique=True))
def test_a_matcher_fits_its_values_and_nothing_else(values):
    read = parse_promql(f"m{{{matcher('pool', values)}}}").matchers
    wanted = next(one for one in read if one.name == "pool")
    assert all(wanted.matches(value) for value in values)
    assert not wanted.matches("".join(values) + "x")


def test_what_only_a_page_reads_is_its_own():
    assert parse("?expr=up&pool=a&m=table").own == {"expr": "up", "m": "table"}


def test_a_young_source_is_shown_in_the_shortest_range_that_holds_it():
    assert fitting(parse(""), 1000.0, 1200.0).range_text == "5m"
    assert fitting(parse(""), 1000.0, 1800.0).range_text == "15m"
    assert fitting(parse(""), 0.0, 3000.0).range_text == "1h"
    assert fitting(parse("range=1h"), 1000.0, 1300.0).range_text == "1h"
    assert fitting(parse(""), None, 1300.0).range_text == "1h"


def test_a_duration_takes_the_largest_unit_that_divides_it():
    assert [promql_duration(s) for s in (60, 90, 7200, 86_400)] == ["1m", "90s", "2h", "1d"]
