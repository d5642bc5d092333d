import math

from hypothesis import given
from hypothesis import strategies as st

from dashboard import theme
from dashboard.figures import chart, heat, series, stack
from dashboard.figures.chart import Clock, Mark
from dashboard.view import Window

WINDOW = Window(1_795_206_600, 1_795_206_660, 15)
CLOCK = Clock(WINDOW)
ROW = [1.0, 2.0, None, 4.0, 5.0]


def test_a_line_is_x0_and_dx_and_never_a_list_of_times():
    trace = chart.line(CLOCK, "a", ROW, theme.BLUE)
    assert (trace["x0"], trace["dx"]) == (1_795_206_600_000, 15_000)
    assert "x" not in trace


def test_gaps_stay_gaps():
    assert chart.line(CLOCK, "a", ROW, theme.BLUE)["y"] == [1.0, 2.0, None, 4.0, 5.0]


def test_the_axis_spans_the_window():
    assert chart.layout(CLOCK, height=100)["xaxis"]["range"] == [1_795_206_600_000, 1_795_206_660_000]


def test_every_chart_is_a_plain_dict_of_svg_scatter():
    figure = series.lines({"a": ROW, "b": ROW}, CLOCK, series.colors(["a", "b"]), height=100, limit=3)
    assert [trace["type"] for trace in figure["data"]] == ["scatter", "scatter"]
    assert type(figure) is dict


def test_a_limit_is_drawn_and_kept_in_sight():
    figure = series.lines({"a": [1.0] * 5}, CLOCK, {}, height=100, limit=8, floor_top=8.5, tint=True)
    assert figure["layout"]["yaxis"]["range"][1] > 8
    assert [shape["type"] for shape in figure["layout"]["shapes"]] == ["rect", "line"]


def test_at_most_six_series_are_drawn_and_the_rest_is_summed():
    rows = {f"p{index}": [float(index)] * 2 for index in range(9)}
    kept = series.top(rows)
    assert list(kept) == ["p4", "p5", "p6", "p7", "p8", "other"]
    assert kept["other"] == [6.0, 6.0]


def test_quantiles_are_never_summed():
    rows = {f"p{index}": [float(index)] for index in range(9)}
    assert list(series.highest(rows)) == ["p3", "p4", "p5", "p6", "p7", "p8"]


def test_a_pool_keeps_its_colour_on_every_panel():
    palette = series.colors(["a", "b", "c"])
    assert series.lines({"c": ROW}, CLOCK, palette, height=90)["data"][0]["line"]["color"] == theme.SERIES[2]


def test_state_colours_are_no_series_colours():
    assert not {theme.BREACH, theme.WARN} & set(theme.SERIES)


def test_the_fan_draws_p95_heaviest():
    figure = series.fan({"p50": ROW, "p95": ROW, "p99": ROW}, CLOCK, chart.SECONDS, height=90, limit=0.8)
    traces = {trace["name"]: trace for trace in figure["data"] if "name" in trace}
    assert traces["p95"]["line"]["width"] == max(trace["line"]["width"] for trace in traces.values())


def test_the_fans_band_stops_at_a_gap():
    row = [1.0, 2.0, None, 4.0, 5.0, None, 7.0]
    figure = series.fan({"p50": row, "p99": row}, CLOCK, chart.SECONDS, height=90, limit=None)
    band = [trace for trace in figure["data"] if trace.get("fill")]
    assert [trace["y"] for trace in band] == [[1.0, 2.0], [4.0, 5.0]]
    assert [trace["x0"] for trace in band] == [1_795_206_600_000, 1_795_206_645_000]


def test_only_marks_within_the_window_are_drawn():
    figure = series.lines(
        {"a": ROW}, CLOCK, {}, height=90, marks=[Mark(1.0, "deploy", "old"), Mark(1_795_206_630, "deploy", "v2")]
    )
    assert len(figure["layout"]["shapes"]) == 1


def test_the_residual_is_what_no_phase_explains():
    assert stack.residual([10.0, None, 5.0, 1.0], [[2.0, 1.0, None, 1.0], [3.0, 1.0, 1.0, 1.0]]) == [
        5.0,
        None,
        None,
        0.0,
    ]


def test_buckets_come_apart_and_empty_ends_are_dropped():
    buckets = heat.apart({0.1: [0.0, 0.0], 0.5: [3.0, 1.0], 1.0: [4.0, 1.0], math.inf: [4.0, 1.0]})
    assert buckets.bounds_s == (0.5, 1.0)
    assert buckets.rates == ((3.0, 1.0), (1.0, 0.0))


def test_no_observation_is_no_heat():
    assert heat.apart({0.1: [0.0, None], math.inf: [0.0, None]}) == heat.Buckets((), ())


@given(st.lists(st.floats(0.001, 100), min_size=1, max_size=80), st.integers(1, 4))
def test_merging_buckets_loses_no_request(rates, steps):
    bounds = tuple(float(index + 1) for index in range(len(rates)))
    merged = heat.merged(heat.Buckets(bounds, tuple((rate,) * steps for rate in rates)))
    assert len(merged.bounds_s) <= heat.MAX_ROWS
    assert math.isclose(sum(row[0] or 0 for row in merged.rates), sum(rates), rel_tol=1e-9)
    assert merged.bounds_s[-1] == bounds[-1]


def test_a_threshold_lies_between_the_bounds_around_it():
    assert heat.place((0.5, 1.0, 2.0), 0.75) == 1.5
    assert heat.place((0.5, 1.0), 3.0) is None
    assert heat.place((0.5, math.inf), 3.0) is None


VALUES = st.one_of(st.none(), st.floats(-1e300, 1e300), st.integers(-(10**12), 10**12))


@given(st.lists(VALUES, max_size=60))
def test_values_are_drawn_to_five_significant_digits(values):
    for value, drawn in zip(values, chart.rounded(values), strict=True):
        if value is None:
            assert drawn is None
        else:
            assert math.isclose(drawn, value, rel_tol=5.001e-5, abs_tol=1e-300)
            assert len(f"{drawn:.10e}".split("e")[0].rstrip("0").replace(".", "").lstrip("-")) <= 5


def test_what_is_not_finite_is_a_gap():
    assert chart.rounded([1.0, math.nan, math.inf, -math.inf, 0.0]) == [1.0, None, None, None, 0.0]
