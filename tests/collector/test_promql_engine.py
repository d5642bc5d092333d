import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.model.errors import LimitError, QueryError
from collector.model.labels import Labels, from_mapping
from collector.model.series import STALE_NAN, SeriesGroup
from collector.promql import Engine, Limits, Result
from collector.promql.calls import CALLS
from collector.promql.coverage import page
from collector.promql.functions import FUNCTIONS as SIGNATURES

SPEC = importlib.util.spec_from_file_location("promql_cases", Path(__file__).with_name("promql_cases.py"))
assert SPEC and SPEC.loader
cases = importlib.util.module_from_spec(SPEC)
sys.modules["promql_cases"] = cases
SPEC.loader.exec_module(cases)

STEP_MS = 15_000


class Groups:
    """A Querier that answers the same groups to every selector, cut to the times asked for."""

    def __init__(self, *groups: SeriesGroup) -> None:
        self.groups = groups
        self.asked: list[tuple[int, int]] = []

    def select(self, matchers: object, start_ms: int, end_ms: int) -> list[SeriesGroup]:
        self.asked.append((start_ms, end_ms))
        out = []
        for group in self.groups:
            rows = (group.timestamps_ms >= start_ms) & (group.timestamps_ms <= end_ms)
            out.append(SeriesGroup(group.labels, group.timestamps_ms[rows], group.values[rows]))
        return out


def grouped(values: np.ndarray, name: str = "x_total") -> Groups:
    """One scrape group of (steps, series) values, 15 s apart."""
    labels = tuple(from_mapping({"__name__": name, "n": str(number)}) for number in range(values.shape[1]))
    return Groups(SeriesGroup(labels, STEP_MS * np.arange(len(values), dtype=np.int64), values))


def by_series(result: Result) -> dict[Labels, dict[int, float]]:
    return {
        one.labels: dict(zip(one.timestamps_ms.tolist(), one.values.tolist(), strict=True)) for one in result.series
    }


def ragged(querier: Groups) -> object:
    """The same samples, one group per series, stale markers kept."""
    series = {}
    for group in querier.groups:
        for column, labels in enumerate(group.labels):
            series[labels] = dict(zip(group.timestamps_ms.tolist(), group.values[:, column].tolist(), strict=True))
    memory = cases.MemoryQuerier(series)
    for labels, points in memory.series.items():
        column = next(g.values[:, g.labels.index(labels)] for g in querier.groups if labels in g.labels)
        stale = np.ascontiguousarray(column).view(np.uint64) == np.array([STALE_NAN]).view(np.uint64)[0]
        memory.series[labels] = {time: points[time] for time, hole in zip(points, stale, strict=True) if not hole}
    return memory


def test_a_stale_series_leaves_the_instant_vector() -> None:
    querier = grouped(np.array([[1.0, 2.0], [3.0, STALE_NAN]]))
    assert len(Engine().instant(querier, "x_total", 10_000).series) == 2
    assert [one.labels for one in Engine().instant(querier, "x_total", 20_000).series] == [
        from_mapping({"__name__": "x_total", "n": "0"})
    ]


def test_a_nan_sample_is_a_sample() -> None:
    result = Engine().instant(grouped(np.array([[math.nan]])), "x_total", 0)
    assert math.isnan(result.series[0].values[0])


def test_a_sample_as_old_as_the_lookback_is_gone_in_prometheus_3_and_there_in_2() -> None:
    querier = grouped(np.array([[1.0]]))
    assert not Engine().instant(querier, "x_total", 300_000).series
    assert Engine(left_open=False).instant(querier, "x_total", 300_000).series


def test_ranges_leave_their_left_end_out_unless_told_otherwise() -> None:
    querier = grouped(np.arange(10.0)[:, None])
    counted = Engine().instant(querier, "count_over_time(x_total[1m])", 120_000)
    assert counted.series[0].values[0] == 4
    assert Engine(left_open=False).instant(querier, "count_over_time(x_total[1m])", 120_000).series[0].values[0] == 5


def test_one_select_serves_all_steps_of_a_selector() -> None:
    querier = grouped(np.arange(100.0)[:, None])
    Engine().range(querier, "rate(x_total[1m])", 600_000, 1_200_000, 60_000)
    assert querier.asked == [(540_001, 1_200_000)]


HOLES = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, 5.0, -2.5, math.nan, STALE_NAN]), min_size=4, max_size=4), min_size=3
)
FUNCTIONS = st.sampled_from([
    "rate(x_total[1m])", "increase(x_total[45s])", "delta(x_total[2m])", "irate(x_total[1m])", "resets(x_total[2m])",
    "changes(x_total[2m])", "sum_over_time(x_total[1m])", "avg_over_time(x_total[1m])", "max_over_time(x_total[1m])",
    "quantile_over_time(0.3, x_total[2m])", "stddev_over_time(x_total[1m])", "last_over_time(x_total[1m])",
    "deriv(x_total[2m])", "count_over_time(x_total[1m:10s])", "sum(count_over_time(x_total[1m]))",
])  # fmt: skip


@given(HOLES, FUNCTIONS.filter(lambda text: ":" not in text))
def test_a_matrix_with_holes_gives_what_its_series_give_alone(rows: list[list[float]], text: str) -> None:
    querier = grouped(np.array(rows))
    together = by_series(Engine().range(querier, text, 0, 120_000, 20_000))
    alone = by_series(Engine().range(ragged(querier), text, 0, 120_000, 20_000))
    assert set(together) == set(alone)
    for labels, points in alone.items():
        assert set(points) == set(together[labels])
        assert all(cases.is_close(points[time], together[labels][time], 1e-12) for time in points)


@given(st.integers(0, 10), st.integers(1, 7), FUNCTIONS)
def test_a_range_query_is_instant_queries_side_by_side(start: int, step: int, text: str) -> None:
    rng = np.random.default_rng(start)
    values = np.cumsum(rng.poisson(2.0, (40, 3)), axis=0).astype(float)
    values[20:, 1] -= values[19, 1]
    values[10:15, 2] = STALE_NAN
    querier = grouped(values)
    times = range(start * 10_000, 500_000, step * 10_000)
    ranged = by_series(Engine().range(querier, text, times[0], times[-1], step * 10_000))
    for time in times:
        now = by_series(Engine().instant(querier, text, time))
        assert set(now) == {labels for labels, points in ranged.items() if time in points}
        assert all(cases.is_close(points[time], ranged[labels][time], 1e-12) for labels, points in now.items())


def test_many_counter_resets_are_summed_as_few_are() -> None:
    values = np.tile([[5.0], [1.0]], (3000, 1))
    result = Engine().instant(grouped(values), "increase(x_total[25h])", STEP_MS * 5999)
    assert cases.is_close(result.series[0].values[0], 14_996.0, 1e-3)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_samples=10), "max_samples"),
        (Limits(max_series=1), "max_series"),
        (Limits(max_points_per_series=3), "max_points_per_series"),
        (Limits(timeout_s=-1), "timeout_s"),
    ],
)
def test_a_limit_is_named_in_its_error(limits: Limits, reason: str) -> None:
    querier = grouped(np.ones((20, 2)))
    with pytest.raises(LimitError, match=reason):
        Engine(limits).range(querier, "x_total", 0, 300_000, 15_000)


def test_a_query_that_runs_too_long_is_stopped() -> None:
    ticks = iter(range(0, 1000, 50))
    engine = Engine(Limits(timeout_s=120), clock=lambda: float(next(ticks)))
    with pytest.raises(LimitError, match="timeout_s") as caught:
        engine.instant(grouped(np.ones((2, 1))), "x_total + x_total + x_total", 0)
    assert caught.value.kind == "timeout"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x_total * on() x_total", "many-to-many matching not allowed"),
        ('label_replace(x_total, "n", "", "", "")', "same labelset"),
        ("topk(NaN, x_total)", "Parameter value is NaN"),
    ],
)
def test_an_evaluation_error_names_the_query_and_the_reason(text: str, reason: str) -> None:
    with pytest.raises(QueryError, match=reason) as caught:
        Engine().instant(grouped(np.ones((2, 2))), text, 15_000)
    assert repr(text) in str(caught.value)


def test_nesting_that_the_stack_cannot_hold_is_a_limit_and_not_a_crash() -> None:
    text = "abs(1+1+" * 99 + "x_total" + ")" * 99

    def from_depth(depth: int) -> Result:
        return from_depth(depth - 1) if depth else Engine().instant(grouped(np.ones((1, 1))), text, 0)

    with pytest.raises(LimitError, match="nested too deep"):
        from_depth(600)


def test_a_rate_of_what_is_not_called_a_counter_gets_an_info() -> None:
    result = Engine().instant(grouped(np.ones((9, 1)), "x"), "rate(x[1m])", 120_000)
    assert "might not be a counter" in result.infos[0]
    assert not result.warnings


def test_a_fixed_selector_inside_a_range_query_is_read_once_and_spread() -> None:
    querier = grouped(np.arange(40.0)[:, None])
    result = Engine().range(querier, "sum(x_total @ 60)", 0, 300_000, 60_000)
    assert result.series[0].values.tolist() == [4.0] * 6
    assert len(querier.asked) == 1


def test_fills_stand_in_for_the_side_that_is_missing() -> None:
    left = {from_mapping({"__name__": "a", "n": "1"}): {0: 1.0}, from_mapping({"__name__": "a", "n": "2"}): {0: 2.0}}
    right = {from_mapping({"__name__": "b", "n": "2"}): {0: 5.0}, from_mapping({"__name__": "b", "n": "3"}): {0: 7.0}}
    result = by_series(Engine().instant(cases.MemoryQuerier(left | right), "a + fill(10) b", 0))
    assert {labels[0][1]: points[0] for labels, points in result.items()} == {"1": 11.0, "2": 7.0, "3": 17.0}


def test_limitk_keeps_k_series_of_each_group_and_limit_ratio_splits_them() -> None:
    querier = grouped(np.ones((1, 40)))
    assert len(Engine().instant(querier, "limitk(3, x_total)", 0).series) == 3
    some = set(by_series(Engine().instant(querier, "limit_ratio(0.3, x_total)", 0)))
    rest = set(by_series(Engine().instant(querier, "limit_ratio(-0.7, x_total)", 0)))
    assert some.isdisjoint(rest)
    assert len(some | rest) == 40


def test_a_range_vector_alone_answers_its_raw_samples() -> None:
    result = Engine().instant(grouped(np.arange(10.0)[:, None]), "x_total[1m]", 60_000)
    assert result.kind == "matrix"
    assert result.series[0].values.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_every_function_that_is_read_is_evaluated_and_told_in_the_page_of_what_is_covered() -> None:
    assert set(CALLS) == set(SIGNATURES)
    told = page()
    assert "refused |" not in told
    assert all(f"`{name}(" in told for name in SIGNATURES)


def test_a_remark_names_the_place_that_it_is_about() -> None:
    result = Engine().instant(grouped(np.ones((9, 1)), "x"), "1 +\n  rate(x[1m])", 100_000)
    told = 'metric might not be a counter, name does not end in _total/_sum/_count/_bucket: "x" (2:8)'
    assert result.infos == (f"PromQL info: {told}",)


def test_a_raw_range_with_its_ends_is_shown_as_functions_see_it() -> None:
    querier = grouped(np.arange(20.0)[:, None])
    (series,) = Engine().instant(querier, "x_total[40s] anchored", 100_000).series
    assert series.timestamps_ms.tolist() == [60_000, 75_000, 90_000, 100_000]
    assert series.values.tolist() == [4.0, 5.0, 6.0, 6.0]
    (series,) = Engine().instant(querier, "x_total[40s] smoothed", 100_000).series
    assert series.values.tolist() == [4.0, 5.0, 6.0, pytest.approx(100 / 15)]


def test_a_query_tells_how_many_samples_it_held_at_once() -> None:
    querier = grouped(np.arange(8.0).reshape(4, 2))
    engine = Engine(count_steps=True)
    engine.range(querier, "x_total + x_total", 0, 3 * STEP_MS, STEP_MS)
    assert engine.effort is not None
    assert engine.effort.most_held == 8 + 8 + 8  # the left side's values, what the right one reads, what it becomes
    assert engine.effort.looked_at is not None
    assert engine.effort.looked_at.tolist() == [4, 4, 4, 4]
    engine.instant(querier, "sum(sum_over_time(x_total[30s]))", 3 * STEP_MS)
    assert engine.effort.most_held == 4 + 2
    assert engine.effort.looked_at.tolist() == [4]
