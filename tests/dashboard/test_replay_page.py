import asyncio
import os
import re
import time
from queue import SimpleQueue
from threading import Thread

import numpy as np
import pytest

from benchmarks._mock_openai import Mock, serving
from collector.client import Client
from dashboard import quantity
from dashboard.access import Access
from dashboard.app import create_app
from dashboard.errors import ActionRefused
from dashboard.jobs import Jobs
from dashboard.pages.replay import options
from dashboard.replays import Replays
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.services import Services
from dashboard.source import Source
from planner.replay.runs import RunStore
from planner.slo import Slo

NOW_S = 1_795_210_200
TRACE = "arrived_at,num_prefill_tokens,num_decode_tokens\n" + "".join(f"{row / 50},5,3\n" for row in range(120))
OPERATOR = {"Authorization": "Bearer change"}
VIEWER = {"Authorization": "Bearer read"}


@pytest.fixture(scope="module")
def openai():
    """An OpenAI-compatible server on loopback."""
    told = SimpleQueue()

    async def answer():
        async with serving(Mock()) as url:
            stop = asyncio.Event()
            told.put((url, asyncio.get_running_loop(), stop))
            await stop.wait()

    thread = Thread(target=lambda: asyncio.run(answer()))
    thread.start()
    url, loop, stop = told.get(timeout=30)
    yield url
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)


@pytest.fixture
def replays(tmp_path, openai):
    samples = tmp_path / "samples"
    samples.mkdir()
    (samples / "short.csv").write_text(TRACE)
    (samples / "README.md").write_text("no trace")
    return Replays(RunStore(tmp_path / "runs"), (samples, tmp_path / "absent"), tmp_path / "up", (openai,), 2000)


def test_traces_are_those_of_the_folders_and_uploads_hide_samples(replays):
    assert [(one.name, one.uploaded) for one in replays.traces()] == [("short.csv", False)]
    replays.receive("short.csv", [b"arrived_at\n", b"1\n"])
    assert [(one.name, one.uploaded, one.size_bytes) for one in replays.traces()] == [("short.csv", True, 13)]


@pytest.mark.parametrize(
    "name", ["../etc.csv", "a/b.csv", ".hidden.csv", "trace.exe", "", "x" * 101 + ".csv", "a\x00.csv", "README.md"]
)
def test_an_upload_lands_nowhere_but_among_the_traces(replays, name):
    with pytest.raises(ActionRefused, match="cannot be named"):
        replays.receive(name, [b"x"])
    assert not replays.uploads.exists() or list(replays.uploads.iterdir()) == []


@pytest.mark.parametrize(("chunks", "why"), [([b"x" * 1500, b"x" * 1500], "at most 2,000"), ([], "is empty")])
def test_an_upload_that_is_too_large_or_empty_leaves_nothing(replays, chunks, why):
    with pytest.raises(ActionRefused, match=why):
        replays.receive("big.csv", chunks)
    assert list(replays.uploads.iterdir()) == []


def test_only_named_targets_are_played_against(replays):
    with pytest.raises(ActionRefused, match="may not be played against") as refused:
        replays.start("short.csv", "http://127.0.0.1:1", {})
    assert refused.value.status == 403
    assert replays.runs() == ()
    with pytest.raises(ActionRefused, match="there is no trace"):
        replays.start("../../etc/passwd", replays.targets[0], {})


def test_the_forms_numbers_are_checked():
    assert options({"speed": "2", "max_requests": "10", "a": "x"}) == {"speed": 2.0, "max_requests": 10}
    for own in ({"speed": "0"}, {"speed": "fast"}, {"max_requests": "1.5"}, {"seed": "-1"}, {"speed": "nan"}):
        with pytest.raises(ActionRefused, match="is not a number from"):
            options(own)


def client_of(source, replays, headers):
    client = create_app(source, Slo(), access=Access("read", "change"), services=Services(replays=replays)).server
    client = client.test_client()
    client.get("/", headers=headers)
    return client, headers | {CSRF_HEADER: client.get_cookie(CSRF_COOKIE).value}


def test_a_viewer_neither_plays_nor_stops_nor_sends(source, replays):
    client, headers = client_of(source, replays, VIEWER)
    for path in ("replay-start", "replay-stop", "trace-upload?name=a.csv"):
        assert client.post(f"/do/{path}", json={}, headers=headers).status_code == 403
    assert replays.runs() == () and not replays.uploads.exists()


def test_an_operator_sends_a_trace_larger_than_other_bodies_may_be(source, replays, tmp_path):
    roomy = Replays(replays.store, (), tmp_path / "up", (), 3_000_000)
    client, headers = client_of(source, roomy, OPERATOR)
    body = os.urandom(2_000_000)
    answer = client.post("/do/trace-upload?name=big.csv", data=body, headers=headers)
    assert answer.get_json() == {"said": "big.csv is here", "search": "?trace_file=big.csv"}
    assert (tmp_path / "up" / "big.csv").read_bytes() == body
    assert client.post("/do/trace-upload?name=huge.csv", data=body * 2, headers=headers).status_code == 413
    assert client.post("/do/trace-upload?name=a.csv", data=b"x").status_code in (401, 403)


def test_without_runs_the_page_says_so(source, page_of, read):
    assert "served without runs" in read(page_of(source, "re-stamp").ask()["re-runs"]["children"])


def test_an_empty_folder_says_how_to_fill_it(source, page_of, read, tmp_path):
    nothing = Replays(RunStore(tmp_path / "runs"), (), tmp_path / "up")
    boxes = page_of(source, "re-stamp", services=Services(replays=nothing)).ask("?a=x")
    assert "No trace is there" in read(boxes["re-trace"]["children"])
    assert "No run is kept" in read(boxes["re-runs"]["children"])
    assert "No run is named x" in read(boxes["re-compare"]["children"])


@pytest.mark.browser
def test_a_trace_is_sent_read_played_and_two_runs_are_compared(
    page, replays, troubled_server, serve, check_sound, tmp_path
):
    from playwright.sync_api import expect

    jobs = Jobs()
    source = Source(Client("http://prometheus.test", transport=troubled_server), lambda slo, at_s: (),
                    clock=lambda: float(NOW_S))  # fmt: skip
    roomy = Replays(replays.store, replays.folders, replays.uploads, replays.targets)
    app = create_app(source, Slo(), services=Services(jobs=jobs, replays=roomy), path_prefix="/load/")
    page.goto(serve(app) + "/load/replay")
    expect(page.locator("#re-trace")).to_contain_text("120 requests")
    sent = tmp_path / "sent.csv"
    sent.write_text(TRACE.replace(",5,3", ",9,2"))
    with page.expect_file_chooser() as choosing:
        page.get_by_role("button", name="Upload a trace").click()
    choosing.value.set_files(sent)
    expect(page.locator("#said")).to_have_text("sent.csv is here")
    expect(page.locator("#param-trace_file")).to_have_value("sent.csv")
    expect(page.locator("#re-trace-sub")).to_contain_text("uploaded")

    page.locator("#param-speed").fill("4")
    page.locator("#param-speed").press("Tab")
    expect(page).to_have_url(re.compile("speed=4"))
    for number in (1, 2):
        page.get_by_role("button", name="Play").click()
        expect(page.locator("#re-runs tbody tr")).to_have_count(number)
        expect(page.locator("#re-runs .st-ok")).to_have_count(number)
    newest, oldest = roomy.runs()
    assert newest.options["speed"] == 4.0 and newest.trace.endswith("sent.csv")
    page.get_by_role("link", name=f"Compare as A: {oldest.id}").click()
    page.get_by_role("link", name=f"Compare as B: {newest.id}").click()
    expect(page.locator("#re-compare-sub")).to_have_text("request by request")
    ttft = page.locator("#re-compare tbody tr", has_text="TTFT p95").locator("td")
    run = roomy.store.load(oldest.id)
    p95 = np.quantile(run.latencies()["ttft_due_s"], 0.95)
    expect(ttft.nth(2)).to_have_text(quantity.duration(p95))
    check_sound()
    jobs.close()
    source.close()


@pytest.mark.browser
def test_a_run_that_goes_on_is_stopped(page, replays, troubled_server, serve):
    from playwright.sync_api import expect

    (replays.folders[0] / "long.csv").write_text(TRACE + "".join(f"{3 + row},5,3\n" for row in range(600)))
    source = Source(Client("http://prometheus.test", transport=troubled_server), lambda slo, at_s: (),
                    clock=lambda: float(NOW_S))  # fmt: skip
    page.goto(serve(create_app(source, Slo(), services=Services(replays=replays))) + "/replay?trace_file=long.csv")
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#re-runs [role=progressbar]")).to_be_visible()
    until = time.monotonic() + 60
    while replays.runs()[0].state != "running" and time.monotonic() < until:
        page.wait_for_timeout(100)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#re-runs tbody tr")).to_contain_text("Stopped")
    assert replays.runs()[0].ended < 720
    source.close()
