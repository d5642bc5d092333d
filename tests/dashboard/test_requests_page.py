from base64 import b64decode

import pytest

from dashboard.parts.waterfall import strip_mask


@pytest.fixture
def requests(source, page_of):
    return page_of(source, "rq-stamp")


def rows(box):
    return box["children"][1]["props"]["children"]["props"]["children"][1]["props"]["children"]


def test_the_slowest_first_tokens_lead_the_table(requests, prometheus, read):
    found = [read(row) for row in rows(requests.ask()["rq-table"])]
    told = [span for span in prometheus.spans if span.parent_id is None]
    slowest = max(told, key=lambda span: span.attributes["gen_ai.latency.time_to_first_token"])
    assert len(found) == 30
    assert slowest.trace_id[:8] in found[0]


def test_the_band_counts_requests_above_the_slo(requests, prometheus, read):
    above = sum(span.attributes.get("gen_ai.latency.time_to_first_token", 0) > 0.8 for span in prometheus.spans)
    assert f"{above} requests above the TTFT SLO" in read(requests.ask()["rq-verdict"]["children"])


def test_the_request_that_the_address_names_is_opened(requests, prometheus, read):
    trace_id = prometheus.spans[8].trace_id
    boxes = requests.ask(f"?trace={trace_id}")
    assert trace_id[:8] in read(boxes["rq-trace"]["children"])
    selected = [row for row in rows(boxes["rq-table"]) if row["props"]["className"] == "sel"]
    assert [trace_id[:8] in read(row) for row in selected] == [True]


def test_a_trace_that_is_not_kept_is_told(requests, read):
    assert "No trace" in read(requests.ask(f"?trace={'0' * 32}")["rq-trace"]["children"])


def test_a_waterfall_tells_phases_and_tokens(requests, read):
    text = read(requests.ask()["rq-trace"]["children"])
    for word in ("queue", "prefill", "754 tokens", "decode", "longest gap", "first token"):
        assert word in text


def test_a_source_without_spans_says_who_keeps_them(made_fleet, over, page_of, read):
    boxes = page_of(over(made_fleet()), "rq-stamp").ask()
    assert "keeps no spans; only a Loadline collector does" in read(boxes["rq-verdict"]["children"])


def test_a_stall_is_a_hole_in_the_strip_with_a_tall_tick_at_its_end():
    svg = b64decode(strip_mask([0.1] * 4 + [0.5] + [0.1]).split("base64,")[1][:-1]).decode()
    ticks = [tick.split(" ") for tick in svg.split('d="M')[1].split('"')[0].split("M")]
    places = [float(x) for x, _ in ticks]
    heights = [34 - float(y.split("V")[1]) for _, y in ticks]
    assert places[4] - places[3] == pytest.approx(5 * (places[1] - places[0]), rel=0.01)
    assert heights.index(max(heights)) == 4


# filters and points


def test_a_filter_leaves_what_it_says_and_counts_it(requests, prometheus, read):
    boxes = requests.ask("?slow=1000")
    told = [span for span in prometheus.spans if span.parent_id is None]
    slow = [one for one in told if one.attributes["gen_ai.latency.time_to_first_token"] >= 1]
    assert 0 < len(slow) < 30
    assert boxes["rq-count"]["children"] == f"{len(slow)} of 30 requests"
    assert len(rows(boxes["rq-table"])) == len(slow)


def test_preempted_requests_alone_newest_first(requests, read):
    found = [read(row) for row in rows(requests.ask("?only=preempted&sort=new")["rq-table"])]
    assert all("preempted" in row for row in found)
    times = [row.split()[0] for row in found]
    assert times == sorted(times, reverse=True)


def test_a_filter_that_nothing_passes_says_so(requests, read):
    boxes = requests.ask("?slow=99000")
    assert "No request passes the filter" in read(boxes["rq-table"]["children"])
    assert read(boxes["rq-points-note"]["children"]) == "no request passes the filter"


def test_a_filter_that_cannot_be_read_is_told_and_all_are_shown(requests, read):
    boxes = requests.ask("?sort=worst")
    assert "sort=worst: one of e2e, itl, queue, new" in read(boxes["rq-verdict"]["children"])
    assert len(rows(boxes["rq-table"])) == 30


def test_every_point_of_the_chart_leads_to_its_trace(requests, prometheus):
    traces = requests.ask()["rq-points-graph"]["figure"]["data"]
    leads = {trace_id for trace in traces for trace_id in trace["customdata"]}
    assert leads == {span.trace_id for span in prometheus.spans}
    assert {trace["name"] for trace in traces} >= {"served", "preempted", "opened"}


def test_the_slowest_requests_stand_on_the_latency_chart(source, page_of, prometheus):
    traces = page_of(source, "la-stamp").ask()["la-ttft-graph"]["figure"]["data"]
    exemplar = next(trace for trace in traces if trace.get("name") == "a request")
    slowest = max(prometheus.spans, key=lambda span: span.attributes.get("gen_ai.latency.time_to_first_token", 0))
    assert slowest.trace_id in exemplar["customdata"]


def test_a_source_that_fails_leaves_the_last_requests_with_their_age(prometheus, over, page_of, read, fake_clock):
    page = page_of(over(prometheus, clock=fake_clock), "rq-stamp")
    page.ask()
    prometheus.dead = True
    fake_clock.now_s += 40
    boxes = page.ask()
    assert "Requests cannot be read now:" in read(boxes["rq-verdict"]["children"])
    assert "These are 40 s old." in read(boxes["rq-verdict"]["children"])
    assert len(rows(boxes["rq-table"])) == 30


def test_served_requests_without_spans_are_told_from_idleness(prometheus, over, page_of, read):
    prometheus.spans = []
    said = read(page_of(over(prometheus), "rq-stamp").ask()["rq-verdict"]["children"])
    assert "requests ended in this time, but none of them left a span" in said
    assert "--otlp-endpoint" in said


def test_an_idle_source_is_idle(made_fleet, over, page_of, read):
    server = made_fleet(pools=())
    server.spans = []
    assert "Idle: no request ended" in read(page_of(over(server), "rq-stamp").ask()["rq-verdict"]["children"])
