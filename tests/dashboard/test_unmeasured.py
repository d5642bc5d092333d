"""The stretch before measurements began is shaded on every chart, and never on one that has nothing to draw."""

from dashboard.figures import chart
from dashboard.figures.chart import Clock
from dashboard.figures.stack import stacked
from dashboard.view import Window

WINDOW = Window(1000, 1900, 5)


def shades(clock):
    return [shape for shape in chart.layout(clock, height=100)["shapes"] if shape["type"] == "rect"]


def test_what_lies_before_the_first_scrape_is_shaded_and_named():
    (shade,) = shades(Clock(WINDOW, 1700.0))
    assert (shade["x0"], shade["x1"]) == (1_000_000, 1_700_000)
    assert shade["label"]["text"] == "not measured yet"


def test_a_narrow_shade_has_no_words_and_a_source_old_enough_no_shade():
    assert shades(Clock(WINDOW, 1100.0))[0]["label"] == {}
    assert shades(Clock(WINDOW, 1010.0)) == shades(Clock(WINDOW, None)) == []


def test_an_empty_chart_is_not_shaded_beneath_its_reason():
    assert chart.blank(Clock(WINDOW, 1700.0), height=100)["layout"]["shapes"] == []


def test_a_stack_begins_with_its_first_sample():
    rows = {"a": [None, None, 1.0, 2.0], "b": [None, 3.0, 1.0, None]}
    data = stacked(rows, {}, Clock(Window(0, 15, 5)), chart.PLAIN, height=100)["data"]
    assert [(trace["x0"], trace["y"]) for trace in data] == [(5000, [None, 1.0, 2.0]), (5000, [3.0, 1.0, None])]


def test_an_axis_of_zeros_is_not_measured_in_billionths():
    assert chart.top_of([[0.0, 0.0]]) == 1.0
