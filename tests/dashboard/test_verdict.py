from dataclasses import replace

import numpy as np

from collector.client import Target
from dashboard import verdict
from dashboard.figures.chart import Mark
from dashboard.judge import Promise
from dashboard.verdict import Facts
from planner.room.headroom import PoolHeadroom

NOW_S = 10_000.0
GOOD = Promise("ttft", "TTFT p95", 0.8, False, "ok", "a", 0.2, (0.2,))
BAD = replace(GOOD, state="breach", value=1.2, broken_s=510.0)
ROOMY = PoolHeadroom(
    "a", 4, 100.0, load_line_req_per_s=160.0, n2_line_req_per_s=120.0, headroom_ratio=0.375, bound_by="KV cache"
)
UP = Target("http://a/metrics", (), "up", "", NOW_S, 0.01)
DOWN = replace(UP, url="http://b/metrics", health="down", last_error="connection refused")


def judged(promises=(GOOD,), headroom=(ROOMY,), targets=(UP,), alerts=(), changes=(), newest_s=NOW_S - 4, **more):
    return verdict.judge(Facts(promises, headroom, targets, alerts, changes, newest_s, NOW_S, **more))


def words(found):
    return found.lead + found.rest, "".join(text for text, _ in found.detail)


def test_when_all_is_well_the_tightest_pool_is_named():
    found = judged()
    assert found.state == "ok"
    assert words(found)[0] == "All SLOs met. Tightest: a, 38 % headroom, bound by KV cache."


def test_a_breach_tells_value_limit_duration_and_how_far_the_line_is():
    found = judged([BAD])
    assert found.state == "breach"
    assert words(found) == (
        "a is breaching TTFT p95. 1.20 s against 800 ms for 8 m 30 s.",
        "Load is 100 of 160 req/s, 38 % headroom, below the N+2 line. ",
    )


def test_a_breach_names_the_change_just_before_it():
    deploy = Mark(NOW_S - 580, "deploy", "deploy v2 to a")
    old = Mark(NOW_S - 5000, "deploy", "deploy v1 to a")
    assert words(judged([BAD], changes=(deploy, old)))[1].endswith("Began 1 m 10 s after: deploy v2 to a.")


def test_goodput_only_sums_up_and_never_leads():
    goodput = Promise("goodput", "Goodput", 0.95, True, "breach", "a", 0.1, (0.1,))
    assert judged([goodput, BAD]).lead == "a is breaching TTFT p95."


def test_a_target_that_is_down_comes_before_a_breach():
    found = judged([BAD], targets=(UP, DOWN))
    assert found.lead == "1 of 2 targets is down."
    assert "http://b/metrics: connection refused" in words(found)[1]
    assert "breaching TTFT p95" in words(found)[1]


def test_old_measurements_come_before_everything_that_they_say():
    assert judged([BAD], newest_s=NOW_S - 600).lead == "Measurements have stopped."


def test_a_silent_source_comes_first():
    found = judged(silence="http://s: cannot be reached", newest_s=NOW_S - 40)
    assert words(found) == ("The source does not answer. What is shown is 40 s old.", "http://s: cannot be reached.")


def test_beyond_the_load_line_is_a_breach():
    over = replace(ROOMY, load_req_per_s=170.0, headroom_ratio=-0.06)
    found = judged(headroom=(over,))
    assert (found.state, found.lead) == ("breach", "a is beyond its load line.")


def test_load_above_the_n2_line_is_at_risk():
    found = judged(headroom=(replace(ROOMY, load_req_per_s=130.0, headroom_ratio=0.19),))
    assert (found.state, found.lead) == ("warn", "a cannot lose two replicas.")


def test_n2_has_no_meaning_below_three_replicas():
    one = replace(ROOMY, replicas=1, n2_line_req_per_s=None)
    assert "N+2 has no meaning with 1 replica" in words(judged(headroom=(one,)))[1]


def test_a_pool_without_a_line_says_why():
    bare = PoolHeadroom("a", 1, 2.0, reason="not enough telemetry yet")
    assert "no load line: not enough telemetry yet" in words(judged([BAD], headroom=(bare,)))[1]


def test_the_forecast_is_told_when_it_crosses():
    soon = replace(ROOMY, crosses_at_s=NOW_S + 1080)
    assert "Forecast crosses the load line in 18 m. " in words(judged(headroom=(soon,)))[1]


def test_a_critical_alert_leads_where_no_slo_is_broken():
    alert = {
        "labels": {"alertname": "Hot", "severity": "critical"},
        "annotations": {"summary": "Too hot."},
        "state": "firing",
    }
    found = judged(alerts=(alert,))
    assert (found.state, found.lead + found.rest) == ("breach", "Hot is firing. Too hot.")


def test_no_requests_is_idle_and_not_well():
    idle = replace(GOOD, value=None, values=(), state="none", why="idle: no requests in this time")
    found = judged([idle], headroom=())
    assert (found.state, found.lead) == ("none", "Idle: no requests to judge.")
    assert words(found)[1] == "1 of 1 targets up; idle: no requests in this time."


def test_without_engine_or_source_the_verdict_says_what_to_do():
    assert "loadline collector serve" in words(verdict.no_source("http://s", "refused"))[1]
    assert "--scrape" in words(verdict.no_engine("http://s"))[1]


def test_the_hero_draws_line_n2_line_and_forecast():
    from dashboard.figures.chart import Clock
    from dashboard.figures.load_line import load_line
    from dashboard.view import Window
    from planner.room.headroom import Forecast
    from planner.slo import Slo

    times = NOW_S + 60.0 * np.arange(1, 30)
    ahead = Forecast(times, np.linspace(100, 170, 29), np.linspace(95, 160, 29), np.linspace(105, 180, 29), 0.8, 0.8, 5)
    pool = replace(ROOMY, bound_by="TTFT p95", forecast=ahead, crosses_at_s=float(times[24]))
    figure = load_line([90.0] * 241, pool, Clock(Window(6400, 10_000, 15)), Slo(), height=272)
    texts = [note["text"] for note in figure["layout"]["annotations"]]
    assert texts[:1] == ["now"]
    assert "<b>Load line 160 req/s</b>  TTFT p95 reaches 800 ms here" in texts
    assert "N+2 line 120 req/s" in texts
    assert [trace.get("name") for trace in figure["data"] if trace.get("name")] == ["load", "forecast"]
    assert figure["layout"]["yaxis"]["range"][1] > 180
    assert figure["layout"]["xaxis"]["range"][1] > 10_000_000
