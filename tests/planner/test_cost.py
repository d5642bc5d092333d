from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from planner.answers.cost import cost_report
from planner.catalog import load_catalog
from planner.cli import app
from planner.errors import CostError
from planner.money.cost import Plan, PriceTable, break_even, cheapest, load_prices, tornado

SAMPLES = Path(__file__).parents[2] / "samples" / "cost"
CLAIMS, WHOLE = SAMPLES / "claims.toml", SAMPLES / "whole_bill.toml"


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


def test_everything_on_a_bill_adds_up_to_the_bill() -> None:
    table = load_prices(WHOLE, load_catalog())
    for each in table.plan:
        for tokens in (Fraction(0), Fraction(10**9), Fraction(10**11, 7)):
            assert sum(each.items(tokens).values(), Fraction(0)) == each.usd_per_month(tokens)
    assert set(table.plan[2].items(Fraction(10**9))) == {"fixed", "people", "replicas", "energy"}


def test_input_cached_and_output_are_weighed_by_the_blend() -> None:
    api = load_prices(WHOLE, load_catalog()).plan[0]
    known = load_catalog().api("gpt-4.1-mini")
    paid = 900 * known.input + 300 * known.cached_input + 250 * known.output
    assert float(api.usd_per_token) == pytest.approx(paid / 1450 / 1e6)
    assert api.output_usd_per_million == Decimal("1.6")


def test_a_discount_is_taken_off_and_egress_comes_on_top() -> None:
    dear = plan("own", 0, 0.01, discount_ratio="0.2", egress_usd_per_gb="1", bytes_per_token="1000")
    assert dear.usd_per_token == Fraction(8, 10**6) + Fraction(1, 10**6)


def test_spot_replicas_are_cheaper_and_more_of_them_are_needed() -> None:
    own = {"replica_usd_per_month": "100", "replica_tokens_per_month": "1000", "min_replicas": 0}
    spot = plan("spot", **own, spot_ratio="0.5", spot_discount_ratio="0.6", spot_lost_ratio="0.2")
    assert spot.usd_per_replica == 70
    assert spot.tokens_per_step == 900
    assert (plan("own", **own).replicas(Fraction(9500)), spot.replicas(Fraction(9500))) == (10, 11)


def test_energy_is_drawn_by_the_hour_at_the_buildings_overhead() -> None:
    own = plan("own", replica_usd_per_month="0", replica_tokens_per_month="1000", replica_watts="500",
               pue="1.5", usd_per_kwh="0.2")  # fmt: skip
    assert own.usd_per_replica == Fraction(720 * 3, 4) * Fraction(1, 5)


def test_what_falls_back_on_an_api_is_paid_there_and_needs_no_replica() -> None:
    own = plan("own", 0, 0.001, fallback_ratio="0.25", fallback_usd_per_million_tokens="4",
               replica_usd_per_month="100", replica_tokens_per_month="750000")  # fmt: skip
    assert own.items(Fraction(10**6)) == {"tokens": Fraction(3, 4), "fallback": 1, "replicas": 100}


def test_utilisation_is_told_and_does_not_lower_the_bill() -> None:
    own = plan("own", replica_usd_per_month="100", replica_tokens_per_month="1000", peak_factor="2", spare_replicas=1)
    assert own.utilisation(Fraction(1000)) == Fraction(1, 3)
    assert own.usd_per_month(Fraction(1000)) == own.usd_per_month(Fraction(900)) == 300


def test_a_jump_is_no_break_even_and_has_a_table_of_its_own() -> None:
    api = plan("api", 0, 0.01)
    own = plan("own", 0, 0, replica_usd_per_month="1000", replica_tokens_per_month="150000000")
    report = cost_report(PriceTable(plan=(api, own)), "made", None)
    tables = {table.title: table for table in report.tables}
    assert [row[1] for row in tables["Break-even"].rows] == [100.0, 200.0]
    assert [row[1] for row in tables["Where a replica more turns the order"].rows] == [150.0]
    for change in report.result["break_even"][0]["crossovers"]:
        first, second = change["usd_per_month"]
        assert change["kind"] == "step" or abs(first - second) < 0.01


def test_the_whole_bill_of_the_sample_names_utilisation_and_parts() -> None:
    done = CliRunner().invoke(app, ["cost", str(WHOLE), "--tokens-per-day", "1000000000"])
    assert done.exit_code == 0, done.output
    for words in ("utilisation", "What the bill is made of", "energy", "egress", "replica_tokens_per_month"):
        assert words in done.stdout


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
        ('[[plan]]\nname="a"\nkind="api"\napi="x"\n', r"API 'x': must be one of gpt-4o"),
        ('[[plan]]\nname="a"\nkind="api"\napi="gpt-4o"\n', r"plan a: .*\[blend\]"),
        ('[[plan]]\nname="a"\nkind="api"\ninput_usd_per_million=1\n', "go together"),
        ('[[plan]]\nname="a"\nkind="api"\nusd_per_1k_tokens=1\napi="gpt-4o"\n', "needs one of"),
    ],
)
def test_a_bad_price_table_names_file_field_and_value(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(CostError, match=rf"p\.toml: .*{message}"):
        load_prices(path, load_catalog())
