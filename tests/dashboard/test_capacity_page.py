import json
import re

import pytest

from collector.client import Client
from dashboard import quantity
from dashboard.app import create_app
from dashboard.errors import ViewError
from dashboard.figures import curve
from dashboard.jobs import Jobs
from dashboard.prices import load
from dashboard.pricing import against, offer_of
from dashboard.services import Services
from dashboard.source import Source
from dashboard.view import parse
from dashboard.whatif import read_whatif
from planner.slo import Slo

NOW_S = 1_795_210_200


def asked(search, pools=("chat", "code")):
    return read_whatif(parse(search), pools, Slo())


def test_the_address_says_what_is_changed():
    found = asked("?of=code&load=1.5&replicas=7&cached=40&ttft=500&e2e=9&batch=4096&at=1795210200")
    assert (found.pool, found.at_s) == ("code", 1_795_210_200)
    assert found.change.load_factor == 1.5
    assert found.change.replicas == 7
    assert found.change.cached_ratio == pytest.approx(0.4)
    assert found.change.max_num_batched_tokens == 4096
    assert (found.slo.ttft_p95_s, found.slo.itl_p95_s, found.slo.e2e_p95_s) == (0.5, 0.05, 9.0)


def test_one_address_names_one_job_and_another_another():
    assert asked("?load=1.5&at=10").key == asked("?at=10&load=1.50&range=6h").key
    assert asked("?load=1.5&at=10").key != asked("?load=1.5&at=11").key


@pytest.mark.parametrize(
    ("search", "why"),
    [
        ("?load=much", "load=much: must be a number"),
        ("?load=0", "load_factor"),
        ("?replicas=1.5", "replicas=1.5: must be a whole number"),
        ("?cached=130", "cached_ratio"),
        ("?at=now", "at=now: a moment is in Unix seconds"),
        ("?ttft=-1", "ttft_p95_s"),
        ("?load=nan", "load_factor"),
        ("?replicas=inf", "replicas=inf: must be a whole number"),
    ],
)
def test_what_cannot_be_changed_so_is_refused_with_its_name(search, why):
    with pytest.raises(ViewError, match=why):
        asked(search)


def test_the_break_even_is_where_both_bills_are_the_same():
    offer = offer_of({"usd": "2.5", "api": "gpt-4o-mini"}, "chat", load())
    told = against(offer, replica_req_per_s=10, prompt_tokens=700, output_tokens=200, cached_ratio=0.5)
    per_million = (350 * 0.15 + 350 * 0.075 + 200 * 0.60) / 900
    assert told.api_usd_per_token == pytest.approx(per_million / 1e6)
    assert told.tokens_per_day == pytest.approx(2.5 * 24 / per_million * 1e6)
    assert "own replicas cost less, below it gpt-4o-mini" in told.words


@pytest.mark.parametrize("typed", ["much", "-1", "nan", "1e9"])
def test_a_price_that_is_none_is_refused(typed):
    assert "must be a number of dollars" in offer_of({"usd": typed}, "chat", load())


def test_without_a_price_the_page_says_where_to_put_one():
    assert "serve with --prices" in offer_of({}, "chat", load())


def test_a_curve_keeps_the_limit_in_sight_where_latency_runs_away():
    figure = curve.against_load(
        [1, 2, 3], [0.1, 0.2, 90], [0.1, 0.1, 80], [0.1, 0.3, 99], axis=curve.Axis(suffix=" s"), height=200, limit=0.8,
        crosses=[curve.Cross(2.5, "load line 2.5", "#C8401E")],
    )  # fmt: skip
    assert figure["layout"]["yaxis"]["range"] == [0, 2.0]
    assert [trace.get("fill") for trace in figure["data"]] == [None, "tonexty", None]
    assert figure["layout"]["annotations"][0]["text"] == "load line 2.5"


def test_without_a_job_table_the_page_says_so(source, page_of, read):
    boxes = page_of(source, "ca-stamp").ask("?of=qwen-32b&at=1795210200")
    assert "served without a job table" in read(boxes["ca-facts"]["children"])
    assert "llama-70b" in read(boxes["ca-live"]["children"])


def test_an_address_that_is_not_understood_is_named(source, page_of, read):
    boxes = page_of(source, "ca-stamp").ask("?replicas=many")
    assert "replicas=many: must be a number" in read(boxes["ca-note"]["children"])


@pytest.fixture(scope="module")
def capacity_site(troubled_server, over_http, serve):
    source = Source(Client(over_http(troubled_server)), lambda slo, at_s: (), clock=lambda: float(NOW_S))
    jobs = Jobs()
    app = create_app(source, Slo(), services=Services(jobs=jobs), path_prefix="/load/")
    yield serve(app) + "/load"
    jobs.close()
    source.close()


@pytest.mark.browser
def test_a_what_if_is_run_shared_reported_and_drawn(page, capacity_site, check_sound):
    from playwright.sync_api import expect

    page.goto(f"{capacity_site}/capacity?of=qwen-32b&usd=2.5")
    expect(page.locator("#ca-facts")).to_contain_text("press Run")
    page.locator("#param-replicas").fill("6")
    page.locator("#param-replicas").press("Tab")
    expect(page).to_have_url(re.compile("replicas=6"))
    page.locator("[data-post=whatif]").click()
    expect(page).to_have_url(re.compile(f"at={NOW_S}"))
    expect(page.locator("[role=progressbar]")).to_be_visible()
    expect(page.locator("#ca-facts table")).to_be_visible()
    expect(page.locator("#ca-ttft-graph .scatterlayer .js-line")).to_have_count(3)

    with page.expect_download() as downloading:
        page.get_by_text("Report, JSON").click()
    found = json.loads(downloading.value.path().read_text("utf-8"))["result"]
    assert found["replicas"] == 6
    cells = page.locator("#ca-facts tbody tr td:nth-child(3)").all_text_contents()
    assert cells[0] == quantity.per_second(found["load_req_per_s"])
    assert cells[2].startswith(quantity.per_second(found["line_req_per_s"]))
    assert cells[3] == quantity.percent(found["headroom_ratio"])
    assert cells[4] == found["bound_by"]
    assert cells[6] == quantity.percent(found["n2_headroom_ratio"])
    html = page.request.get(
        page.get_by_text("Report, HTML").get_attribute("href").join([page.url.split("/load")[0], ""])
    )
    assert html.ok and "What if: qwen-32b" in html.text()
    check_sound()


@pytest.mark.browser
def test_an_address_that_was_not_computed_here_is_computed_when_it_is_opened_and_can_be_cancelled(page, capacity_site):
    from playwright.sync_api import expect

    page.goto(f"{capacity_site}/capacity?of=llama-70b&load=1.3&at={NOW_S}")
    expect(page.locator("#param-load")).to_have_value("1.3")
    page.locator("[data-post=whatif-cancel]").click()
    expect(page.locator("#ca-state")).to_contain_text("Cancelled.")
