import pytest

from collector.model.labels import from_mapping
from dashboard import judge
from dashboard.source import Answer, Line
from dashboard.view import View, Window
from planner.slo import Slo

WINDOW = Window(0, 60, 15)
SLO = Slo()
SHARES = ("within.ttft", "within.itl", "within.tpot", "within.e2e_latency", "within.success")


def answer(**rows):
    return Answer(lines=tuple(Line(from_mapping({"pool": pool}), values) for pool, values in rows.items()))


def promises(view=None, budgets=None, **answers):
    given = {name: answer(a=[1.0] * 5) for name in SHARES}
    given |= {"ttft.p95": answer(a=[0.2] * 5), "itl.p95": answer(a=[0.02] * 5), "e2e_latency.p95": answer(a=[3.0] * 5)}
    given |= {name.replace("__", "."): value for name, value in answers.items()}
    left = {name: answer(a=[1.0]) for name in SHARES} | (budgets or {})
    return {one.key: one for one in judge.promises(given, left, SLO, view or View(), WINDOW)}


def test_five_promises_that_are_kept():
    found = promises()
    assert [one.title for one in found.values()] == ["TTFT p95", "ITL p95", "E2E p95", "Success", "Goodput"]
    assert {one.state for one in found.values()} == {"ok"}


def test_the_worst_pool_stands_for_all():
    ttft = promises(ttft__p95=answer(a=[0.2] * 5, b=[0.9] * 5, c=[0.1] * 5))["ttft"]
    assert (ttft.pool, ttft.value, ttft.state) == ("b", 0.9, "breach")


def test_pools_that_are_not_shown_do_not_count():
    ttft = promises(View(pools=("a",)), ttft__p95=answer(a=[0.2] * 5, b=[0.9] * 5))["ttft"]
    assert (ttft.pool, ttft.state) == ("a", "ok")


def test_a_breach_lasts_since_the_last_good_value():
    assert promises(ttft__p95=answer(a=[0.9, 0.2, 0.9, None, 0.9]))["ttft"].broken_s == 30


def test_close_to_the_limit_is_at_risk():
    assert promises(ttft__p95=answer(a=[0.75] * 5))["ttft"].state == "warn"


def test_a_spent_budget_is_at_risk_and_what_is_left_is_told():
    half = promises(budgets={"within.ttft": answer(a=[0.975])})["ttft"]
    assert half.budget_left == pytest.approx(0.5)
    spent = promises(budgets={"within.ttft": answer(a=[0.9])})["ttft"]
    assert spent.budget_left == pytest.approx(-1.0)
    assert spent.state == "warn"


def test_success_is_broken_from_below():
    assert promises(within__success=answer(a=[0.99] * 5))["success"].state == "breach"


def test_goodput_is_exact_where_only_one_promise_is_missed():
    goodput = promises(within__ttft=answer(a=[0.97] * 5))["goodput"]
    assert (goodput.value, goodput.bound, goodput.state) == (0.97, "", "ok")


def test_goodput_is_a_lower_bound_where_misses_may_fall_on_different_requests():
    goodput = promises(within__ttft=answer(a=[0.97] * 5), within__e2e_latency=answer(a=[0.96] * 5))["goodput"]
    assert goodput.value == pytest.approx(0.93)
    assert (goodput.bound, goodput.state) == ("≥", "warn")


def test_goodput_is_broken_where_even_the_upper_bound_misses():
    goodput = promises(within__ttft=answer(a=[0.9] * 5), within__e2e_latency=answer(a=[0.8] * 5))["goodput"]
    assert (goodput.value, goodput.bound, goodput.state) == (0.8, "≤", "breach")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (Answer(absent="not exposed: x"), "not exposed: x"),
        (Answer(error="http://s: no answer"), "http://s: no answer"),
        (Answer(), "no samples in this time"),
        (answer(a=[None] * 5), "idle: nothing happened in this time"),
        (answer(b=[1.0] * 5), "the pools chosen have no such series"),
    ],
)
def test_a_tile_without_a_value_says_why(given, why):
    found = promises(View(pools=("a",)), ttft__p95=given)["ttft"]
    assert (found.state, found.why) == ("none", why)
