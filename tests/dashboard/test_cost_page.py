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
from planner.cost import Plan
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
        rows += [from_mapping(label | {"__name__": spend, "tenant": who}) for spend in TENANT for who in tenants]
        names = ("prompt_tokens", "prompt_tokens_cached", "generation_tokens")
        asked = [f'sum(rate(loadline_{name}_total{{model_name="qwen-32b"}}[1m]))' for name in names]
        rates = [client.query(text, NOW_S)[0].value for text in asked]
    flow = Flow(rates[0] - rates[1], rates[1], rates[2])
    price = spending.effective(12.5, flow, priced.api())
    assert cells[1:6] == ["5", "$2.50", "$12.50", "$300", "$9,000"]
    assert cells[7:11] == [quantity.money(one) for one in (price.blended, price.input, price.cached, price.output)]
    expect(page.locator("#co-spend-graph .js-line")).to_have_count(1)
    page.locator("#param-usd").fill("5")
    page.locator("#param-usd").press("Tab")
    expect(row.locator("td").nth(3)).to_have_text("$25.00")
    expect(page.locator("#co-even .js-plotly-plot").first).to_be_visible()
    check_sound()
    source.close()
