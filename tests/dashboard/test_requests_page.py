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
