"""``loadline up`` as a newcomer meets it: a page that moves in a real browser, and nothing left after Ctrl-C."""

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from collector.client import Client
from collector.signals import detect
from dashboard.view import parse

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_S = 90


def eventually(ask, wanted):
    """The first answer of ``ask`` that is ``wanted``, within PATIENCE_S."""
    deadline = time.monotonic() + PATIENCE_S
    while not wanted(answer := ask()):
        assert time.monotonic() < deadline, f"still {answer!r}"
        time.sleep(0.5)
    return answer


@pytest.fixture(scope="module")
def client(fleet):
    with Client(fleet.url("collector")) as client:
        yield client


def test_every_part_is_scraped_and_up(client):
    found = eventually(lambda: client.query("up"), lambda samples: len(samples) == 3 and all(s.value for s in samples))
    assert {dict(sample.labels)["job"] for sample in found} == {"engine", "collector", "alerts"}


def test_the_sample_trace_moves_the_signals(client):
    text = "sum(rate(loadline_generation_tokens_total[30s]))"
    eventually(lambda: client.query(text), lambda samples: bool(samples) and samples[0].value > 0)


def test_requests_leave_spans_with_their_phases(client):
    spans = eventually(lambda: client.spans(limit=50), lambda spans: len(spans) > 4)
    assert {"queue", "prefill", "decode"} <= {span.name for span in spans}


def test_the_rules_of_the_starter_pack_are_evaluated(fleet):
    def health() -> set[str]:
        groups = httpx.get(fleet.url("collector") + "/api/v1/rules", trust_env=False).json()["data"]["groups"]
        return {rule["health"] for group in groups for rule in group["rules"]}

    assert eventually(health, lambda found: found == {"ok"})


@pytest.mark.browser
@pytest.mark.timeout(300)
def test_the_page_in_chromium_shows_a_ttft_that_the_collector_gives(fleet, client):
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"no browser: {CHROMIUM} is missing")
    from playwright.sync_api import expect, sync_playwright

    faults: list[str] = []
    first_tokens = "sum(increase(loadline_time_to_first_token_seconds_count[1m]))"
    eventually(lambda: client.query(first_tokens), lambda samples: bool(samples) and samples[0].value > 5)
    to_s = int(time.time())
    address = f"?from={to_s - 300}&to={to_s}"
    window = parse(address).window(time.time())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: faults.append(request.url) if "127.0.0.1" not in request.url else None)
        page.goto(f"{fleet.url('dashboard')}/{address}")
        tile = page.locator(".tile", has_text="TTFT p95")
        expect(tile.locator(".t-u")).to_have_text(re.compile("ms|s"), timeout=PATIENCE_S * 1000)
        number, unit = tile.locator(".t-v").inner_text(), tile.locator(".t-u").inner_text()
        browser.close()
    assert not faults
    text = detect(client.metric_names()).quantile("ttft", 0.95, window.rate_window)
    (given,) = client.query(text, window.end_s)
    assert float(number) * {"ms": 0.001, "s": 1}[unit] == pytest.approx(given.value, rel=0.006)


def test_ctrl_c_stops_everything_and_leaves_no_process(tmp_path, up_command):
    with subprocess.Popen(
        up_command(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "Ctrl-C stops all" in line:
                break
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
        drain.join()
        _, alive = psutil.wait_procs(children, timeout=5)
    assert len(children) >= 5
    assert not alive
    assert process.returncode == 0
