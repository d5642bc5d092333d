"""What Alerts, Capacity, Cost and Replay share: a source that is away, addresses that are none, and buttons."""

import pytest

from dashboard.app import create_app
from dashboard.jobs import Jobs
from dashboard.replays import Replays
from dashboard.security import CSRF_COOKIE, CSRF_HEADER
from dashboard.services import Services
from planner.replay.runs import RunStore
from planner.slo import Slo

STAMPS = ("al-stamp", "ca-stamp", "co-stamp", "re-stamp")


@pytest.fixture
def services(tmp_path):
    folder = tmp_path / "traces"
    folder.mkdir()
    (folder / "a.csv").write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n0,5,3\n")
    jobs = Jobs()
    yield Services(
        jobs=jobs, replays=Replays(RunStore(tmp_path / "runs"), (folder,), tmp_path / "up", ("http://127.0.0.1:1",))
    )
    jobs.close()


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_page_over_a_source_that_goes_and_comes_back(stamp, prometheus, over, page_of, services, fake_clock, read):
    page = page_of(over(prometheus, clock=fake_clock), stamp, services=services)
    note = f"{stamp[:2]}-note"
    before = page.ask()
    prometheus.dead = True
    fake_clock.now_s += 60
    assert "The source does not answer" in read(page.ask()[note]["children"])
    prometheus.dead = False
    fake_clock.now_s += 60
    assert read(page.ask()[note]["children"]) == read(before[note]["children"])


@pytest.mark.parametrize("stamp", STAMPS)
def test_a_page_over_a_source_that_never_answered_says_so(stamp, prometheus, over, page_of, services, read):
    prometheus.dead = True
    boxes = page_of(over(prometheus), stamp, services=services).ask()
    assert "The source does not answer" in read(boxes[f"{stamp[:2]}-note"]["children"])


def post(source, services, name, **fields):
    client = create_app(source, Slo(), services=services).server.test_client()
    client.get("/")
    return client.post(f"/do/{name}", json=fields, headers={CSRF_HEADER: client.get_cookie(CSRF_COOKIE).value})


@pytest.mark.parametrize(
    ("name", "search", "status"),
    [
        ("whatif", "?range=forever", 400),
        ("whatif", "?replicas=none", 400),
        ("whatif-again", "", 400),
        ("replay-start", "?range=forever", 400),
        ("replay-start", "?target=http://10.0.0.1", 403),
        ("replay-start", "?speed=-1", 400),
        ("trace-inspect", "?trace_file=nothing.csv", 404),
        ("replay-stop", "", 409),
    ],
)
def test_what_an_address_cannot_ask_for_is_refused_with_a_reason(source, services, name, search, status):
    answer = post(source, services, name, search=search)
    assert answer.status_code == status
    assert answer.get_json()["error"]


def test_a_what_if_over_a_source_that_is_away_is_refused(prometheus, over, services):
    prometheus.dead = True
    answer = post(over(prometheus), services, "whatif", search="")
    assert answer.status_code == 502
    assert "the source does not answer" in answer.get_json()["error"]
