from threading import Event

import numpy as np

from collector.model.series import STALE_NAN
from dashboard.errors import TwinError
from planner.room.headroom import PoolHeadroom


def test_the_verdict_names_the_breach_its_length_and_the_deploy_before_it(overview, read):
    verdict = read(overview.ask()["ov-verdict"]["children"])
    assert "llama-70b is breaching TTFT p95." in verdict
    assert "against 800 ms for 11 m" in verdict
    assert "after: deploy v0.14.2 to llama-70b." in verdict


def test_five_tiles_show_state_with_icon_and_word(overview, read):
    tiles = overview.ask()["ov-tiles"]["children"]
    assert [read(tile).split(" ")[0] for tile in tiles] == ["TTFT", "ITL", "E2E", "Success", "Goodput"]
    assert "Breach" in read(tiles[0])
    assert "OK" in read(tiles[1])
    assert "SLO 800 ms" in read(tiles[0])


def test_a_figures_values_are_those_of_the_api(overview, prometheus, source):
    boxes = overview.ask()
    trace = next(one for one in boxes["ov-ttft-graph"]["figure"]["data"] if one.get("name") == "p95")
    text = read_queries(boxes["ov-ttft-queries"])[1]
    start_s, step_s = trace["x0"] / 1000, trace["dx"] / 1000
    series = source.client.query_range(text, start_s, start_s + step_s * (len(trace["y"]) - 1), step_s)
    asked = next(one for one in series if dict(one.labels)["pool"] == "llama-70b")
    np.testing.assert_allclose(np.array(trace["y"], dtype=float), asked.values, rtol=1e-4)


def read_queries(box):
    return box["children"]["props"]["texts"]


def test_every_panel_carries_its_promql_and_its_pools(overview, read):
    boxes = overview.ask()
    assert "loadline_kv_cache_usage_ratio" in read_queries(boxes["ov-kv-queries"])[0]
    assert [trace["name"] for trace in boxes["ov-waiting-graph"]["figure"]["data"]] == [
        "llama-70b",
        "mixtral-8x22b",
        "qwen-32b",
    ]
    assert "llama-70b" in read(boxes["ov-kv-legend"]["children"])


def test_pools_of_the_address_are_shown_and_no_others(overview, read):
    boxes = overview.ask("?pool=qwen-32b")
    assert [trace["name"] for trace in boxes["ov-kv-graph"]["figure"]["data"]] == ["qwen-32b"]
    assert "llama-70b" not in read(boxes["ov-tiles"]["children"])
    assert boxes["ov-stamp"]["data"]["pools"] == ["llama-70b", "mixtral-8x22b", "qwen-32b"]


def test_viewers_of_one_view_share_its_queries(overview, prometheus):
    overview.ask("?pool=qwen-32b")
    asked = len(prometheus.asked)
    overview.ask("?pool=qwen-32b")
    assert len(prometheus.asked) == asked


def test_filters_reach_the_queries(overview):
    boxes = overview.ask("?pool=qwen-32b&replica=qwen-32b-1:8000")
    query = read_queries(boxes["ov-kv-queries"])[0]
    assert 'model_name="qwen-32b",instance="qwen-32b-1:8000"' in query


def test_an_address_that_cannot_be_read_is_answered_and_told(overview, read):
    assert "range=2x: a range looks like" in read(overview.ask("?range=2x")["ov-verdict"]["children"])


def test_times_in_text_are_on_the_viewers_clock(overview, read):
    plain, moved = overview.ask(), overview.ask(offset_s=7200)
    assert "21:17" in read(plain["ov-changes"]["children"])
    assert "23:17" in read(moved["ov-changes"]["children"])
    assert moved["ov-kv-graph"] == plain["ov-kv-graph"]


def test_alerts_are_listed_firing_first(overview, read):
    boxes = overview.ask()
    assert read(boxes["ov-alerts-sub"]["children"]) == "1 firing, 1 pending"
    assert "Firing TTFTBudgetBurnFast llama-70b 14.2 8 m 30 s critical" in read(boxes["ov-alerts"]["children"])


def test_the_load_line_is_drawn_with_its_words(overview, read):
    boxes = overview.ask()
    texts = [note["text"] for note in boxes["ov-load-graph"]["figure"]["layout"]["annotations"]]
    assert "<b>Load line 142 req/s</b>  TTFT p95 reaches 800 ms here" in texts
    assert "18 % headroom crosses in 45 m" in read(boxes["ov-load-sub"]["children"])
    assert "mixtral-8x22b" in read(boxes["ov-bars"]["children"])
    assert boxes["ov-stamp"]["data"]["soon"] is False


def test_while_the_twin_computes_the_page_says_so_and_asks_again_soon(prometheus, over, page_of, read):
    ready = Event()
    page = page_of(over(prometheus, headroom=lambda slo, at_s: ready.wait(30) and ()))
    boxes = page.ask()
    ready.set()
    assert "The load line is being worked out." in read(boxes["ov-bars"]["children"])
    assert boxes["ov-stamp"]["data"]["soon"] is True


def test_a_twin_that_fails_says_why(prometheus, over, page_of, read):
    def fail(slo, at_s):
        raise TwinError("the twin failed: no mix")

    boxes = page_of(over(prometheus, headroom=fail)).ask()
    assert "No load line: the twin failed: no mix." in read(boxes["ov-bars"]["children"])


def test_a_source_that_dies_leaves_its_last_figures_stale(prometheus, over, read, fake_clock, page_of):
    source = over(prometheus, clock=fake_clock)
    page = page_of(source)
    fresh = page.ask()
    prometheus.dead = True
    fake_clock.now_s += 40
    boxes = page.ask()
    assert "The source does not answer." in read(boxes["ov-verdict"]["children"])
    assert read(boxes["ov-kv-note"]["children"]) == "stale 40 s"
    assert boxes["ov-stamp"]["data"]["error"]
    assert fresh["ov-kv-note"]["children"] is None
    assert len(boxes["ov-kv-graph"]["figure"]["data"]) == 3


def test_a_source_that_never_answered_is_told_with_what_to_do(prometheus, over, read, page_of):
    prometheus.dead = True
    boxes = page_of(over(prometheus)).ask()
    assert "loadline collector serve" in read(boxes["ov-verdict"]["children"])
    assert read(boxes["ov-load-note"]["children"]) == "the source does not answer"
    assert boxes["ov-load-graph"]["figure"]["data"] == []


def test_a_server_without_engines_is_told_apart_from_a_dead_one(made_fleet, over, read, page_of):
    boxes = page_of(over(made_fleet(pools=()))).ask()
    assert "No engine is measured yet." in read(boxes["ov-verdict"]["children"])


def test_a_server_without_a_list_of_alerts_says_so(made_fleet, over, read, page_of):
    boxes = page_of(over(made_fleet())).ask()
    assert "This source has no list of alerts" in read(boxes["ov-alerts"]["children"])


def test_an_empty_list_with_a_warning_is_no_all_clear(prometheus, over, page_of, read):
    prometheus.alerts, prometheus.warnings = [], ["alerts at http://a cannot be reached"]
    box = page_of(over(prometheus)).ask()["ov-alerts"]["children"]
    assert "alerts at http://a cannot be reached" in read(box)
    prometheus.warnings = []
    assert read(page_of(over(prometheus)).ask()["ov-alerts"]["children"]) == "No alert is firing or pending."


def test_a_target_that_is_down_leads_the_verdict(made_fleet, over, read, page_of):
    boxes = page_of(over(made_fleet(down=("qwen-32b-1:8000",)))).ask()
    assert "1 of 16 targets is down." in read(boxes["ov-verdict"]["children"])
    assert "qwen-32b-1:8000 went down" in read(boxes["ov-changes"]["children"])


def test_one_calm_replica_is_all_green_and_has_no_n2_line(calm, over, page_of, read):
    """With the planner itself, in this process."""
    source = over(calm, headroom=None)
    page = page_of(source)
    page.ask()
    source.kept("headroom", lambda: None, 30.0, 60.0)
    boxes = page.ask()
    assert "All SLOs met." in read(boxes["ov-verdict"]["children"])
    assert "N+2 (two replicas gone) needs at least 3 replicas." in read(boxes["ov-bars"]["children"])
    assert "Load line" in str(boxes["ov-load-graph"]["figure"]["layout"]["annotations"])


def test_a_vllm_fleet_is_drawn_with_the_same_panels(made_fleet, over, read, page_of):
    boxes = page_of(over(made_fleet(engine="vllm"))).ask()
    assert "llama-70b is breaching TTFT p95." in read(boxes["ov-verdict"]["children"])
    assert "vllm:kv_cache_usage_perc" in read_queries(boxes["ov-kv-queries"])[0]


def test_a_fixed_range_is_judged_at_its_end(overview, read):
    boxes = overview.ask("?from=1795206600&to=1795208400")
    assert "breaching" not in read(boxes["ov-verdict"]["children"])
    assert boxes["ov-kv-graph"]["figure"]["data"][0]["dx"] == 10_000


LINES = (
    PoolHeadroom("llama-70b", 8, 116.0, load_line_req_per_s=142.0, headroom_ratio=1 - 116 / 142, bound_by="TTFT p95"),
)


def test_a_load_line_of_before_the_pause_tells_its_age_and_one_too_old_is_not_shown(
    prometheus, over, page_of, read, fake_clock
):
    ready = Event()
    ready.set()

    def compute(slo, at_s):
        ready.wait(30)
        return LINES

    page = page_of(over(prometheus, headroom=compute, clock=fake_clock))
    assert "old" not in read(page.ask()["ov-bars"]["children"])
    ready.clear()
    fake_clock.now_s += 120
    boxes = page.ask()
    assert "line 2 m old" in read(boxes["ov-load-sub"]["children"])
    assert boxes["ov-stamp"]["data"]["soon"] is True
    fake_clock.now_s += 600
    assert "The load line is being worked out." in read(page.ask()["ov-bars"]["children"])
    ready.set()


def test_a_flap_shorter_than_a_step_is_a_change_all_the_same(made_fleet, over, page_of, read):
    server = made_fleet()
    group = next(one for one in server.fleet.groups if dict(one.labels[0])["instance"] == "qwen-32b-1:8000")
    up = [dict(labels)["__name__"] for labels in group.labels].index("up")
    group.values[-200:-198, up] = 0  # ten seconds, while a step of this range is ten minutes
    changes = read(page_of(over(server)).ask("?range=24h")["ov-changes"]["children"])
    assert "qwen-32b-1:8000 went down" in changes
    assert "qwen-32b-1:8000 came back" in changes


def test_an_engine_that_restarts_is_a_change(made_fleet, over, page_of, read):
    server = made_fleet()
    group = next(one for one in server.fleet.groups if dict(one.labels[0])["instance"] == "qwen-32b-1:8000")
    started = [dict(labels)["__name__"] for labels in group.labels].index("process_start_time_seconds")
    group.values[-200:, started] += 300_000
    assert "qwen-32b-1:8000 restarted" in read(page_of(over(server)).ask()["ov-changes"]["children"])


def test_an_engine_that_does_not_tell_its_start_restarts_where_its_counters_fall(made_fleet, over, page_of, read):
    server = made_fleet()
    group = next(one for one in server.fleet.groups if dict(one.labels[0])["instance"] == "qwen-32b-1:8000")
    names = [dict(labels)["__name__"] for labels in group.labels]
    tokens = names.index("loadline_generation_tokens_total")
    group.values[-200:, tokens] -= group.values[-200, tokens]
    for one in server.fleet.groups:
        one.values[:, [dict(labels)["__name__"] for labels in one.labels].index("process_start_time_seconds")] = (
            STALE_NAN
        )
    changes = read(page_of(over(server)).ask()["ov-changes"]["children"])
    assert "qwen-32b-1:8000 restarted (its counters began anew)" in changes
    assert changes.count("restarted") == 1
