"""The pages in Debian's Chromium: no console error, no request beyond 127.0.0.1, values as the server drew them."""

import os
from pathlib import Path
from threading import Thread

import pytest
from waitress import create_server

from dashboard.app import create_app
from planner.slo import Slo

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 60_000

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def chromium():
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"no browser: {CHROMIUM} is missing")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def served(source):
    """The dashboard on a port of its own, and its address."""
    server = create_server(create_app(source, Slo()).server, host="127.0.0.1", port=0, threads=8)
    thread = Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.task_dispatcher.shutdown(cancel_pending=True, timeout=30)
    server.trigger.pull_trigger(server.close)  # in the loop's own thread
    thread.join(30)


@pytest.fixture
def page(chromium, served):
    """A page of a fresh context, in UTC, that fails the test on a console error or a request to anywhere else."""
    context = chromium.new_context(
        viewport={"width": 1440, "height": 900},
        timezone_id="UTC",
        locale="en-GB",
        reduced_motion="reduce",
        color_scheme="light",
    )
    context.set_default_timeout(PATIENCE_MS)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    faults: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda said: faults.append(f"console: {said.text}") if said.type == "error" else None)
    opened.on("pageerror", lambda error: faults.append(f"script: {error}"))
    opened.on("request", lambda asked: faults.append(asked.url) if not is_local(asked.url) else None)
    yield opened
    context.close()
    assert not faults


def is_local(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def expect(locator):
    from playwright.sync_api import expect as expected

    return expected(locator)


def test_the_overview_draws_its_verdict_tiles_charts_and_theme(page, served):
    page.goto(served)
    expect(page.locator(".v-1")).to_contain_text("llama-70b is breaching TTFT p95.")
    expect(page.locator(".tile")).to_have_count(5)
    expect(page.locator("#ov-waiting-graph .js-line")).to_have_count(3)
    expect(page.locator("#ov-load-graph .annotation-text-g").first).to_be_visible()
    expect(page.locator("#ov-bars .b-r")).to_have_count(4)
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
