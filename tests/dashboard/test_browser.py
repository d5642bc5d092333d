"""The pages in Debian's Chromium: no console error, no request beyond 127.0.0.1, values as the server drew them."""

import re
from pathlib import Path
from threading import Thread

import pytest
from waitress import create_server

from collector.client import Client
from dashboard.app import create_app
from dashboard.parts.shell import Grafana
from dashboard.registry import load_groups, pages_of
from dashboard.source import Source
from planner.slo import Slo

PATIENCE_MS = 60_000
AXE = Path(__file__).parent / "axe-core-4.14.1.min.js"
"""From npm's axe-core 4.14.1, unchanged; MPL 2.0, as its head says."""

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

pytestmark = pytest.mark.browser


class Site:
    """The dashboard over the troubled fleet, on a port of its own; its clock moves when it is told to."""

    def __init__(self, server, clock):
        self.server = server
        self.clock = clock
        self.address = ""

    def pass_time(self, seconds):
        self.clock.now_s += seconds


@pytest.fixture(scope="module")
def site(troubled_server, moving_clock):
    made = Site(troubled_server, moving_clock)
    client = Client("http://prometheus.test", transport=troubled_server)
    source = Source(client, lambda slo, at_s: (), clock=moving_clock)
    app = create_app(source, Slo(), grafana=Grafana("http://grafana.test", "prom-1"))
    server = create_server(app.server, host="127.0.0.1", port=0, threads=8)
    thread = Thread(target=server.run)
    thread.start()
    made.address = f"http://127.0.0.1:{server.effective_port}"
    yield made
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=30)
    server.trigger.pull_trigger(server.close)  # in the loop's own thread
    thread.join(30)
    source.close()


@pytest.fixture
def served(site):
    """The dashboard's address."""
    return site.address


def expect(locator):
    from playwright.sync_api import expect as expected

    return expected(locator)


def until(page, holds):
    """Wait for what no locator can tell; the policy forbids ``wait_for_function``."""
    for _ in range(PATIENCE_MS // 100):
        if holds():
            return
        page.wait_for_timeout(100)
    assert holds()


def test_the_overview_draws_its_verdict_tiles_charts_and_theme(page, served):
    page.goto(served)
    expect(page.locator(".v-1")).to_contain_text("llama-70b is breaching TTFT p95.")
    expect(page.locator(".tile")).to_have_count(5)
    expect(page.locator("#ov-waiting-graph .js-line")).to_have_count(3)
    before = page.locator("html").get_attribute("data-theme")
    page.locator("[data-act=theme]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert before == "light"
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_the_address_is_the_truth_for_range_pools_and_back(page, served):
    page.goto(f"{served}/?pool=qwen-32b")
    expect(page.locator("#ov-kv-graph .js-line")).to_have_count(1)
    expect(page.locator("#pools-text")).to_have_text("qwen-32b")
    page.locator("[data-range='15m']").click()
    expect(page).to_have_url(f"{served}/?pool=qwen-32b&range=15m")
    expect(page.locator("[data-range='15m']")).to_have_attribute("aria-pressed", "true")
    page.go_back()
    expect(page).to_have_url(f"{served}/?pool=qwen-32b")
    expect(page.locator("[data-range='1h']")).to_have_attribute("aria-pressed", "true")
    page.locator("#main").focus()
    page.keyboard.press("g")
    page.keyboard.press("l")
    expect(page).to_have_url(f"{served}/latency?pool=qwen-32b")
    expect(page.locator("#la-ttft-legend tbody tr")).to_have_count(3)


def test_a_drag_on_one_chart_sets_the_range_of_all(page, served):
    page.goto(served)
    expect(page.locator("#ov-waiting-graph .js-line")).to_have_count(3)
    plot = page.locator("#ov-waiting-graph .nsewdrag").first
    box = plot.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 40, steps=6)
    page.mouse.up()
    expect(page.locator("#fixed")).to_be_visible()
    expect(page.locator("#fixed-text")).to_have_text("20 Nov 20:45 – 21:15")
    expect(page.locator("#ov-kv-graph .xtick text").first).to_have_text("20:50")
    page.locator("#fixed").click()
    expect(page).to_have_url(f"{served}/")


def test_any_chart_is_also_a_table_and_tells_its_query(page, served):
    page.goto(f"{served}/latency")
    expect(page.locator("#la-heat-graph .heatmaplayer image")).to_have_count(1)
    panel = page.locator("section[aria-label='TTFT']")
    panel.locator("summary").click()
    expect(panel.locator(".m-q")).to_have_count(3)
    panel.locator("[data-act=copy]").first.click()
    expect(page.locator("#said")).to_have_text("Query copied")
    assert page.evaluate("navigator.clipboard.readText()") == panel.locator(".m-q code").first.text_content()
    panel.locator("[data-act=table]").click()
    expect(panel.locator(".p-t tr")).to_have_count(242)
    expect(panel.locator(".p-t th")).to_have_text(["time", "p50, s", "p95, s", "p99, s"])
    last = panel.locator(".p-t tr").nth(1).locator("td").nth(2).text_content()
    legend = panel.locator(".lg tr[data-series=p95] td").first.text_content()
    assert f"{float(last):.2f} s" == legend


# every page

READY = {
    "/": "#ov-waiting-legend tr[data-series]", "/latency": "#la-ttft-legend tr[data-series]",
    "/throughput": "#th-rate-legend tr[data-series]", "/kv-cache": "#kv-usage-legend tr[data-series]",
    "/gpu": "#gp-devices .alone", "/requests": "#rq-table tbody tr", "/fleet": "#fl-table tbody tr",
    "/targets": "#ta-signals tbody tr", "/explore": "#ex-table tbody tr",
}  # fmt: skip
"""What shows that a page of ours has its data."""


@pytest.mark.parametrize("path", READY)
def test_a_page_loads_is_accessible_and_fits_a_phone(page, served, path):
    """The fixture fails it on any console error; axe-core finds nothing that is serious."""
    page.goto(f"{served}{path}{'?expr=sum(up)' if path == '/explore' else ''}")
    expect(page.locator(READY[path]).first).to_be_visible()
    expect(page.locator(".side a[aria-current=page]")).to_have_attribute("data-path", path)
    expect(page.locator(".n-load")).to_have_count(0)
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(f"axe.run(document, {{resultTypes: ['violations'], runOnly: {RULES}}})")["violations"]
    serious = [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]
    assert serious == []
    page.set_viewport_size({"width": 390, "height": 800})
    until(page, lambda: page.evaluate("document.documentElement.scrollWidth") <= 390)


def test_every_page_of_the_navigation_is_among_those_that_are_opened_here_or_elsewhere():
    ours = {page.path for page in pages_of(load_groups())}
    assert set(READY) <= ours


KV = "loadline_kv_cache_usage_ratio"
WAITING = "loadline_num_requests_waiting"
ROW = "legend tr[data-series='qwen-32b'] td"
VALUES = [
    ("/throughput", f"#th-waiting-{ROW}", f'sum({WAITING}{{model_name="qwen-32b"}})', "{:.0f}"),
    ("/kv-cache", f"#kv-usage-{ROW}", f'max({KV}{{model_name="qwen-32b"}})', "{:.0%}"),
    (
        "/fleet?replica=qwen-32b-1:8000",
        "#fl-table td:nth-child(9) span",
        f'{KV}{{instance="qwen-32b-1:8000"}}',
        "{:.0%}",
    ),
    ("/targets", "#ta-list-sub", "count(up)", "{:.0f} targets, 0 down"),
    (f"/explore?expr=max({KV})", "#ex-table td.num", f"max({KV})", "{!r}"),
]


@pytest.mark.parametrize(("path", "cell", "query", "write"), VALUES)
def test_a_value_on_a_page_is_the_apis(page, site, path, cell, query, write):
    page.goto(f"{site.address}{path}")
    with Client("http://prometheus.test", transport=site.server) as client:
        value = client.query(query, site.clock.now_s)[0].value
    expect(page.locator(cell).first).to_have_text(write.format(value).replace("%", " %"))


def test_a_page_survives_the_collectors_restart(page, site):
    page.goto(f"{site.address}/kv-cache")
    expect(page.locator("#kv-usage-legend tr[data-series]")).to_have_count(3)
    site.server.dead = True
    site.pass_time(15)
    page.keyboard.press("r")
    expect(page.locator("#kv-note .note")).to_contain_text("The source does not answer")
    expect(page.locator("#kv-usage-note")).to_contain_text("stale")
    expect(page.locator("#kv-usage-graph .js-line")).to_have_count(3)
    site.server.dead = False
    site.pass_time(15)
    page.keyboard.press("r")
    expect(page.locator("#kv-note .note")).to_have_count(0)
    expect(page.locator("#kv-usage-note .n-stale")).to_have_count(0)


def test_a_query_is_completed_run_and_kept(page, served):
    page.goto(f"{served}/explore")
    field = page.locator("#ex-expr")
    expect(page.locator("#ex-table .none")).to_be_visible()
    field.press_sequentially("sum(loadline_kv_cache_us")
    expect(page.locator("#ex-names option").first).to_have_attribute("value", "sum(loadline_kv_cache_usage_ratio")
    field.press_sequentially("age_ratio")
    field.press("Enter")
    expect(page.locator("#ex-error pre")).to_contain_text("^")
    field.press_sequentially(")")
    field.press("Enter")
    expect(page.locator("#ex-plot-graph .js-line")).to_have_count(1)
    assert page.url.endswith("/explore?expr=sum%28loadline_kv_cache_usage_ratio%29")
    page.go_back()
    expect(field).to_have_value("sum(loadline_kv_cache_usage_ratio")
    expect(page.locator(".ex-q").nth(1)).to_have_text("sum(loadline_kv_cache_usage_ratio)")


def test_a_panels_query_opens_in_explore(page, served):
    page.goto(f"{served}/kv-cache?pool=qwen-32b")
    panel = page.locator("section[aria-label='KV cache used']")
    panel.locator("summary").click()
    expect(panel.locator("[data-act=grafana]")).to_be_visible()
    panel.locator("[data-act=explore]").click()
    expect(page.locator("#ex-expr")).to_have_value(
        'max by (pool) (label_replace(max by (model_name) (loadline_kv_cache_usage_ratio{model_name="qwen-32b"}), '
        '"pool", "$1", "model_name", "(.*)"))'
    )
    expect(page.locator("#ex-plot-graph .js-line")).to_have_count(1)
    expect(page.locator("#pools-text")).to_have_text("qwen-32b")


def test_requests_are_filtered_and_a_point_opens_its_trace(page, served):
    page.goto(f"{served}/requests")
    expect(page.locator("#rq-table tbody tr")).to_have_count(30)
    page.locator("#param-only").select_option("preempted")
    expect(page.locator("#rq-count")).to_contain_text(" of 30 requests")
    point = page.locator("#rq-points-graph .points path").nth(2)
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"only=preempted&trace=[0-9a-f]{32}$"))
    opened = page.url.rsplit("=", 1)[1]
    expect(page.locator("#rq-trace code")).to_have_text(opened[:8])
    expect(page.locator("#param-only")).to_have_value("preempted")


def test_filters_absolute_ranges_and_keys(page, served):
    page.goto(f"{served}/throughput")
    page.locator("#filters summary").click()
    page.locator("#replica-list input[value='qwen-32b-1:8000']").check()
    expect(page).to_have_url(f"{served}/throughput?replica=qwen-32b-1%3A8000")
    expect(page.locator("#th-rate-legend tr[data-series]")).to_have_count(1)
    page.locator("#absolute summary").click()
    page.locator("#abs-len").fill("36")
    page.locator("#abs-form button").click()
    expect(page.locator("#abs-why")).to_contain_text("A duration looks like")
    page.locator("#abs-from").fill("2026-11-20T20:30")
    page.locator("#abs-to").fill("2026-11-20T21:00")
    page.locator("#abs-len").fill("")
    page.locator("#abs-form button").click()
    expect(page.locator("#fixed-text")).to_have_text("20 Nov 20:30 – 21:00")
    page.locator("#main").focus()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("p")
    expect(page.locator("#refresh")).to_have_value("0")


def test_a_panels_values_are_downloaded_and_firing_alerts_are_counted(page, served):
    page.goto(f"{served}/kv-cache?pool=qwen-32b")
    expect(page.locator("#kv-usage-legend tr[data-series]")).to_have_count(1)
    expect(page.locator("#firing")).to_have_text("1")
    panel = page.locator("section[aria-label='KV cache used']")
    panel.locator("summary").click()
    with page.expect_download() as told:
        panel.locator("[data-act=csv]").click()
    assert told.value.suggested_filename == "KV cache used.csv"
    head, *rows = Path(told.value.path()).read_text("utf-8").splitlines()
    assert (head, len(rows)) == ("time,qwen-32b", 241)
    moment, value = rows[-1].split(",")
    assert moment.startswith("2026-11-20T21:3")  # the newest step, on the grid
    expect(panel.locator(".lg tr[data-series] td").first).to_have_text(f"{float(value):.0%}".replace("%", " %"))
