import re
from decimal import Decimal

import numpy as np
import pytest

from collector.client import Client
from collector.model.labels import from_mapping
from collector.model.series import SeriesGroup
from dashboard import quantity, spending
from dashboard.app import create_app
from dashboard.errors import SettingsError
from dashboard.prices import load
from dashboard.services import Services
from dashboard.source import Source
from dashboard.spending import Flow
from planner.catalog import Api
from planner.money.cost import Plan
from planner.slo import Slo

NOW_S = 1_795_210_200
LIST = """
as_of = "2026-11-01"
api = "gpt-4o-mini"
[pools."*"]
gpu = "H100"
gpus = 2
[pools.qwen-32b]
usd_per_replica_hour = 2.5
"""
API = Api(name="api", input=2.0, cached_input=1.0, output=8.0)
BY_TENANT = ("loadline_tenant_prompt_tokens_total", "loadline_tenant_generation_tokens_total")


@pytest.fixture(scope="module")
def priced(tmp_path_factory):
    path = tmp_path_factory.mktemp("prices") / "prices.toml"
    path.write_text(LIST)
    return load(path)


@pytest.fixture(scope="module")
def telling_server(made_fleet):
    """The fleet, whose engines also tell prompt tokens, cached ones, and tokens by tenant."""
    server = made_fleet()
    times = server.fleet.times_s
    told = {"loadline_prompt_tokens_total": 7000.0, "loadline_prompt_tokens_cached_total": 1400.0}
    groups = []
    for number in range(5):
        label = {"instance": f"qwen-32b-{number}:8000", "job": "engine", "model_name": "qwen-32b"}
        rows = [from_mapping(label | {"__name__": name}) for name in told]
        tenants = {"acme": 300.0, "beta": 100.0}
        rows += [from_mapping(label | {"__name__": name, "tenant": who}) for name in BY_TENANT for who in tenants]
        per_second = [*told.values(), *(rate for _ in BY_TENANT for rate in tenants.values())]
        groups.append(SeriesGroup(tuple(rows), times * 1000, np.outer(times - times[0], per_second)))
    server.fleet.groups += groups
    return server


def test_tokens_come_to_what_is_spent():
    flow = Flow(computed=100, cached=50, output=25)
    found = spending.effective(3.6, flow, API)
    per_second = (100 * found.input + 50 * found.cached + 25 * found.output) / 1e6
    assert per_second * 3600 == pytest.approx(3.6)
    assert (found.output / found.input, found.cached / found.input) == (pytest.approx(4), pytest.approx(0.5))
    assert found.blended == pytest.approx(3.6 / 3600 / 175 * 1e6)


def test_where_nothing_flows_no_price_is_made_up():
    assert spending.effective(3.6, Flow(0, 0, 0), API) is None
    assert spending.flow_of(None, 3, 4) is None
    assert spending.flow_of(10, None, 4) == Flow(10, 0, 4)
    assert spending.flow_of(10, 12, 4) == Flow(0, 10, 4)


def test_a_list_prices_a_pool_outright_or_by_its_gpus(priced):
    assert priced.replica("qwen-32b").usd_per_hour == 2.5
    other = priced.replica("llama-70b")
    assert (other.usd_per_hour, other.gpus) == (pytest.approx(2 * 6.88), 2)
    assert other.source == "2 × H100, catalogue of 2025-06-30"
    assert priced.replica("qwen-32b", 9.0).source == "as typed on this page"
    assert priced.api().name == "gpt-4o-mini"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('api = "x"', "as_of"),
        ('as_of = "2026"\napi = "nobody"', "api is 'nobody'"),
        ('as_of = "2026"\n[pools.a]\n', "needs one of"),
        ('as_of = "2026"\n[pools.a]\ngpu = "H900"', "H900"),
        ('as_of = "2026"\n[pools.a]\ngpu = "H200"', "no price for GPU 'H200'"),
        ("as_of = ", "is not TOML"),
    ],
)
def test_a_list_that_cannot_be_used_is_named_with_its_fault(tmp_path, text, why):
    path = tmp_path / "prices.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=why):
        load(path)


def test_three_plans_cross_where_their_bills_meet():
    plans = [
        Plan(name="API", kind="api", usd_per_million_tokens=Decimal(15)),
        Plan(name="Hybrid", kind="hybrid", fixed_usd_per_month=Decimal(5000), usd_per_million_tokens=Decimal(5)),
        Plan(name="Own", kind="self_hosted", fixed_usd_per_month=Decimal(20_000), usd_per_million_tokens=Decimal(1)),
    ]
    found = spending.break_evens(plans, 1e6)
    assert [tokens for tokens, _ in found.crossings] == pytest.approx([5e8 / 30, 20_000 / 14 * 1e6 / 30, 3.75e9 / 30])
    assert found.pair == "Own and API"
    assert found.middle == pytest.approx(20_000 / 14 * 1e6 / 30)
    assert max(found.bills["API"]) > max(found.bills["Own"])
    what, low, high = found.swings[0]
    assert low != high
    assert what in {"API, $ per 1M tokens", "Own, $ a month", "Own, $ per 1M tokens"}


def test_hours_are_the_sum_over_the_grid():
    assert spending.hours([1, None, 2], 1800) == 1.5


def test_without_a_price_the_page_asks_for_one(telling_server, over, page_of, read):
    boxes = page_of(over(telling_server), "co-stamp").ask()
    assert "is not known for llama-70b, mixtral-8x22b, qwen-32b" in read(boxes["co-pools"]["children"])
    assert "no price is known" in read(boxes["co-spend-note"]["children"])


def test_an_engine_that_tells_no_prompt_tokens_has_no_token_price(priced, over, page_of, made_fleet, read):
    boxes = page_of(over(made_fleet()), "co-stamp", services=Services(prices=priced)).ask()
    assert "loadline_prompt_tokens_total" in read(boxes["co-token-note"]["children"])
    assert "$164 an hour" in read(boxes["co-pools"]["children"])
    assert "Tokens by tenant are not exposed" in read(boxes["co-tenants"]["children"])


def test_tenants_share_the_cost_by_their_tokens(telling_server, over, page_of, priced, read):
    boxes = page_of(over(telling_server), "co-stamp", services=Services(prices=priced)).ask()
    told = read(boxes["co-tenants"]["children"])
    assert re.search(r"acme \S+ \S+ 75.0 % \$123 beta \S+ \S+ 25.0 % \$41.14", told)


@pytest.mark.browser
def test_costs_are_those_of_the_apis_numbers(page, telling_server, serve, check_sound, priced):
    from playwright.sync_api import expect

    source = Source(Client("http://prometheus.test", transport=telling_server), lambda slo, at_s: (),
                    clock=lambda: float(NOW_S))  # fmt: skip
    app = create_app(source, Slo(), services=Services(prices=priced), path_prefix="/load/")
    page.goto(serve(app) + "/load/cost?pool=qwen-32b")
    row = page.locator("#co-pools tbody tr")
    expect(row).to_have_count(1)
    cells = row.locator("td").all_text_contents()
    with Client("http://prometheus.test", transport=telling_server) as client:
        names = ("prompt_tokens", "prompt_tokens_cached", "generation_tokens")
        asked = [f'sum(rate(loadline_{name}_total{{model_name="qwen-32b"}}[1m]))' for name in names]
        prompt, cached, output = (client.query(text, NOW_S)[0].value for text in asked)
    price = spending.effective(12.5, Flow(prompt - cached, cached, output), priced.api())
    assert cells[1:6] == ["5", "$2.50", "$12.50", "$300", "$9,000"]
    assert cells[7:11] == [quantity.money(one) for one in (price.blended, price.input, price.cached, price.output)]
    expect(page.locator("#co-spend-graph .js-line")).to_have_count(1)
    page.locator("#param-usd").fill("5")
    page.locator("#param-usd").press("Tab")
    expect(row.locator("td").nth(3)).to_have_text("$25.00")
    expect(page.locator("#co-even .js-plotly-plot").first).to_be_visible()
    check_sound()
    source.close()
