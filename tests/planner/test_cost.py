from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.answers.cost import cost_report
from planner.cost import Plan, break_even, cheapest, load_prices, tornado
from planner.errors import CostError

CLAIMS = Path(__file__).parents[2] / "samples" / "cost" / "claims.toml"


def plan(name: str, fixed: float = 0, per_1k: float = 0, **more: object) -> Plan:
    kind = {"name": name, "kind": "self_hosted", "fixed_usd_per_month": str(fixed), "usd_per_1k_tokens": str(per_1k)}
    return Plan.model_validate({**kind, **more})


def test_the_sample_breaks_even_exactly_where_its_prices_say() -> None:
    api, hybrid, own = load_prices(CLAIMS).plan
    assert break_even(api, hybrid).crossovers[0].tokens == 500_000_000
    assert break_even(api, own).crossovers[0].tokens == Fraction(10_000_000_000, 7)
    assert break_even(hybrid, own).crossovers[0].tokens == 3_750_000_000


def test_the_sample_report_holds_the_claims_against_the_truth() -> None:
    findings = "\n".join(cost_report(load_prices(CLAIMS), "claims.toml", None).findings)
    assert "Hybrid breaks even with API at 500 K tokens a day; true: 16.67 M tokens a day, 33.33 times" in findings
    assert "Self-hosted breaks even with API at 2 M tokens a day; true: 47.62 M tokens a day, 23.81 times" in findings
    assert "Hybrid from 500 M tokens a month (16.67 M tokens a day), Self-hosted from 3.75 B" in findings


def test_bills_at_the_claimed_volumes_are_those_of_the_prices() -> None:
    api, hybrid, own = load_prices(CLAIMS).plan
    month = Fraction(2_000_000 * 30)
    assert [p.usd_per_month(month) for p in (api, hybrid, own)] == [900, 5300, 20060]


def test_a_plan_whose_tokens_cost_no_less_never_breaks_even() -> None:
    answer = break_even(plan("api", 0, 0.005), plan("hybrid", 5000, 0.005))
    assert (answer.verdict, answer.cheaper, answer.crossovers) == ("never", "api", ())


def test_equal_plans_are_the_same() -> None:
    assert break_even(plan("a", 5, 1), plan("b", 5, 1)).verdict == "same"


def test_a_plan_that_is_never_cheapest_is_dominated() -> None:
    plans = (plan("api", 0, 0.015), plan("bad", 30_000, 0.002), plan("own", 20_000, 0.001))
    assert [reach.plan for reach in cheapest(plans)] == ["api", "own"]


def test_a_staircase_crosses_more_than_once() -> None:
    api = plan("api", 0, 0.01)
    own = plan("own", 0, 0, replica_usd_per_month="1000", replica_tokens_per_month="150000000")
    changes = break_even(api, own).crossovers
    # One replica pays from 100 M; a second is bought at 150 M and pays from 200 M; a third at 300 M pays at once.
    assert [(c.tokens, c.kind, c.cheaper_above) for c in changes] == [
        (100_000_000, "equal", "own"),
        (150_000_000, "step", "api"),
        (200_000_000, "equal", "own"),
    ]


def test_spare_replicas_and_the_peak_are_paid_for() -> None:
    own = plan("own", replica_usd_per_month="100", replica_tokens_per_month="1000", peak_factor="2", spare_replicas=2)
    assert own.replicas(Fraction(1600)) == 4 + 2
    assert own.usd_per_month(Fraction(1600)) == 600


def test_an_idle_fleet_still_pays_for_its_replicas() -> None:
    own = plan("own", 10, 0, replica_usd_per_month="100", replica_tokens_per_month="1000", min_replicas=3)
    assert own.usd_per_month(Fraction(0)) == 310


prices = st.decimals(min_value=0, max_value=10_000, places=2)


@settings(deadline=None, max_examples=12)
@given(st.lists(st.tuples(prices, prices, st.one_of(st.none(), prices)), min_size=2, max_size=3))
def test_at_each_break_even_the_bills_are_equal_and_the_order_flips(rows: list[tuple[object, object, object]]) -> None:
    plans = [
        plan(
            f"p{i}",
            fixed,  # type: ignore[arg-type]
            per_1k,  # type: ignore[arg-type]
            **({"replica_usd_per_month": str(step), "replica_tokens_per_month": "500000"} if step is not None else {}),
        )
        for i, (fixed, per_1k, step) in enumerate(rows)
    ]
    for a, b in combinations(plans, 2):
        by_name = {a.name: a, b.name: b}
        for change in break_even(a, b).crossovers:
            if change.kind == "equal":
                assert a.usd_per_month(change.tokens) == b.usd_per_month(change.tokens)
            above = change.tokens + Fraction(1, 10**9)
            cheap, dear = by_name[change.cheaper_above], by_name[change.cheaper_below]
            assert cheap.usd_per_month(above) <= dear.usd_per_month(above)


def test_a_tornado_says_never_where_a_moved_price_never_breaks_even() -> None:
    rows = {what: (low, high) for what, low, high in tornado(plan("api", 0, 0.0011), plan("own", 1, 0.001))}
    assert rows["api usd_per_1k_tokens"][0] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("plan = []", "plan"),
        ('[[plan]]\nname="a"\nkind="api"\n', "usd_per_1k_tokens"),
        ('[[plan]]\nname="a"\nkind="api"\nusd_per_1k_tokens=-1\n', r"plan\.0\.usd_per_1k_tokens.*-1"),
        ('[[plan]]\nname="a"\nkind="api"\nusd_per_1k_tokens=1\nprice=2\n', r"plan\.0\.price"),
        ("[[plan]\n", "is not TOML"),
    ],
)
def test_a_bad_price_table_names_file_field_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(CostError, match=rf"p\.toml: .*{message}"):
        load_prices(path)
