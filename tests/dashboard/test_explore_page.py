import pytest

from dashboard.pages.explore import mistake, named, written
from dashboard.source import Line


@pytest.fixture
def explore(source, page_of):
    return page_of(source, "ex-stamp")


def test_a_query_is_drawn_and_tabled_with_the_apis_values(explore, read, source):
    boxes = explore.ask("?expr=sum+by+(model_name)+(loadline_num_requests_running)")
    traces = boxes["ex-plot-graph"]["figure"]["data"]
    assert [trace["name"] for trace in traces] == [
        f'{{model_name="{name}"}}' for name in ("llama-70b", "mixtral-8x22b", "qwen-32b")
    ]
    value = source.client.query('sum(loadline_num_requests_running{model_name="qwen-32b"})', 1_795_210_200)[0].value
    assert f"qwen-32b {value:g}" in read(boxes["ex-table"]["children"])
    assert read(boxes["ex-table-sub"]["children"]) == "3 series"


def test_a_mistake_is_pointed_at(explore, read):
    box = explore.ask("?expr=sum(rate(up)")["ex-error"]["children"]
    message, pre = box["props"]["children"]
    assert read(message) == "1:13: parse error: unclosed left parenthesis"
    assert pre["props"]["children"].splitlines()[1].index("^") == 12


def test_an_address_with_a_port_is_no_place():
    assert "^" not in str(mistake("up", "http://127.0.0.1:9190: connection refused"))


def test_without_a_query_the_page_says_what_to_do(explore, read):
    assert "write a query above" in read(explore.ask()["ex-table"]["children"])


def test_a_query_without_series_says_so(explore, read):
    boxes = explore.ask("?expr=nothing_of_the_kind")
    assert boxes["ex-error"]["children"] is None
    assert "no series in this range" in read(boxes["ex-plot-note"]["children"])


def test_a_scalar_is_a_series_too(explore, read):
    assert "2" in read(explore.ask("?expr=1%2B1")["ex-table"]["children"])


def test_values_below_zero_are_not_cut(explore):
    axis = explore.ask("?expr=-up")["ex-plot-graph"]["figure"]["layout"]["yaxis"]
    assert axis["rangemode"] == "normal"


def test_many_series_are_cut_and_counted(explore, read):
    boxes = explore.ask("?expr=loadline_time_to_first_token_seconds_bucket")
    assert len(boxes["ex-plot-graph"]["figure"]["data"]) == 24
    assert read(boxes["ex-plot-sub"]["children"]).startswith("24 of ")


def test_series_are_named_by_what_tells_them_apart():
    rows = named([Line((("a", "1"), ("b", "2")), [1.0]), Line((("a", "1"), ("b", "3")), [1.0])])
    assert list(rows) == ['{b="2"}', '{b="3"}']
    assert written((("__name__", "up"), ("job", "x"))) == 'up{job="x"}'


def test_the_names_for_completion_are_those_of_the_source(explore):
    names = explore.client.get("/data/names").get_json()
    assert "loadline_num_requests_running" in names
